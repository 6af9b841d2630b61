/** Paging outside long mode: two levels, with 4 MiB pages, and PAE. [SDM 3 §4.3, §4.4] */

import { mem } from "../../../src/isa/assembler.ts";
import { at, type CaseCode } from "../guest/case-code.ts";
import {
  ALIAS,
  PD0_PAE,
  PD1_PAE,
  PD_LEGACY,
  PDPT_PAE,
  PLAY,
  PT_LEGACY,
  PT_PAE,
  WINDOW,
  WINDOW_2M,
} from "../guest/layout.ts";
import { end32, type LegacyPaging, legacyMode, toUser32 } from "../guest/legacy-runtime.ts";
import type { SystemCase } from "../guest/runtime.ts";

type Mode = Exclude<LegacyPaging, "none">;
const MODES: readonly Mode[] = ["two-level", "pae"];
const P = 1n;
const W = 2n;
const U = 4n;
const A = 0x20n;
const D = 0x40n;
const PS = 0x80n;
const NX = 1n << 63n;
const SMALL = BigInt(PLAY);
/** The first page of WINDOW, its directory entry, and the large page of WINDOW_2M. In two levels WINDOW_2M is 4 MiB away. */
const WINDOW_4M = WINDOW + 0x40_0000;
const entries = (mode: Mode) =>
  mode === "pae"
    ? { page: PT_PAE, directory: PD1_PAE + 256 * 8, large: PD1_PAE + 257 * 8, largeAt: WINDOW_2M }
    : { page: PT_LEGACY, directory: PD_LEGACY + 384 * 4, large: PD_LEGACY + 385 * 4, largeAt: WINDOW_4M };

/** Sets an entry of either size. */
function put(c: CaseCode, mode: Mode, address: number, value: bigint): CaseCode {
  if (mode === "pae") return c.poke(address, value);
  return c.mov(at(address, 32), BigInt.asIntN(32, value));
}
interface Options {
  readonly ring?: 0 | 3;
  readonly cr4?: number;
  readonly nxe?: boolean;
  readonly wp?: boolean;
}
function paged(
  mode: Mode,
  name: string,
  prepare: (c: CaseCode) => unknown,
  body: (c: CaseCode) => unknown,
  { ring = 0, ...options }: Options = {},
): SystemCase {
  return {
    name: `${mode}: ${name}${ring === 3 ? ", ring 3" : ""}`,
    spec: mode === "pae" ? "SDM 3 §4.4" : "SDM 3 §4.3",
    code(c) {
      legacyMode(c, { paging: mode, ...options }).onFault32(".after");
      prepare(c);
      if (ring === 3) toUser32(c, ".user", { alias: ALIAS }).label(".user").ring(3);
      body(c);
      c.mark("past");
      if (ring === 3) c.emit("UD2").ring(0);
      const { page, directory, large } = entries(mode);
      c.label(".after")
        .logMemory("page", at(page, 32))
        .logMemory("dir", at(directory, 32))
        .logMemory("large", at(large, 32));
      end32(c);
    },
  };
}
const read = (c: CaseCode, address: number) => c.mov("eax", mem({ disp: address, bits: 32 })).log("eax", "eax");
const write = (c: CaseCode, address: number) => c.mov(mem({ disp: address, bits: 32 }), "ecx");
const run = (c: CaseCode, address: number) => c.mov("eax", address).emit("JMP", "eax");
const flush = (c: CaseCode) => c.mov("eax", "cr3").mov("cr3", "eax");

