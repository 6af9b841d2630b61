/** Rings 1 and 2, and gates of 16 bits, outside long mode. [SDM 3 §5.8, §6.12; SDM 2 CALL, RET, INT n, IRET] */

import { label, mem } from "../../../src/isa/assembler.ts";
import { at, type CaseCode } from "../guest/case-code.ts";
import { GDT, IDT32, IMAGE, SELECTOR, STACK, TSS32 } from "../guest/layout.ts";
import { end32, legacyMode, toUser32 } from "../guest/legacy-runtime.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

/** Flat code and data by ring. */
const CODE = [SELECTOR.kernelCode32, 0x98 | 1, 0xa8 | 2, SELECTOR.userCode32 | 3] as const;
const DATA = [SELECTOR.kernelData, 0xa0 | 1, 0xb0 | 2, SELECTOR.userData | 3] as const;
const STACKS = [STACK.rsp0, STACK.rsp1, STACK.rsp2, STACK.user] as const;
/** Code of ring 0 and of ring 3 with the image as base, so that offsets have 16 bits. */
const LOW_CODE = 0xb8;
const LOW_USER = 0xc0 | 3;
const GATE = 0x90;
type Ring = 0 | 1 | 2 | 3;

function ringed(name: string, body: (c: CaseCode) => unknown): SystemCase {
  return {
    name,
    spec: "SDM 3 §5.8, §6.12",
    code(c) {
      legacyMode(c);
      for (const [ring, code, data] of [
        [1, 0xc0bb, 0xc0b3],
        [2, 0xc0db, 0xc0d3],
      ] as const) {
        c.poke(GDT + (CODE[ring] & ~3), descriptor({ limit: 0xfffff, attributes: code }));
        c.poke(GDT + (DATA[ring] & ~3), descriptor({ limit: 0xfffff, attributes: data }));
        c.mov(at(TSS32 + 4 + ring * 8, 32), STACKS[ring]).mov(at(TSS32 + 8 + ring * 8, 32), DATA[ring]);
      }
      c.poke(GDT + LOW_CODE, descriptor({ base: IMAGE, limit: 0xfffff, attributes: 0xc09b }));
      c.poke(GDT + (LOW_USER & ~3), descriptor({ base: IMAGE, limit: 0xfffff, attributes: 0xc0fb }));
      body(c);
      end32(c);
    },
  };
}
/** To a ring by IRETD, DS and ES being ring 3's. */
function enter(c: CaseCode, ring: Ring, to: string, flags = 2): CaseCode {
  c.mov("eax", DATA[3]).mov("ds", "ax").mov("es", "ax");
  if (ring !== 0) c.emit("PUSH", DATA[ring]).emit("PUSH", STACKS[ring] - 0x100);
  c.emit("PUSH", flags).emit("PUSH", CODE[ring]).emit("PUSH", label(to)).mov("eax", 0);
  return c.emit("IRET", { size: 32 }).label(to);
}
/** A call gate at GATE, or by `vector` a gate of the IDT. Types: 4 and 12 call, 6 and 14 interrupt. EAX changes. */
function gateTo(c: CaseCode, to: string, type: number, selector: number, { vector = -1, count = 0 } = {}): CaseCode {
  const where = vector < 0 ? GDT + GATE : IDT32 + vector * 8;
  c.poke(where, (BigInt(selector & ~3) << 16n) | (BigInt(count) << 32n) | (BigInt(0xe0 | type) << 40n));
  c.mov("eax", label(to));
  if ((type & 8) === 0) c.emit("SUB", "eax", IMAGE);
  c.mov(at(where, 16), "ax").emit("SHR", "eax", 16);
  return (type & 8) === 0 ? c.mov("eax", 0) : c.mov(at(where + 6, 16), "ax").mov("eax", 0);
}
const where = (c: CaseCode) => c.logSystem("cs", "cs").logSystem("ss", "ss").log("esp", "esp").logSystem("ds", "ds");
function logStack(c: CaseCode, words: number, bytes: 2 | 4): CaseCode {
  for (let i = 0; i < words; i++) {
    c.logMemory(`s${i}`, mem({ base: "esp", disp: i * bytes, bits: bytes === 2 ? 16 : 32, segment: "ss" }));
  }
  return c;
}

const INWARDS: [Ring, Ring][] = [
  [1, 0],
  [2, 0],
  [2, 1],
  [3, 0],
  [3, 1],
  [3, 2],
  [1, 1],
  [2, 2],
  [0, 1],
  [1, 2],
  [2, 3],
];

