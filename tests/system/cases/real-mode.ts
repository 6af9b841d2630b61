/**
 * Real mode, and "unreal" mode: the vector table, segments of 64 KiB, transfers. [SDM 3 §20.1]
 *
 * A case's code of 16 bits is copied to CODE and run with CS:IP = CODE / 16:0. The first interrupt or exception ends it:
 * its handler saves what it was entered with, goes back to protected mode and logs.
 */

import { Assembler, label, mem } from "../../../src/isa/assembler.ts";
import { at, type CaseCode } from "../guest/case-code.ts";
import { PLAY, SELECTOR, STACK } from "../guest/layout.ts";
import { end32, legacyMode } from "../guest/legacy-runtime.ts";
import type { SystemCase } from "../guest/runtime.ts";

const CODE = 0x8000;
const CODE_SEGMENT = CODE / 16;
/** Stubs of the vectors' handlers, then the way in and out; segment 0. */
const STUBS = 0x9000;
const STUB_BYTES = 8;
const VECTORS = 0x40;
const ENTRY = 0x9400;
const SAVED = 0x9800;
/** A far pointer back to 32-bit code. */
const BACK = 0x9900;
const STACK_SEGMENT = 0x7000;
const DATA_SEGMENT = 0x6000;
const FIELDS = ["v", "ip", "cs", "fl", "sp", "ss", "ds", "es"] as const;
const REGISTERS = ["eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"] as const;

const place = (offset: number, bits: 16 | 32 = 16) => mem({ disp: offset, segment: "cs", bits });

/** The runtime in real mode's memory. `unreal`: FS, GS and DS keep limits of 4 GiB. */
function runtime({ unreal = false } = {}): Uint8Array {
  const asm = new Assembler({ bits: 16, origin: BigInt(STUBS) });
  for (let vector = 0; vector < VECTORS; vector++) {
    asm.emit("PUSH", "ax").mov("al", vector).emit("JMP", "common");
    while (asm.here < BigInt(STUBS + (vector + 1) * STUB_BYTES)) asm.db(0xcc);
  }
  asm.label("common").mov(place(SAVED), "ax").emit("POP", "ax");
  for (const [i, register] of REGISTERS.entries()) asm.mov(place(SAVED + 0x20 + i * 4, 32), register);
  for (const i of [1, 2, 3]) asm.emit("POP", "ax").mov(place(SAVED + i * 2), "ax");
  asm.mov(place(SAVED + 8), "sp");
  for (const [i, segment] of ["ss", "ds", "es"].entries()) asm.mov("ax", segment).mov(place(SAVED + 10 + i * 2), "ax");
  asm.mov("eax", "cr0").emit("OR", "al", 1).mov("cr0", "eax");
  asm.emit("JMP far-memory", mem({ disp: BACK, segment: "cs" }), { size: 32 });
  while (asm.here < BigInt(ENTRY)) asm.db(0xcc);
  // From 16-bit protected mode, where segments get their limits.
  asm.mov("ax", SELECTOR.kernelData16);
  for (const segment of ["ds", "es", "ss", "fs", "gs"]) asm.mov(segment, "ax");
  if (unreal) {
    asm.mov("ax", SELECTOR.kernelData);
    for (const segment of ["ds", "fs", "gs"]) asm.mov(segment, "ax");
  }
  asm.mov("eax", "cr0").emit("AND", "al", 0xfe).mov("cr0", "eax").emit("JMP far", label("real"), 0);
  asm.label("real").emit("LIDT", mem({ label: "vectors", segment: "cs" }));
  asm.mov("ax", STACK_SEGMENT).mov("ss", "ax").mov("sp", 0x8000).mov("ax", DATA_SEGMENT);
  for (const segment of ["ds", "es", "fs", "gs"]) asm.mov(segment, "ax");
  asm.emit("XOR", "eax", "eax").emit("JMP far", 0, CODE_SEGMENT);
  asm.label("vectors").dw(0x3ff).dd(0);
  return asm.finish();
}

export type Body = (asm: Assembler) => unknown;

