/** Four-level paging: rights, error codes, accessed and dirty bits, invalidation, page crossings. [SDM 3 §4.5-4.10] */

import { at, by, type CaseCode } from "../guest/case-code.ts";
import {
  ALIAS,
  CR0_BASE,
  CR4_BASE,
  EFER_BASE,
  LDT,
  PAGE,
  PD_B,
  PDE_2M,
  PDE_TEST,
  PDPT,
  PDPT_B,
  PLAY,
  PML4,
  PT_B,
  pte,
  STACK,
  VARIABLE,
  WINDOW,
  WINDOW_1G,
  WINDOW_2M,
  WINDOW_B,
} from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

const { P, W, U, A, D, PS, G, NX } = PAGE;
const WP = 1 << 16;
const PGE = 1 << 7;
const SMEP = 1 << 20;
const SMAP = 1 << 21;
const AC = 1 << 18;
const EFER = 0xc000_0080;
const RET = 0xc3;
const ALL = P | W | U;

type Access = "read" | "write" | "fetch";

/** One access by RBX; a fetch calls what lies there. */
function access(c: CaseCode, kind: Access): CaseCode {
  if (kind === "read") return c.mov("ecx", by("rbx", 32));
  if (kind === "write") return c.mov(by("rbx", 32), "ecx");
  return c.emit("CALL", "rbx");
}

interface Setting {
  readonly name: string;
  readonly wp?: boolean;
  readonly nxe?: boolean;
  readonly cr4?: number;
  readonly ac?: boolean;
}

/** Control registers as a setting has them. RAX, RCX and RDX change. */
function set(c: CaseCode, { wp = true, nxe = true, cr4 = 0, ac = false }: Setting): CaseCode {
  c.mov("ecx", EFER)
    .mov("eax", (EFER_BASE & ~0x800) | (nxe ? 0xc00 : 0x400))
    .mov("edx", 0)
    .emit("WRMSR");
  c.mov("eax", CR4_BASE | cr4).mov("cr4", "rax");
  c.mov("rax", wp ? CR0_BASE : CR0_BASE - WP).mov("cr0", "rax");
  if (ac) c.emit("STAC");
  return c;
}

/** The page of WINDOW by each combination of W, U and NX. */
function rights(setting: Setting, ring: 0 | 3, kind: Access): SystemCase {
  return {
    name: `rights: ${kind} in ring ${ring}, ${setting.name}`,
    spec: "SDM 3 §4.6, §4.7",
    code(c) {
      c.mov(at(PLAY, 8), RET).terse();
      set(c, { ...setting, ac: false });
      for (const bits of [0n, W, U, W | U, NX, NX | W, NX | U, NX | W | U]) {
        if ((bits & NX) !== 0n && setting.nxe === false) continue;
        c.poke(pte(0), BigInt(PLAY) | P | bits)
          .mov("rbx", WINDOW)
          .emit("INVLPG", by("rbx"));
        c.attempt(() => {
          if (ring === 3) c.toUser(`.user${bits}`).ring(3).label(`.user${bits}`);
          if (setting.ac === true && ring === 0) c.emit("STAC");
          access(c, kind);
        });
        c.logMemory("pte", at(pte(0)));
      }
    },
  };
}
const SETTINGS: readonly Setting[] = [
  { name: "WP" },
  { name: "no WP", wp: false },
  { name: "no NXE", nxe: false },
  { name: "SMEP", cr4: SMEP },
  { name: "SMEP and no NXE", cr4: SMEP, nxe: false },
  { name: "SMAP", cr4: SMAP },
  { name: "SMAP and AC", cr4: SMAP, ac: true },
  { name: "SMAP and no WP", cr4: SMAP, wp: false },
  { name: "SMAP, AC and no WP", cr4: SMAP, ac: true, wp: false },
  { name: "SMEP and SMAP", cr4: SMEP | SMAP },
];
const KINDS = ["read", "write", "fetch"] as const;
const RIGHTS: SystemCase[] = [
  ...SETTINGS.flatMap((setting) => KINDS.map((kind) => rights(setting, 0, kind))),
  ...SETTINGS.slice(0, 6).flatMap((setting) => KINDS.map((kind) => rights(setting, 3, kind))),
];