export const RINGS: readonly SystemCase[] = [
  ...([1, 2, 3] as const).flatMap((ring) => [
    ringed(`IRETD to ring ${ring}, an exception there`, (c) => where(enter(c, ring, ".in")).emit("UD2")),
    ringed(`ring ${ring}: HLT`, (c) => enter(c, ring, ".in").emit("HLT")),
    ringed(`ring ${ring}: CLI by IOPL ${ring}, then PUSHF`, (c) =>
      enter(c, ring, ".in", 2 | (ring << 12))
        .emit("CLI")
        .emit("PUSHF")
        .emit("POP", "ebx")
        .log("fl", "ebx")
        .emit("UD2"),
    ),
    ringed(`ring ${ring}: CLI by IOPL ${ring - 1}`, (c) => enter(c, ring, ".in", 2 | ((ring - 1) << 12)).emit("CLI")),
    ringed(`ring ${ring}: a load of SS of ring 0`, (c) =>
      enter(c, ring, ".in").mov("ebx", SELECTOR.kernelData).mov("ss", "bx"),
    ),
    ringed(`ring ${ring}: a load of DS of ring 1`, (c) =>
      enter(c, ring, ".in").mov("ebx", DATA[1]).mov("ds", "bx").logSystem("ds", "ds").emit("UD2"),
    ),
  ]),
  ...([1, 2] as const).flatMap((ring) => [
    ringed(`ring ${ring} to ring 3 by IRETD`, (c) => {
      enter(c, ring, ".in").emit("PUSH", DATA[3]).emit("PUSH", STACK.user).emit("PUSH", 2).emit("PUSH", CODE[3]);
      where(c.emit("PUSH", label(".out")).emit("IRET", { size: 32 }).label(".out")).emit("UD2");
    }),
    ringed(`ring ${ring} to ring 0 by IRETD`, (c) => {
      enter(c, ring, ".in").emit("PUSH", DATA[0]).emit("PUSH", STACK.kernel).emit("PUSH", 2).emit("PUSH", CODE[0]);
      c.emit("PUSH", label(".out")).emit("IRET", { size: 32 }).label(".out").mark("out");
    }),
  ]),
  ...INWARDS.flatMap(([from, to]) => [
    ringed(`ring ${from}: a call gate to ring ${to}, and back`, (c) => {
      gateTo(c, ".gate", 12, CODE[to], { count: 1 });
      where(
        enter(c, from, ".in")
          .emit("PUSH", 0x77)
          .emit("CALL far", 0, GATE | 3)
          .mark("back"),
      ).emit("UD2");
      logStack(where(c.label(".gate")), 5, 4).emit("RETF", 4);
    }),
    ringed(`ring ${from}: an interrupt gate to ring ${to}, and back`, (c) => {
      gateTo(c, ".gate", 14, CODE[to], { vector: 0x41 });
      where(enter(c, from, ".in").emit("INT", 0x41).mark("back")).emit("UD2");
      logStack(where(c.label(".gate")), 5, 4).emit("IRET", { size: 32 });
    }),
  ]),
  ringed("a call gate to an inner ring's stack that is null", (c) => {
    gateTo(c, ".gate", 12, CODE[1]).mov(at(TSS32 + 16, 32), 0);
    enter(c, 3, ".in")
      .emit("CALL far", 0, GATE | 3)
      .label(".gate");
  }),
  ringed("a call gate to an inner ring's stack of another ring", (c) => {
    gateTo(c, ".gate", 12, CODE[1]).mov(at(TSS32 + 16, 32), DATA[2]);
    enter(c, 3, ".in")
      .emit("CALL far", 0, GATE | 3)
      .label(".gate");
  }),
  ringed("16 bits: a call gate with two words, and back", (c) => {
    gateTo(c, ".gate", 4, LOW_CODE, { count: 2 });
    toUser32(c, ".user").label(".user").mov("eax", label(".low")).emit("SUB", "eax", IMAGE);
    c.emit("PUSH", LOW_USER).emit("PUSH", "eax").emit("RETF").label(".low");
    c.emit("PUSH", 0x1111, { size: 16 })
      .emit("PUSH", 0x2222, { size: 16 })
      .emit("CALL far", 0, GATE | 3)
      .mark("back");
    where(c).emit("UD2");
    logStack(where(c.label(".gate")), 6, 2).emit("RETF", 4, { size: 16 });
  }),
  ringed("16 bits: an interrupt gate from ring 3, and back", (c) => {
    gateTo(c, ".gate", 6, LOW_CODE, { vector: 0x41 });
    toUser32(c, ".user").label(".user").mov("eax", label(".low")).emit("SUB", "eax", IMAGE);
    c.emit("PUSH", LOW_USER).emit("PUSH", "eax").emit("RETF").label(".low").emit("INT", 0x41).mark("back");
    where(c).emit("UD2");
    logStack(where(c.label(".gate")), 5, 2).emit("IRET", { size: 16 });
  }),
  ringed("16 bits: an interrupt gate in ring 0, with an error code", (c) => {
    gateTo(c, ".gate", 6, LOW_CODE, { vector: 13 });
    c.mov("eax", 0x1000).mov("fs", "ax").label(".gate");
    logStack(c.log("esp", "esp").logSystem("cs", "cs"), 1, 2);
  }),
  ringed("16 bits: a trap gate leaves IF", (c) => {
    gateTo(c, ".gate", 7, LOW_CODE, { vector: 0x41 });
    c.emit("PUSH", 0x202)
      .emit("POPF")
      .emit("INT", 0x41)
      .label(".gate")
      .emit("PUSHF")
      .emit("CLI")
      .emit("POP", "ebx")
      .log("fl", "ebx");
  }),
];