export function real(name: string, body: Body, options: { unreal?: boolean } = {}): SystemCase {
  return {
    name: `real mode: ${name}`,
    spec: "SDM 3 §20.1",
    code(c) {
      const asm = new Assembler({ bits: 16, origin: 0n });
      body(asm);
      asm.emit("UD2");
      legacyMode(c);
      copy(c, ".runtime", STUBS, runtime(options));
      copy(c, ".code", CODE, asm.finish());
      for (let vector = 0; vector < VECTORS; vector++) c.mov(at(vector * 4, 32), STUBS + vector * STUB_BYTES);
      for (let i = 0; i < 16; i++) c.mov(at(DATA_SEGMENT * 16 + i * 4, 32), 0x0101_0101 * i);
      c.mov("eax", label(".back"))
        .mov(at(BACK, 32), "eax")
        .mov(at(BACK + 4, 16), SELECTOR.kernelCode32);
      for (const register of ["eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"]) c.mov(register, 0);
      c.emit("JMP far", ENTRY, SELECTOR.kernelCode16).label(".back").mov("eax", SELECTOR.kernelData);
      for (const segment of ["ds", "es", "ss"]) c.mov(segment, "ax");
      c.mov("esp", STACK.kernel).mov("eax", 0);
      for (const segment of ["fs", "gs"]) c.mov(segment, "ax");
      c.emit("LIDT", mem({ label: "idtr32" })).emit("AND", at(SAVED, 16), 0xff);
      for (const [i, field] of FIELDS.entries()) c.logMemory(field, at(SAVED + i * 2, 16));
      for (const [i, field] of REGISTERS.entries()) c.logMemory(field, at(SAVED + 0x20 + i * 4, 32));
      end32(c);
    },
  };
}
/** Copies bytes that lie in the case itself. */
function copy(c: CaseCode, name: string, to: number, bytes: Uint8Array): void {
  c.emit("JMP", `${name}.end`)
    .label(name)
    .db(...bytes)
    .label(`${name}.end`);
  c.mov("esi", label(name)).mov("edi", to).mov("ecx", bytes.length).rep().emit("MOVSB");
}

const word = (disp: number, segment?: "ss" | "cs" | "fs") =>
  mem({ disp, bits: 16, ...(segment === undefined ? {} : { segment }) });
const wide = (base: string, disp = 0, segment?: "fs") =>
  mem({ base, disp, bits: 32, ...(segment === undefined ? {} : { segment }) });

const EVENTS: SystemCase[] = [
  real("UD2", () => {}),
  real("DIV by zero", (a) => a.emit("DIV", "cx")),
  real("INT 0x21", (a) => a.emit("INT", 0x21)),
  real("INT3", (a) => a.emit("INT3")),
  real("INTO with OF", (a) => a.mov("ax", 0x7fff).emit("INC", "ax").emit("INTO")),
  real("BOUND outside", (a) => a.mov("ax", 9).db(0x62, 0x06, 4, 0)),
  real("an event clears IF and TF", (a) =>
    a
      .emit("PUSH", 0x0fd7 & ~0x100)
      .emit("POPF")
      .emit("INT", 0x21),
  ),
  real("single step", (a) => a.emit("PUSH", 0x102).emit("POPF").db(0x90, 0x90)),
  real("a vector beyond IDTR's limit", (a) => {
    a.emit("LIDT", mem({ label: "short", segment: "cs" })).emit("INT", 0x21);
    a.label("short").dw(0x3f).dd(0);
  }),
  real("another vector table", (a) => {
    a.mov("ax", 0x10)
      .mov("ds", "ax")
      .mov(word(0x21 * 4), "ax");
    a.emit("LIDT", mem({ label: "other", segment: "cs" })).mov("ax", STUBS + 5 * STUB_BYTES);
    a.mov(word(0x21 * 4), "ax")
      .mov("ax", 0)
      .mov(word(0x21 * 4 + 2), "ax")
      .emit("INT", 0x21);
    a.label("other").dw(0x3ff).dd(0x100);
  }),
  real("a vector within the limit by one byte", (a) => {
    a.emit("LIDT", mem({ label: "short", segment: "cs" })).emit("INT", 0x21);
    a.label("short").dw(0x87).dd(0);
  }),
];