/** The four entries that lead to WINDOW_B, from the top. */
const LEVELS: readonly (readonly [string, number, bigint])[] = [
  ["PML4E", PML4 + 8, BigInt(PDPT_B)],
  ["PDPTE", PDPT_B, BigInt(PD_B)],
  ["PDE", PD_B, BigInt(PT_B)],
  ["PTE", PT_B, BigInt(PLAY)],
];
function logLevels(c: CaseCode): CaseCode {
  for (const [name, address] of LEVELS) c.logMemory(name.toLowerCase(), at(address));
  return c;
}

/** One level's entry lacks or has something; reading, writing and fetching in both rings. */
function level(name: string, entry: (target: bigint) => bigint, only?: readonly string[]): SystemCase[] {
  return LEVELS.filter(([at]) => only?.includes(at) ?? true).map(([levelName, address, target]) => ({
    name: `${levelName} ${name}`,
    spec: "SDM 3 §4.5, §4.7",
    code(c) {
      c.mov(at(PLAY, 8), RET).terse();
      for (const ring of [0, 3] as const) {
        for (const kind of KINDS) {
          // Each begins with clean accessed bits.
          for (const [, other, to] of LEVELS) c.poke(other, to | ALL);
          c.poke(address, entry(target)).mov("rax", "cr3").mov("cr3", "rax");
          c.attempt(() => {
            c.mov("rbx", WINDOW_B);
            if (ring === 3) c.toUser(`.${kind}`).ring(3).label(`.${kind}`).mov("rbx", WINDOW_B);
            access(c, kind);
          });
          c.logMemory("entry", at(address));
        }
      }
    },
  }));
}
const LEVEL_CASES: SystemCase[] = [
  ...level("not present", () => 0n),
  ...level("not present, all other bits set", (to) => (to | 0xfff_0000_0000_0ffen | NX) & ~P),
  ...level("read-only", (to) => to | P | U),
  ...level("for ring 0", (to) => to | P | W),
  ...level("without execution", (to) => to | ALL | NX),
  ...level("read-only, for ring 0, without execution", (to) => to | P | NX),
  ...level("with address bit 40", (to) => to | ALL | (1n << 40n)),
  ...level("with address bit 51", (to) => to | ALL | (1n << 51n)),
  ...level("with bits that software may use", (to) => to | ALL | (0x7ffn << 52n) | 0xe00n),
  ...level("with PWT and PCD", (to) => to | ALL | 0x18n),
  ...level("with bit 6", (to) => to | ALL | D),
  ...level("with bit 7", (to) => to | ALL | PS, ["PML4E", "PTE"]),
  ...level("with bit 8", (to) => to | ALL | G),
  ...level("of 1 GiB", () => ALL | PS, ["PDPTE"]),
  ...level("of 1 GiB with bit 12", () => ALL | PS | (1n << 12n), ["PDPTE"]),
  ...level("of 1 GiB with bit 13", () => ALL | PS | (1n << 13n), ["PDPTE"]),
  ...level("of 1 GiB with bit 29", () => ALL | PS | (1n << 29n), ["PDPTE"]),
  ...level("of 2 MiB", () => BigInt(PLAY) | ALL | PS, ["PDE"]),
  ...level("of 2 MiB with bit 12", () => BigInt(PLAY) | ALL | PS | (1n << 12n), ["PDE"]),
  ...level("of 2 MiB with bit 13", () => BigInt(PLAY) | ALL | PS | (1n << 13n), ["PDE"]),
  ...level("of 2 MiB with bit 20", () => BigInt(PLAY) | ALL | PS | (1n << 20n), ["PDE"]),
  ...level("of 2 MiB, read-only", () => BigInt(PLAY) | P | U | PS, ["PDE"]),
  ...level("of 2 MiB, dirty already", () => BigInt(PLAY) | ALL | PS | D | A, ["PDE"]),
];
const NO_NXE: SystemCase[] = LEVELS.map(([name, address, target]) => ({
  name: `${name} with bit 63 and no NXE`,
  spec: "SDM 3 §4.5, table 4-20",
  code(c) {
    c.terse();
    set(c, { name: "", nxe: false });
    c.poke(address, target | ALL | NX)
      .mov("rbx", WINDOW_B)
      .mov("eax", by("rbx", 32));
  },
}));