const BOTH: SystemCase[] = MODES.flatMap((mode) => {
  const { page, directory, large, largeAt } = entries(mode);
  const set =
    (value: bigint, where = page) =>
    (c: CaseCode) =>
      put(c, mode, where, value);
  return [
    paged(
      mode,
      "a read",
      () => {},
      (c) => read(c, WINDOW),
    ),
    paged(
      mode,
      "a write",
      () => {},
      (c) => write(c, WINDOW),
    ),
    paged(
      mode,
      "a read",
      () => {},
      (c) => read(c, WINDOW),
      { ring: 3 },
    ),
    paged(
      mode,
      "a write",
      () => {},
      (c) => write(c, WINDOW),
      { ring: 3 },
    ),
    paged(
      mode,
      "a large page",
      () => {},
      (c) => write(c, largeAt + 0x2000),
    ),
    paged(mode, "not present, read", set(0n), (c) => read(c, WINDOW)),
    paged(mode, "not present, written", set(0n), (c) => write(c, WINDOW)),
    paged(mode, "not present, run", set(0n), (c) => run(c, WINDOW)),
    paged(mode, "not present, read", set(0n), (c) => read(c, WINDOW), { ring: 3 }),
    paged(mode, "a directory entry not present", set(0n, directory), (c) => read(c, WINDOW)),
    paged(mode, "supervisor's, read", set(SMALL | P | W), (c) => read(c, WINDOW), { ring: 3 }),
    paged(mode, "supervisor's, run", set(SMALL | P | W), (c) => run(c, WINDOW), { ring: 3 }),
    paged(
      mode,
      "supervisor's directory",
      (c) => put(c, mode, directory, BigInt(mode === "pae" ? PT_PAE : PT_LEGACY) | P | W),
      (c) => read(c, WINDOW),
      { ring: 3 },
    ),
    paged(mode, "read-only, written", set(SMALL | P | U), (c) => write(c, WINDOW), { ring: 3 }),
    paged(mode, "read-only, written under WP", set(SMALL | P | U), (c) => write(c, WINDOW)),
    paged(mode, "read-only, written without WP", set(SMALL | P | U), (c) => write(c, WINDOW), { wp: false }),
    paged(mode, "read-only large page, written", set(SMALL | P | U | PS, large), (c) => write(c, largeAt), { ring: 3 }),
    paged(mode, "A is set by a read, D by a write", set(SMALL | P | W | U), (c) => {
      read(c, WINDOW).logMemory("after", at(page, 32));
      write(c, WINDOW);
    }),
    paged(mode, "A and D that are set stay", set(SMALL | P | W | U | A | D), (c) => write(c, WINDOW)),
    paged(mode, "a large page with reserved bits", set(SMALL | P | W | U | PS | 0x2000n, large), (c) =>
      read(c, largeAt),
    ),
    paged(
      mode,
      "a change is seen after INVLPG",
      () => {},
      (c) => {
        read(c, WINDOW);
        put(c, mode, page, (SMALL + 0x1000n) | P | W | U);
        read(c.emit("INVLPG", mem({ disp: WINDOW })), WINDOW);
      },
    ),
    paged(
      mode,
      "a change is seen after MOV CR3",
      () => {},
      (c) => {
        read(c, WINDOW);
        put(c, mode, page, (SMALL + 0x1000n) | P | W | U);
        read(flush(c), WINDOW);
      },
    ),
    paged(
      mode,
      "a push that faults",
      (c) => put(c, mode, page, 0n),
      (c) => c.mov("esp", WINDOW + 4).emit("PUSH", "eax"),
      { ring: 3 },
    ),
    paged(
      mode,
      "SMEP: ring 0 runs the user's page",
      () => {},
      (c) => run(c, WINDOW),
      {
        cr4: 0x10_0600 | (mode === "pae" ? 0x20 : 0x10),
      },
    ),
    paged(
      mode,
      "SMAP: ring 0 reads the user's page",
      () => {},
      (c) => read(c, WINDOW),
      {
        cr4: 0x20_0600 | (mode === "pae" ? 0x20 : 0x10),
      },
    ),
  ];
});

const TWO_LEVEL: SystemCase[] = [
  paged(
    "two-level",
    "NXE changes nothing",
    () => {},
    (c) => run(c.mov(at(PLAY, 16), 0x0b0f), WINDOW),
  ),
];

const pointer = (i: number) => PDPT_PAE + i * 8;
const PAE_ONLY: SystemCase[] = [
  paged(
    "pae",
    "NX, run",
    (c) => put(c, "pae", PT_PAE, SMALL | P | W | U | NX),
    (c) => run(c, WINDOW),
  ),
  paged(
    "pae",
    "NX, read",
    (c) => put(c, "pae", PT_PAE, SMALL | P | W | U | NX),
    (c) => read(c, WINDOW),
  ),
  paged(
    "pae",
    "NX without NXE is reserved",
    (c) => put(c, "pae", PT_PAE, SMALL | P | W | U | NX),
    (c) => read(c, WINDOW),
    { nxe: false },
  ),
  paged(
    "pae",
    "bit 52 is reserved",
    (c) => put(c, "pae", PT_PAE, SMALL | P | W | U | (1n << 52n)),
    (c) => read(c, WINDOW),
  ),
  paged(
    "pae",
    "a pointer that is not present",
    () => {},
    (c) => read(c, 0x8000_0000 | 0),
  ),
  paged(
    "pae",
    "a pointer is used as it was loaded with CR3",
    (c) => flush(c.poke(pointer(2), BigInt(PD0_PAE) | P)),
    (c) => {
      c.poke(pointer(2), 0n);
      read(c, (0x8000_0000 + PLAY) | 0);
      read(flush(c), (0x8000_0000 + PLAY) | 0);
    },
  ),
  ...[1n, 2n, 5n, 6n, 7n, 8n, 40n, 62n, 63n].map((bit) =>
    paged(
      "pae",
      `MOV CR3 with bit ${bit} in a pointer`,
      (c) => c.poke(pointer(3), BigInt(PD0_PAE) | P | (1n << bit)),
      flush,
    ),
  ),
  paged("pae", "MOV CR3 with reserved bits in a pointer that is not present", (c) => c.poke(pointer(3), 0x1e6n), flush),
  paged(
    "pae",
    "MOV CR4 loads pointers",
    (c) => c.poke(pointer(3), BigInt(PD0_PAE) | P | 2n),
    (c) => c.mov("eax", "cr4").emit("XOR", "eax", 0x80).mov("cr4", "eax"),
  ),
  paged(
    "pae",
    "CR3's low bits are no part of the address",
    (c) => c.mov("eax", PDPT_PAE | 0x18).mov("cr3", "eax"),
    (c) => read(c, WINDOW),
  ),
];

export const LEGACY_PAGING: readonly SystemCase[] = [...BOTH, ...TWO_LEVEL, ...PAE_ONLY];