const SEGMENTS: SystemCase[] = [
  real("a word at 0xfffe", (a) => a.mov("bx", 0xfffe).mov("ax", mem({ base: "bx", bits: 16 }))),
  real("a word at 0xffff", (a) => a.mov("bx", 0xffff).mov("ax", mem({ base: "bx", bits: 16 }))),
  real("a word at 0xffff by BP", (a) => a.mov("bp", 0xffff).mov("ax", mem({ base: "bp", bits: 16 }))),
  real("an address of 32 bits within the limit", (a) => a.mov("ebx", 4).mov("eax", wide("ebx"))),
  real("an address of 32 bits beyond it", (a) => a.mov("ebx", 0x1_0000).mov("eax", wide("ebx"))),
  real("an address of 32 bits at its end", (a) => a.mov("ebx", 0xfffd).mov("eax", wide("ebx"))),
  real("addresses of 16 bits wrap", (a) => a.mov("bx", 0xfff8).mov("ax", mem({ base: "bx", disp: 16, bits: 16 }))),
  real("unreal: beyond 64 KiB", (a) => a.mov("ebx", PLAY - DATA_SEGMENT * 16 + 8).mov("eax", wide("ebx", 0, "fs")), {
    unreal: true,
  }),
  real(
    "unreal: a load of FS keeps the limit",
    (a) =>
      a
        .mov("ax", 0)
        .mov("fs", "ax")
        .mov("ebx", PLAY + 16)
        .mov("eax", wide("ebx", 0, "fs")),
    {
      unreal: true,
    },
  ),
  real(
    "unreal: a store by DS",
    (a) =>
      a.mov("ax", 0).mov("ds", "ax").mov("ebx", PLAY).mov("eax", 0x55).mov(wide("ebx"), "eax").mov("ecx", wide("ebx")),
    {
      unreal: true,
    },
  ),
  real("unreal: ES is as usual", (a) => a.mov("edi", 0x1_0000).db(0x67).emit("STOSB"), { unreal: true }),
  real("CS can be written", (a) => a.mov(word(0x200, "cs"), "ax").mov("ax", word(0x200, "cs"))),
  real("LDS and LES", (a) => a.db(0xc5, 0x16, 4, 0).mov("bx", "ds")),
  real("XLAT", (a) => a.mov("bx", 4).mov("al", 2).emit("XLAT")),
  real("REP MOVSB wraps at 64 KiB", (a) => a.mov("si", 0xfffe).mov("di", 0x100).mov("cx", 4).rep().emit("MOVSB")),
  real("REP MOVSW at 0xffff", (a) =>
    a.mov("si", 0xffff).mov("di", 0x100).mov("cx", 2).rep().emit("MOVS", { size: 16 }),
  ),
];

const STACKS: SystemCase[] = [
  real("PUSH at SP 0 wraps", (a) => a.mov("sp", 0).emit("PUSH", "ax")),
  real("PUSHAD and POPAD", (a) => a.mov("ecx", 7).emit("PUSHA", { size: 32 }).mov("ecx", 8).emit("POPA", { size: 32 })),
  real("a 32-bit push", (a) => a.emit("PUSH", 0x1234_5678, { size: 32 }).emit("POP", "ax").emit("POP", "bx")),
  real("PUSH SP", (a) => a.emit("PUSH", "sp").emit("POP", "ax")),
  real("ENTER and LEAVE", (a) => a.emit("ENTER", 8, 0).mov("ax", "bp").mov("bx", "sp").emit("LEAVE")),
  real("PUSHF and POPF with IOPL and NT", (a) => a.emit("PUSH", 0x7002).emit("POPF").emit("PUSHF").emit("POP", "ax")),
  real("PUSHFD and POPFD with AC and ID", (a) =>
    a.emit("PUSH", 0x24_0002, { size: 32 }).emit("POPF", { size: 32 }).emit("PUSHF", { size: 32 }).emit("POP", "eax"),
  ),
];