/** What an access leaves in the four entries. */
function marks(name: string, steps: (c: CaseCode) => void): SystemCase {
  return {
    name: `A and D: ${name}`,
    spec: "SDM 3 §4.8",
    code(c) {
      c.terse().mov("rbx", WINDOW_B).mov(at(PLAY, 8), RET);
      steps(c);
      logLevels(c);
    },
  };
}
const MARKS: SystemCase[] = [
  marks("nothing", () => {}),
  marks("a read", (c) => c.mov("eax", by("rbx", 32))),
  marks("a write", (c) => c.mov(by("rbx", 32), "eax")),
  marks("a fetch", (c) => c.emit("CALL", "rbx")),
  marks("a read, then a write", (c) => c.mov("eax", by("rbx", 32)).mov(by("rbx", 32), "eax")),
  marks("an addition to memory", (c) => c.emit("ADD", by("rbx", 32), 1)),
  marks("a CMPXCHG that fails", (c) => c.mov("eax", 1).lock().emit("CMPXCHG", by("rbx", 32), "ecx")),
  marks("BT of memory", (c) => c.emit("BT", by("rbx", 32), 3)),
  marks("a write to a read-only page", (c) => {
    c.poke(PT_B, BigInt(PLAY) | P | U).attempt(() => c.mov(by("rbx", 32), "eax"));
  }),
  marks("a read, D taken away, a write", (c) => {
    c.mov(by("rbx", 32), "eax").emit("AND", at(PT_B, 8), ~0x60).emit("INVLPG", by("rbx")).mov(by("rbx", 32), "eax");
  }),
  marks("a write, A taken away, CR3, a read", (c) => {
    c.mov(by("rbx", 32), "eax").emit("AND", at(PT_B, 8), ~0x60).mov("rax", "cr3").mov("cr3", "rax");
    c.mov("eax", by("rbx", 32));
  }),
  marks("PREFETCH of what is not there", (c) => c.poke(PT_B, 0n).db(0x0f, 0x18, 0x0b)),
  marks("REP MOVS of nothing", (c) => {
    c.mov("rsi", "rbx").mov("rdi", "rbx").rep().emit("MOVSB");
  }),
  marks("STOS over two pages", (c) => {
    c.mov("rdi", WINDOW_B + 0xff8n)
      .mov("ecx", 2)
      .rep()
      .emit("STOS", { size: 64 })
      .logMemory("pte1", at(PT_B + 8));
  }),
  marks("INVLPG", (c) => c.emit("INVLPG", by("rbx"))),
  marks("LEA", (c) => c.emit("LEA", "rax", by("rbx"))),
  marks("a 1 GiB page read, then written", (c) => {
    c.mov("rbx", WINDOW_1G + BigInt(PLAY))
      .mov("eax", by("rbx", 32))
      .logMemory("read", at(PDPT + 32));
    c.mov(by("rbx", 32), "eax").logMemory("written", at(PDPT + 32));
  }),
];

/** A read of WINDOW after its entry was changed in some way must see page 1 in place of page 0. */
function change(name: string, steps: (c: CaseCode) => void): SystemCase {
  return {
    name: `invalidation: ${name}`,
    spec: "SDM 3 §4.10.4",
    code(c) {
      c.terse().mov("rbx", WINDOW);
      steps(c);
      c.mov("rax", by("rbx")).log("read", "rax");
    },
  };
}
const PAGE1 = BigInt(PLAY + 0x1000) | ALL;
const warm = (c: CaseCode): CaseCode => c.mov("rbx", WINDOW).mov("rax", by("rbx")).mov(by("rbx"), "rax");
const reload = (c: CaseCode): CaseCode => c.mov("rax", "cr3").mov("cr3", "rax");
const CHANGES: SystemCase[] = [
  change("INVLPG", (c) => warm(c).poke(pte(0), PAGE1).emit("INVLPG", by("rbx"))),
  change("INVLPG of another address in the page", (c) => {
    warm(c)
      .poke(pte(0), PAGE1)
      .emit("INVLPG", by("rbx", 64, 0xabc));
  }),
  change("CR3 is loaded", (c) => reload(warm(c).poke(pte(0), PAGE1))),
  change("CR3 is loaded with PGE, the page not global", (c) => {
    c.mov("eax", CR4_BASE | PGE).mov("cr4", "rax");
    reload(warm(c).poke(pte(0), PAGE1));
  }),
  change("INVLPG of a global page", (c) => {
    c.mov("eax", CR4_BASE | PGE)
      .mov("cr4", "rax")
      .poke(pte(0), BigInt(PLAY) | ALL | G);
    reload(c);
    warm(c)
      .poke(pte(0), PAGE1 | G)
      .emit("INVLPG", by("rbx"));
  }),
  change("PGE is cleared under a global page", (c) => {
    c.mov("eax", CR4_BASE | PGE)
      .mov("cr4", "rax")
      .poke(pte(0), BigInt(PLAY) | ALL | G);
    reload(c);
    warm(c)
      .poke(pte(0), PAGE1 | G)
      .mov("eax", CR4_BASE)
      .mov("cr4", "rax");
  }),
  change("paging stays on while CR0.WP changes", (c) => {
    c.attempt(() =>
      c
        .poke(pte(0), BigInt(PLAY) | P)
        .mov("rbx", WINDOW)
        .mov("rax", by("rbx"))
        .mov(by("rbx"), "rax"),
    );
    c.mov("rax", CR0_BASE - WP)
      .mov("cr0", "rax")
      .mov("rbx", WINDOW)
      .mov(by("rbx"), "rbx");
    c.attempt(() => c.mov("rax", CR0_BASE).mov("cr0", "rax").mov("rbx", WINDOW).mov(by("rbx"), "rbx"));
    c.mov("rbx", WINDOW);
  }),
  change("a page that was not there needs none", (c) => {
    c.poke(pte(0), 0n).emit("INVLPG", by("rbx"));
    c.attempt(() => c.mov("rbx", WINDOW).mov("rax", by("rbx")));
    c.poke(pte(0), PAGE1).mov("rbx", WINDOW);
  }),
  change("INVLPG after the directory's entry changed", (c) => {
    warm(c).poke(PDE_TEST, BigInt(PLAY + 0x1000) | ALL | PS);
    c.poke(PDE_TEST, 0n)
      .emit("INVLPG", by("rbx"))
      .attempt(() => c.mov("rax", by("rbx")));
    c.poke(PDE_TEST, BigInt(PLAY) | ALL | PS).mov("rbx", WINDOW + 0x1000);
  }),
  change("INVLPG of a 2 MiB page by one address", (c) => {
    c.mov("rbx", WINDOW_2M)
      .mov("rax", by("rbx"))
      .mov("rax", by("rbx", 64, 0x5000))
      .poke(PDE_2M, ALL | PS);
    c.emit("INVLPG", by("rbx", 64, 0x1_2345));
    c.mov("rbx", WINDOW_2M + 0x10_0000)
      .mov("ecx", by("rbx", 32))
      .mov("edx", at(0x10_0000, 32))
      .emit("SUB", "ecx", "edx");
    c.log("equal", "rcx").mov("rbx", WINDOW);
  }),
  change("INVLPG of a 1 GiB page by one address", (c) => {
    c.mov("rbx", WINDOW_1G + BigInt(PLAY))
      .mov("rax", by("rbx"))
      .poke(PDPT + 32, 0n)
      .emit("INVLPG", by("rbx", 64, 64));
    c.attempt(() => c.mov("rax", by("rbx"))).mov("rbx", WINDOW);
  }),
  change("rights taken away, then INVLPG", (c) => {
    warm(c)
      .poke(pte(0), PAGE1 & ~W)
      .emit("INVLPG", by("rbx"));
    c.attempt(() => c.mov(by("rbx"), "rax")).mov("rbx", WINDOW);
  }),
  change("an entry changed through another mapping of its table", (c) => {
    warm(c)
      .poke(pte(1), BigInt(pte(0) & ~0xfff) | ALL)
      .mov("rdi", WINDOW + 0x1000)
      .mov("rax", PAGE1);
    c.mov(by("rdi", 64, pte(0) & 0xfff), "rax").emit("INVLPG", by("rbx"));
  }),
  change("another CR3", (c) => {
    // A second PML4, in PLAY's page 4, whose tables differ in WINDOW alone.
    warm(c)
      .mov("esi", PML4)
      .mov("edi", PLAY + 0x4000)
      .mov("ecx", 512)
      .rep()
      .emit("MOVS", { size: 64 })
      .mov("esi", PDPT)
      .mov("edi", PLAY + 0x5000)
      .mov("ecx", 512)
      .rep()
      .emit("MOVS", { size: 64 })
      .poke(PLAY + 0x4000, BigInt(PLAY + 0x5000) | ALL);
    c.poke(PLAY + 0x5008, BigInt(PLAY + 0x6000) | ALL)
      .mov("esi", PDE_TEST & ~0xfff)
      .mov("edi", PLAY + 0x6000);
    c.mov("ecx", 512)
      .rep()
      .emit("MOVS", { size: 64 })
      .poke(PLAY + 0x6000 + 256 * 8, BigInt(PLAY) | ALL | PS);
    c.mov("eax", PLAY + 0x4000)
      .mov("cr3", "rax")
      .mov("rcx", by("rbx", 64, 0x1000))
      .log("other", "rcx");
    c.mov("eax", PML4).mov("cr3", "rax");
  }),
];