const TRANSFERS: SystemCase[] = [
  real("a far call and return", (a) => {
    a.emit("CALL far", label("to"), CODE_SEGMENT).emit("UD2").label("to").mov("bp", "sp");
    a.mov("ax", mem({ base: "bp", bits: 16 }))
      .mov("bx", mem({ base: "bp", disp: 2, bits: 16 }))
      .emit("RETF");
  }),
  real("a far jump to another segment", (a) => {
    a.emit("JMP far", 0x10, CODE_SEGMENT).emit("UD2");
    while (a.here < 0x40n) a.db(0x90);
  }),
  real("RETF that releases words", (a) => {
    a.emit("PUSH", 1).emit("PUSH", 2).emit("PUSH", CODE_SEGMENT).emit("PUSH", label("to")).emit("RETF", 4).label("to");
  }),
  real("IRET", (a) =>
    a
      .emit("PUSH", 0x0cd7)
      .emit("PUSH", CODE_SEGMENT)
      .emit("PUSH", label("to"))
      .emit("IRET", { size: 16 })
      .emit("HLT")
      .label("to"),
  ),
  real("IRETD", (a) => {
    for (const value of [0x24_0cd7, CODE_SEGMENT, label("to")]) a.emit("PUSH", value, { size: 32 });
    a.emit("IRET", { size: 32 }).emit("HLT").label("to").emit("PUSHF", { size: 32 }).emit("POP", "eax");
  }),
  real("IRETD beyond 64 KiB", (a) => {
    for (const value of [2, CODE_SEGMENT, 0x1_0000]) a.emit("PUSH", value, { size: 32 });
    a.emit("IRET", { size: 32 });
  }),
  real("a jump by EAX beyond 64 KiB", (a) => a.mov("eax", 0x1_0000).emit("JMP", "eax")),
  real("a call by EAX beyond 64 KiB", (a) => a.mov("eax", 0x1_0000).emit("CALL", "eax")),
  real("LOOP with ECX", (a) => a.mov("ecx", 0x1_0001).label("again").emit("INC", "bx").db(0x67, 0xe2, 0xfc)),
  real("JCXZ", (a) => a.mov("ecx", 0x1_0000).db(0xe3, 2, 0x0f, 0x0b, 0x67, 0xe3, 1).emit("INC", "bx")),
];

const SYSTEM: SystemCase[] = [
  real("LLDT is undefined", (a) => a.db(0x0f, 0x00, 0xd0)),
  real("LAR is undefined", (a) => a.db(0x0f, 0x02, 0xc0)),
  real("ARPL is undefined", (a) => a.db(0x63, 0xc0)),
  real("SMSW", (a) => a.emit("SMSW", "eax")),
  real("LGDT and SGDT", (a) => a.emit("SGDT", mem({ disp: 0x20 })).mov("eax", mem({ disp: 0x22, bits: 32 }))),
  real("MOV from CR0", (a) => a.mov("eax", "cr0")),
  real("SYSENTER", (a) => a.emit("SYSENTER")),
  real("SYSCALL", (a) => a.emit("SYSCALL")),
  real("CPUID", (a) =>
    a
      .mov("eax", 0x8000_0000 | 0)
      .emit("CPUID")
      .mov("ebx", 0)
      .mov("ecx", 0)
      .mov("edx", 0),
  ),
  real("LOCK without a store", (a) => a.db(0xf0, 0x90)),
  real("a prefix too many", (a) => a.db(...Array.from({ length: 15 }, () => 0x66), 0x90)),
];

const ASTRAY = /^real mode: ((IRETD|a jump by EAX|a call by EAX) beyond|SYSCALL$)/;
const ALL = [...EVENTS, ...SEGMENTS, ...STACKS, ...TRANSFERS, ...SYSTEM];
export const REAL_MODE: readonly SystemCase[] = ALL.filter(({ name }) => !ASTRAY.test(name));
/** QEMU goes astray in these. */
export const REAL_MODE_MANUAL: readonly SystemCase[] = ALL.filter(({ name }) => ASTRAY.test(name));