/** Accesses over the end of page 0 of WINDOW. */
function crossing(name: string, second: bigint, steps: (c: CaseCode) => void): SystemCase {
  return {
    name: `crossing: ${name}`,
    spec: "SDM 3 §4.7; §6.5, faults restart",
    code(c) {
      c.terse()
        .poke(pte(1), second)
        .mov("rbx", WINDOW + 0xffc)
        .mov("rax", 0x1122_3344_5566_7788n);
      c.logOnFault("rax", "rcx", "rsp", "rsi", "rdi");
      steps(c);
      c.logMemory("low", at(PLAY + 0xff8))
        .logMemory("high", at(PLAY + 0x1000))
        .logMemory("far", at(PLAY + 0x3000));
      c.logMemory("pte0", at(pte(0))).logMemory("pte1", at(pte(1)));
    },
  };
}
const FAR = BigInt(PLAY + 0x3000) | ALL;
const tryStep = (body: (c: CaseCode) => void) => (c: CaseCode) => {
  c.lea("r9", ".resumed").mov(at(VARIABLE.resume), "r9");
  body(c);
  c.mark("passed").label(".resumed");
};
const CROSSINGS: SystemCase[] = [
  crossing("a read of pages that are apart", FAR, (c) => c.mov("rdx", by("rbx")).log("read", "rdx")),
  crossing("a write to pages that are apart", FAR, (c) => c.mov(by("rbx"), "rax")),
  crossing("an addition to pages that are apart", FAR, (c) => c.emit("ADD", by("rbx"), "rax")),
  crossing("a locked exchange of pages that are apart", FAR, (c) => c.emit("XCHG", by("rbx"), "rax").log("old", "rax")),
  crossing(
    "a read, the second page missing",
    0n,
    tryStep((c) => c.mov("rax", by("rbx"))),
  ),
  crossing(
    "a write, the second page missing",
    0n,
    tryStep((c) => c.mov(by("rbx"), "rax")),
  ),
  crossing(
    "a write, the second page read-only",
    FAR & ~W,
    tryStep((c) => c.mov(by("rbx"), "rax")),
  ),
  crossing(
    "an addition, the second page read-only",
    FAR & ~W,
    tryStep((c) => c.emit("ADD", by("rbx"), "rax")),
  ),
  crossing(
    "a locked addition, the second page read-only",
    FAR & ~W,
    tryStep((c) => {
      c.lock().emit("ADD", by("rbx"), "rax");
    }),
  ),
  crossing(
    "CMPXCHG8B, the second page missing",
    0n,
    tryStep((c) => c.db(0x0f, 0xc7, 0x0b)),
  ),
  crossing(
    "MOVUPS, the second page missing",
    0n,
    tryStep((c) => c.db(0x0f, 0x11, 0x03)),
  ),
  crossing(
    "PUSH, the first page missing",
    FAR,
    tryStep((c) => {
      c.poke(pte(0), 0n)
        .emit("INVLPG", by("rbx"))
        .mov("r8", "rsp")
        .mov("rsp", WINDOW + 0x1000);
      c.poke(0x20_1000 + 14 * 16, gateWithIst());
      c.emit("PUSH", "rax").mov("rsp", "r8");
    }),
  ),
  crossing(
    "a fetch, the second page missing",
    0n,
    tryStep((c) => {
      c.mov(at(PLAY + 0xffe, 16), 0xb848)
        .emit("LEA", "rdx", by("rbx", 64, 2))
        .emit("JMP", "rdx");
    }),
  ),
  crossing(
    "a fetch, the second page without execution",
    FAR | NX,
    tryStep((c) => {
      c.mov(at(PLAY + 0xffe, 16), 0xb848)
        .emit("LEA", "rdx", by("rbx", 64, 2))
        .emit("JMP", "rdx");
    }),
  ),
  crossing("a fetch of pages that are apart", FAR, (c) => {
    // MOV RCX, imm64 begins in page 0; its number and RET follow in page 1.
    c.mov(at(PLAY + 0xffe, 16), -0x46b8)
      .mov("rcx", 0x0102_0304_0506_0708n)
      .mov(at(PLAY + 0x3000), "rcx");
    c.mov(at(PLAY + 0x3008, 8), RET)
      .emit("LEA", "rdx", by("rbx", 64, 2))
      .mov("ecx", 0)
      .emit("CALL", "rdx")
      .log("rcx", "rcx");
  }),
  crossing(
    "a fetch at the start of a missing page",
    0n,
    tryStep((c) => {
      c.mov(at(PLAY + 0xfff, 8), 0x90)
        .emit("LEA", "rdx", by("rbx", 64, 3))
        .emit("JMP", "rdx");
    }),
  ),
];

/** The page fault's gate with IST1, so that a bad stack is no double fault. */
function gateWithIst(): bigint {
  const offset = 0x10_1000n + 14n * 32n;
  return (offset & 0xffffn) | (8n << 16n) | (1n << 32n) | (0x8en << 40n) | ((offset >> 16n) << 48n);
}

const SUPERVISOR_ACCESS: SystemCase[] = [
  {
    name: "SMAP: a descriptor in a user page is not read, even with AC",
    spec: "SDM 3 §4.6.1, implicit supervisor-mode accesses",
    code(c) {
      c.poke(0x20_0050, descriptor({ base: ALIAS + LDT, limit: 0xfff, attributes: 0x82 })).poke(0x20_0058, 0n);
      c.poke(LDT + 8, descriptor({ limit: 0xfffff, attributes: 0xc0f3 }))
        .mov("eax", 0x50)
        .emit("LLDT", "ax");
      c.mov("eax", 0xc).mov("fs", "ax").mark("read");
      c.mov("eax", CR4_BASE | SMAP)
        .mov("cr4", "rax")
        .emit("STAC")
        .mov("eax", 0xc)
        .mov("fs", "ax");
    },
  },
  {
    name: "SMAP: a stack in a user page makes a double fault",
    spec: "SDM 3 §4.6.1; table 6-5",
    code(c) {
      const entry = 0x20_1000 + 8 * 16;
      c.mov(at(entry + 4, 8), 1)
        .mov("eax", CR4_BASE | SMAP)
        .mov("cr4", "rax");
      c.mov("rsp", ALIAS + STACK.user).emit("UD2");
    },
  },
  {
    name: "SMAP is not ring 3's",
    spec: "SDM 3 §4.6.1",
    code(c) {
      c.mov("eax", CR4_BASE | SMAP | SMEP)
        .mov("cr4", "rax")
        .toUser(".user")
        .ring(3)
        .label(".user");
      c.mov("eax", by("rsp", 32, -8))
        .emit("PUSH", "rax")
        .emit("UD2");
    },
  },
  {
    name: "an exception clears AC, and SMAP holds in its handler",
    spec: "SDM 3 §6.12.1.3; SDM 2 INT n",
    code(c) {
      c.gate(3, { to: ".handler" })
        .mov("eax", CR4_BASE | SMAP)
        .mov("cr4", "rax")
        .emit("STAC")
        .emit("INT3");
      c.logFlags("after").end().label(".handler").logFlags("in").emit("IRET", { size: 64 });
    },
  },
  {
    name: "AC in ring 0 lifts SMAP at once, CLAC ends it",
    spec: "SDM 2 STAC, CLAC",
    code(c) {
      c.terse()
        .mov("eax", CR4_BASE | SMAP)
        .mov("cr4", "rax")
        .mov("rbx", WINDOW)
        .emit("STAC")
        .mov("rax", by("rbx"));
      c.log("read", "rax").emit("CLAC").mov("rax", by("rbx"));
    },
  },
  {
    name: "POPF sets AC for SMAP",
    spec: "SDM 2 POPF",
    code(c) {
      c.terse()
        .mov("eax", CR4_BASE | SMAP)
        .mov("cr4", "rax")
        .mov("rbx", WINDOW)
        .emit("PUSH", AC | 2)
        .emit("POPF");
      c.mov("rax", by("rbx")).log("read", "rax").emit("PUSH", 2).emit("POPF").mov("rax", by("rbx"));
    },
  },
  {
    name: "SMEP: ring 0 does not run a user page, even if it ran it before",
    spec: "SDM 3 §4.6.1",
    code(c) {
      c.terse().mov(at(PLAY, 8), RET).mov("rbx", WINDOW).emit("CALL", "rbx").mark("ran");
      c.mov("eax", CR4_BASE | SMEP)
        .mov("cr4", "rax")
        .emit("CALL", "rbx");
    },
  },
  {
    name: "NX appears on a page that ran before",
    spec: "SDM 3 §4.6.1",
    code(c) {
      c.terse().mov(at(PLAY, 8), RET).mov("rbx", WINDOW).emit("CALL", "rbx").mark("ran");
      c.poke(pte(0), BigInt(PLAY) | ALL | NX)
        .emit("INVLPG", by("rbx"))
        .emit("CALL", "rbx");
    },
  },
  {
    name: "a page that ran in ring 0 loses U: ring 3 may not run it",
    spec: "SDM 3 §4.6.1",
    code(c) {
      c.terse()
        .mov(at(PLAY, 8), RET)
        .mov("rbx", WINDOW)
        .emit("CALL", "rbx")
        .poke(pte(0), BigInt(PLAY) | P | W);
      c.emit("INVLPG", by("rbx"))
        .emit("CALL", "rbx")
        .mark("ran")
        .toUser(".user")
        .ring(3)
        .label(".user")
        .emit("CALL", "rbx");
    },
  },
];

export const PAGE_RIGHTS: readonly SystemCase[] = RIGHTS;
export const PAGE_LEVELS: readonly SystemCase[] = [...LEVEL_CASES, ...NO_NXE];
export const PAGING: readonly SystemCase[] = [...MARKS, ...CHANGES, ...CROSSINGS, ...SUPERVISOR_ACCESS];
