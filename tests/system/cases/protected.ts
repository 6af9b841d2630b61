/** 32-bit protected mode without paging: exceptions, rings, segments' limits, gates, virtual-8086 mode. [SDM 3 §5, §6, §20] */

import { label, type Memory, mem } from "../../../src/isa/assembler.ts";
import type { Segment } from "../../../src/isa/state.ts";
import { at, type CaseCode } from "../guest/case-code.ts";
import { GDT, IDT32, LDT, PLAY, SELECTOR, STACK, STUB32_BYTES, STUBS32, TSS32_B } from "../guest/layout.ts";
import { end32, legacyMode, toUser32 } from "../guest/legacy-runtime.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor, gate32 } from "../guest/tables.ts";

const FREE = SELECTOR.free;
const GATE = 0x90;
const DATA = 0x4092;
const USER_CODE = SELECTOR.userCode32 | 3;
const USER_DATA = SELECTOR.userData | 3;

function inLegacy(name: string, spec: string, body: (c: CaseCode) => void): SystemCase {
  return {
    name,
    spec,
    code(c) {
      legacyMode(c);
      body(c);
      end32(c);
    },
  };
}
function inUser(
  name: string,
  spec: string,
  body: (c: CaseCode) => void,
  prepare: (c: CaseCode) => void = () => {},
): SystemCase {
  return inLegacy(`${name}, ring 3`, spec, (c) => {
    prepare(c);
    toUser32(c, ".user").label(".user");
    body(c);
    c.emit("UD2");
  });
}
function inBoth(name: string, spec: string, body: (c: CaseCode) => void): SystemCase[] {
  return [inLegacy(`${name}, ring 0`, spec, body), inUser(name, spec, body)];
}
function describe(c: CaseCode, selector: number, values: Parameters<typeof descriptor>[0]): CaseCode {
  return c.poke(GDT + selector, descriptor(values));
}
/** A gate of the IDT to the runtime's own stub. */
function setGate(c: CaseCode, vector: number, options: Parameters<typeof gate32>[0]): CaseCode {
  return c.poke(IDT32 + vector * 8, gate32({ offset: STUBS32 + vector * STUB32_BYTES, ...options }));
}
const of = (segment: Segment, disp: number, bits: 8 | 16 | 32 = 32): Memory => mem({ disp, segment, bits });

const EXCEPTIONS: SystemCase[] = [
  inLegacy("nothing", "the runtime", (c) =>
    c.log("esp", "esp").logSystem("cs", "cs").logFlags("fl").logSystem("cr0", "cr0"),
  ),
  ...inBoth("UD2", "SDM 2 UD", (c) => c.emit("UD2")),
  ...inBoth("DIV by zero", "SDM 2 DIV", (c) => c.emit("DIV", "ecx")),
  ...inBoth("INTO without OF", "SDM 2 INTO", (c) => c.emit("INTO").mark("passed")),
  ...inBoth("BOUND inside", "SDM 2 BOUND", (c) =>
    c
      .mov(at(PLAY, 32), 1)
      .mov(at(PLAY + 4, 32), 9)
      .mov("ebx", 9)
      .db(0x62, 0x1d, 0, 0, 0x80, 0)
      .mark("passed"),
  ),
  ...inBoth("BOUND outside", "SDM 2 BOUND", (c) =>
    c
      .mov(at(PLAY, 32), 1)
      .mov(at(PLAY + 4, 32), 9)
      .mov("ebx", 10)
      .db(0x62, 0x1d, 0, 0, 0x80, 0),
  ),
  inLegacy("INTO with OF, ring 0", "SDM 2 INTO", (c) => c.mov("eax", 0x7fff_ffff).emit("INC", "eax").emit("INTO")),
  inUser("INTO with OF by a gate of DPL 0", "SDM 2 INTO", (c) =>
    c.mov("eax", 0x7fff_ffff).emit("INC", "eax").emit("INTO"),
  ),
  inUser(
    "INTO with OF by a gate of DPL 3",
    "SDM 2 INTO",
    (c) => c.mov("eax", 0x7fff_ffff).emit("INC", "eax").emit("INTO"),
    (c) => setGate(c, 4, { dpl: 3 }),
  ),
  inUser("INT 0x40 by a gate of DPL 0", "SDM 2 INT n", (c) => c.emit("INT", 0x40)),
  inUser(
    "INT 0x40 by a gate of DPL 3",
    "SDM 2 INT n",
    (c) => c.emit("INT", 0x40),
    (c) => setGate(c, 0x40, { dpl: 3 }),
  ),
  inUser("HLT", "SDM 2 HLT", (c) => c.emit("HLT")),
  inUser("CLI", "SDM 2 CLI", (c) => c.emit("CLI")),
  inUser("IN without a bitmap", "SDM 1 §19.5.2", (c) => c.emit("IN", "al", 0x60)),
  inUser("MOV CR0", "SDM 2 MOV", (c) => c.mov("eax", "cr0")),
  inLegacy("IRET with NT and no earlier task", "SDM 3 §7.4", (c) =>
    c.emit("PUSH", 0x4002).emit("POPF").emit("IRET", { size: 32 }),
  ),
];

const GATES: SystemCase[] = (
  [
    ["as usual", {}],
    ["not present", { present: false }],
    ["of type 0", { type: 0 }],
    ["of 16 bits", { type: 6 }],
    ["that is a trap gate", { type: 15 }],
    ["that is a trap gate of 16 bits", { type: 7 }],
    ["that is a call gate", { type: 12 }],
    ["of 64-bit's type", { type: 0x1e }],
    ["with a null selector", { selector: 0 }],
    ["beyond the GDT", { selector: 0x1000 }],
    ["to data", { selector: SELECTOR.kernelData }],
    ["to code of DPL 3", { selector: SELECTOR.userCode32 }],
    ["to a TSS", { selector: SELECTOR.tss32 }],
    ["to conforming code", { selector: SELECTOR.free }],
  ] as const
).flatMap(([name, options]) => {
  const prepare = (c: CaseCode) =>
    describe(setGate(c, 0x40, { dpl: 3, ...options }), FREE, { limit: 0xfffff, attributes: 0xc09e });
  // A 16-bit gate's offset has 16 bits: it leads to the start of memory, which is not to be run.
  const wide = !name.includes("16 bits");
  if (!wide) return [];
  return [
    inLegacy(`INT by a gate ${name}, ring 0`, "SDM 2 INT n", (c) => prepare(c).emit("INT", 0x40)),
    inUser(`INT by a gate ${name}`, "SDM 2 INT n", (c) => c.emit("INT", 0x40), prepare),
  ];
});

/** Limits of data segments: FS is FREE with a limit. */
function limited(name: string, values: Parameters<typeof descriptor>[0], body: (c: CaseCode) => void): SystemCase {
  return inLegacy(`segment: ${name}`, "SDM 3 §5.3, §5.5", (c) => {
    describe(c, FREE, values).mov("eax", FREE).mov("fs", "ax");
    body(c);
  });
}
const SMALL = { base: PLAY, limit: 0xfff, attributes: DATA };
const DOWN = { base: PLAY, limit: 0xfff, attributes: 0x4096 };
const DOWN16 = { base: PLAY, limit: 0xfff, attributes: 0x0096 };
const SEGMENTS: SystemCase[] = [
  limited("a byte at the limit", SMALL, (c) => c.mov("al", of("fs", 0xfff, 8)).log("eax", "eax")),
  limited("a byte beyond the limit", SMALL, (c) => c.mov("al", of("fs", 0x1000, 8))),
  limited("a doubleword at the limit", SMALL, (c) => c.mov("eax", of("fs", 0xffc)).log("eax", "eax")),
  limited("a doubleword across the limit", SMALL, (c) => c.mov("eax", of("fs", 0xffd))),
  limited("a write across the limit", SMALL, (c) => c.mov(of("fs", 0xffe), "eax")),
  limited("an offset that wraps", SMALL, (c) => c.mov("eax", of("fs", -2))),
  limited("a doubleword at the end of 4 GiB", { base: PLAY, limit: 0xfffff, attributes: 0xc092 }, (c) =>
    c.mov("eax", of("fs", -4)).log("eax", "eax"),
  ),
  limited("limit 0", { ...SMALL, limit: 0 }, (c) =>
    c
      .mov("al", of("fs", 0, 8))
      .mark("in")
      .mov("al", of("fs", 1, 8)),
  ),
  limited("the granularity bit", { base: PLAY, limit: 1, attributes: 0xc092 }, (c) =>
    c.mov("eax", of("fs", 0x1ffc)).mark("in").mov("eax", of("fs", 0x1ffd)),
  ),
  limited("expand-down below", DOWN, (c) => c.mov("al", of("fs", 0xfff, 8))),
  limited("expand-down above", DOWN, (c) => c.mov("eax", of("fs", 0x1000)).log("eax", "eax")),
  limited("expand-down of 64 KiB, above", DOWN16, (c) =>
    c
      .mov("eax", of("fs", 0x7000))
      .log("eax", "eax")
      .mov("al", of("fs", 0x1_0000, 8)),
  ),
  limited("expand-down of 64 KiB, across its end", DOWN16, (c) => c.mov("eax", of("fs", 0xfffd))),
  limited("read-only, read", { ...SMALL, attributes: 0x4090 }, (c) => c.mov("eax", of("fs", 0)).log("eax", "eax")),
  limited("read-only, written", { ...SMALL, attributes: 0x4090 }, (c) => c.mov(of("fs", 0), "eax")),
  limited("readable code, read", { ...SMALL, attributes: 0x409a }, (c) => c.mov("eax", of("fs", 0)).log("eax", "eax")),
  limited("readable code, written", { ...SMALL, attributes: 0x409a }, (c) => c.mov(of("fs", 0), "eax")),
  limited("XADD of a read-only segment", { ...SMALL, attributes: 0x4090 }, (c) => c.emit("XADD", of("fs", 0), "eax")),
  limited("BTS beyond the limit by its bit offset", SMALL, (c) => c.mov("ecx", 0x8000).emit("BTS", of("fs", 0), "ecx")),
  limited("a base that wraps around", { base: 0xffff_fff0 | 0, limit: 0xfffff, attributes: 0xc092 }, (c) =>
    c.mov("eax", of("fs", PLAY + 0x10)).log("eax", "eax"),
  ),
  limited("REP MOVSB stops at the limit", SMALL, (c) => {
    c.mov("esi", 0xffe)
      .mov("edi", PLAY + 0x2000)
      .mov("ecx", 8)
      .db(0xf3, 0x64, 0xa4);
  }),
  limited("XLAT and string sources go by the override", SMALL, (c) =>
    c.mov("ebx", 0xffe).mov("al", 1).db(0x64, 0xd7).log("eax", "eax").mov("al", 2).db(0x64, 0xd7),
  ),
  inLegacy("segment: a null FS, used", "SDM 3 §5.4.1", (c) =>
    c.mov("eax", 3).mov("fs", "ax").mark("loaded").mov("eax", of("fs", PLAY)),
  ),
  inLegacy("segment: SS null", "SDM 3 §5.4.1", (c) => c.mov("eax", 0).mov("ss", "ax")),
  inLegacy("segment: ES by STOS, beyond the limit", "SDM 3 §5.3", (c) => {
    describe(c, FREE, SMALL).mov("eax", FREE).mov("es", "ax").mov("edi", 0xfff).emit("STOSB").mark("in").emit("STOSB");
  }),
  inLegacy("segment: EBP goes by SS", "SDM 3 §6.15, interrupt 12", (c) => {
    describe(c, FREE, { limit: 0x2ff, attributes: 0xc092 }).mov("eax", FREE).mov("ss", "ax").mov("ebp", 0x30_0000);
    c.mov("eax", mem({ base: "ebp", bits: 32 }));
  }),
  inLegacy("segment: ESP falls below an expand-down stack", "SDM 3 §6.15, interrupt 12", (c) => {
    describe(c, FREE, DOWN).mov("eax", FREE).mov("ss", "ax").mov("esp", 0x1004).emit("PUSH", "eax").mark("in");
    c.mov("ecx", SELECTOR.kernelData).mov("ebx", "esp").mov("esp", STACK.kernel).mov("ss", "cx").log("esp", "ebx");
  }),
  inLegacy("segment: a 16-bit stack wraps at 64 KiB", "SDM 1 §6.2.3", (c) => {
    describe(c, FREE, { base: 0x27_0000, limit: 0xffff, attributes: 0x92 })
      .mov("eax", FREE)
      .mov("ss", "ax")
      .mov("esp", 0x1234_0002);
    c.emit("PUSH", 0x5566, { size: 16 }).log("esp", "esp").emit("PUSH", 0x77, { size: 16 }).log("esp", "esp");
    c.emit("POP", "ax")
      .log("esp", "esp")
      .mov("esp", 0x1234_8000)
      .emit("ENTER", 8, 0)
      .log("esp", "esp")
      .log("ebp", "ebp")
      .emit("LEAVE");
    c.log("esp", "esp").mov("ecx", SELECTOR.kernelData).mov("ss", "cx").mov("esp", STACK.kernel);
  }),
  ...(
    [
      ["CS ends before the next instruction", 3, [0x90, 0x90, 0x90, 0x90, 0x0f, 0x0b]],
      ["CS ends in an instruction", 3, [0x90, 0x90, 0x90, 0xb8, 0, 0, 0, 0, 0x0f, 0x0b]],
      ["a jump beyond CS's limit", 3, [0xeb, 2, 0x0f, 0x0b, 0x0f, 0x0b]],
      ["a call beyond CS's limit", 7, [0xe8, 3, 0, 0, 0, 0x0f, 0x0b, 0x90, 0x0f, 0x0b]],
      ["a return beyond CS's limit", 7, [0x6a, 8, 0xc3, 0x90, 0x90, 0x90, 0x0f, 0x0b, 0x0f, 0x0b]],
      ["a jump by a register beyond CS's limit", 7, [0x6a, 8, 0x58, 0xff, 0xe0, 0x90, 0x0f, 0x0b, 0x0f, 0x0b]],
    ] as const
  ).map(([name, limit, code]) =>
    inLegacy(`segment: ${name}`, "SDM 3 §5.3; SDM 2 JMP, CALL, RET", (c) => {
      describe(c, FREE, { base: PLAY, limit, attributes: 0x409a });
      for (const [i, byte] of code.entries()) c.mov(at(PLAY + i, 8), byte);
      c.emit("JMP far", 0, FREE);
    }),
  ),
  inLegacy("segment: a far jump beyond CS's limit", "SDM 2 JMP", (c) => {
    describe(c, FREE, { base: PLAY, limit: 0xff, attributes: 0x409a }).emit("JMP far", 0x100, FREE);
  }),
];

/** Call gates with parameters, far returns, IRET between rings. */
function callGate(
  c: CaseCode,
  to: string,
  { type = 12, dpl = 3, count = 0, selector = SELECTOR.kernelCode32 } = {},
): CaseCode {
  c.poke(GDT + GATE, (BigInt(selector) << 16n) | (BigInt(count) << 32n) | (BigInt(0x80 | (dpl << 5) | type) << 40n));
  c.mov("eax", label(to))
    .mov(at(GDT + GATE, 16), "ax")
    .emit("SHR", "eax", 16);
  return type === 12 ? c.mov(at(GDT + GATE + 6, 16), "ax") : c;
}
const TRANSFERS: SystemCase[] = [
  inLegacy("call gate: two parameters are copied", "SDM 3 §5.8.5", (c) => {
    callGate(c, ".inner", { count: 2 });
    toUser32(c, ".user")
      .label(".user")
      .emit("PUSH", 0x1111)
      .emit("PUSH", 0x2222)
      .emit("CALL far", 0, GATE | 3)
      .log("esp", "esp");
    c.logSystem("cs", "cs").emit("UD2").label(".inner").log("esp", "esp").logSystem("cs", "cs").logSystem("ss", "ss");
    for (let i = 1; i < 6; i++) c.logMemory(`s${i}`, mem({ base: "esp", disp: i * 4, bits: 32 }));
    c.emit("RETF", 8);
  }),
  inLegacy("call gate: in ring 0 it copies nothing", "SDM 3 §5.8.5", (c) => {
    callGate(c, ".inner", { count: 2 })
      .emit("PUSH", 0x1111)
      .emit("CALL far", 0, GATE)
      .log("esp", "esp")
      .emit("JMP", "leave32");
    c.label(".inner")
      .log("esp", "esp")
      .logMemory("cs", mem({ base: "esp", disp: 4, bits: 32 }))
      .emit("RETF");
  }),
  inLegacy("RETF to ring 3 drops ring 0's data segments", "SDM 2 RET", (c) => {
    c.mov("eax", SELECTOR.kernelData)
      .mov("fs", "ax")
      .mov("eax", USER_DATA)
      .mov("gs", "ax")
      .emit("PUSH", USER_DATA)
      .emit("PUSH", STACK.user);
    c.emit("PUSH", USER_CODE).emit("PUSH", label(".user")).emit("RETF").label(".user");
    c.mov("eax", USER_DATA)
      .mov("edx", "ds")
      .mov("ds", "ax")
      .log("ds", "edx")
      .logSystem("fs", "fs")
      .logSystem("gs", "gs")
      .emit("UD2");
  }),
  inLegacy("IRETD in ring 0 takes no stack", "SDM 2 IRET", (c) => {
    c.emit("PUSH", 0x246)
      .emit("PUSH", SELECTOR.kernelCode32)
      .emit("PUSH", label(".to"))
      .emit("CLI")
      .emit("IRET", { size: 32 });
    c.label(".to").emit("CLI").log("esp", "esp").logFlags("fl");
  }),
  inLegacy("IRETD to a null CS", "SDM 2 IRET", (c) =>
    c.emit("PUSH", 2).emit("PUSH", 0).emit("PUSH", 0).emit("IRET", { size: 32 }),
  ),
  inLegacy("IRETD beyond CS's limit", "SDM 2 IRET", (c) => {
    describe(c, FREE, { base: PLAY, limit: 0xff, attributes: 0x409a }).mov(at(PLAY + 0x100, 16), 0x0b0f);
    c.emit("PUSH", 2).emit("PUSH", FREE).emit("PUSH", 0x100).emit("IRET", { size: 32 });
  }),
  inLegacy("LDT", "SDM 3 §3.5.1", (c) => {
    describe(c, FREE, { base: LDT, limit: 0xf, attributes: 0x82 }).poke(
      LDT + 8,
      descriptor({ base: PLAY, limit: 0xff, attributes: DATA }),
    );
    c.mov("eax", FREE)
      .emit("LLDT", "ax")
      .mov("eax", 0xc)
      .mov("fs", "ax")
      .mov("eax", of("fs", 8))
      .log("eax", "eax")
      .mov("eax", 0x14)
      .mov("fs", "ax");
  }),
  inLegacy("ARPL", "SDM 2 ARPL", (c) => {
    for (const [selector, rpl] of [
      [0x10, 3],
      [0x13, 0],
      [0x11, 2],
    ] as const) {
      c.mov("eax", selector).mov("ecx", rpl).emit("ARPL", "ax", "cx").log("ax", "eax").logFlags("fl");
    }
  }),
  inLegacy("SYSENTER and SYSEXIT", "SDM 2 SYSENTER", (c) => {
    for (const [index, value] of [
      [0x174, SELECTOR.kernelCode32],
      [0x175, STACK.rsp1],
    ] as const) {
      c.mov("ecx", index).mov("eax", value).mov("edx", 0).emit("WRMSR");
    }
    c.mov("ecx", 0x176).mov("eax", label(".entry")).mov("edx", 0).emit("WRMSR");
    toUser32(c, ".user")
      .label(".user")
      .emit("SYSENTER")
      .label(".entry")
      .logSystem("cs", "cs")
      .logSystem("ss", "ss")
      .log("esp", "esp");
    c.mov("edx", label(".back"))
      .mov("ecx", STACK.user)
      .emit("SYSEXIT")
      .label(".back")
      .logSystem("cs", "cs")
      .logSystem("ss", "ss")
      .emit("UD2");
  }),
];

/** Virtual-8086 mode: 16-bit code copied to 0x8000. */
function virtual(
  name: string,
  code: readonly number[],
  { flags = 0x2_0002, prepare = undefined as ((c: CaseCode) => unknown) | undefined } = {},
): SystemCase {
  return inLegacy(`virtual-8086: ${name}`, "SDM 3 §20.2, §20.3", (c) => {
    for (const [i, byte] of [...code, 0x0f, 0x0b].entries()) c.mov(at(0x8000 + i, 8), byte);
    prepare?.(c);
    for (const value of [0x44, 0x33, 0x22, 0x11, 0x900, 0x100]) c.emit("PUSH", value);
    c.emit("PUSH", flags).emit("PUSH", 0x800).emit("PUSH", 0).emit("IRET", { size: 32 });
  });
}
const IOPL3 = 0x2_3002;
const VIRTUAL: SystemCase[] = [
  virtual("an exception's frame", []),
  virtual("PUSHF by IOPL 0", [0x9c]),
  virtual("PUSHF by IOPL 3", [0x9c], { flags: IOPL3 }),
  virtual("CLI by IOPL 0", [0xfa]),
  virtual("CLI by IOPL 3", [0xfa, 0xfb, 0xfa], { flags: IOPL3 }),
  virtual("INT 0x21 by IOPL 0", [0xcd, 0x21]),
  virtual("INT 0x21 by IOPL 3, a gate of DPL 3", [0xcd, 0x21], {
    flags: IOPL3,
    prepare: (c) => setGate(c, 0x21, { dpl: 3 }),
  }),
  virtual("INT 0x21 by IOPL 3, a gate of DPL 0", [0xcd, 0x21], { flags: IOPL3 }),
  virtual("INT3 by IOPL 0, a gate of DPL 3", [0xcc], { prepare: (c) => setGate(c, 3, { dpl: 3 }) }),
  virtual("IRET by IOPL 0", [0xcf]),
  virtual("HLT", [0xf4]),
  virtual("MOV from CR0", [0x0f, 0x20, 0xc0]),
  virtual("LLDT is undefined", [0x0f, 0x00, 0xd0]),
  virtual("IN by the bitmap", [0xe4, 0x60], { flags: IOPL3 }),
  virtual("MOV DS loads a base", [0xb8, 0x34, 0x12, 0x8e, 0xd8]),
  virtual("a word across 64 KiB", [0xbb, 0xff, 0xff, 0x8b, 0x07]),
  virtual("a far jump", [0xea, 0x05, 0x00, 0x00, 0x08]),
  virtual("UD2 by a gate to conforming code", [], {
    prepare: (c) => setGate(describe(c, 0x98, { limit: 0xfffff, attributes: 0xc09e }), 6, { selector: 0x98 }),
  }),
];

/** Hardware task switches. [SDM 3 §7] */
const TASKS: SystemCase[] = [
  inLegacy("task: JMP to a TSS", "SDM 3 §7.3", (c) => {
    prepareTask(c, ".task").emit("JMP far", 0, SELECTOR.tss32B).mark("missed").emit("JMP", "leave32").label(".task");
    c.emit("STR", "ecx")
      .log("tr", "ecx")
      .log("eax", "eax")
      .log("esp", "esp")
      .logSystem("ds", "ds")
      .logFlags("fl")
      .logSystem("cr0", "cr0");
  }),
  inLegacy("task: CALL of a TSS, IRET back", "SDM 3 §7.3, §7.4", (c) => {
    prepareTask(c, ".task")
      .mov("ecx", 0x77)
      .emit("CALL far", 0, SELECTOR.tss32B)
      .log("ecx", "ecx")
      .emit("JMP", "leave32")
      .label(".task");
    c.logFlags("fl").logMemory("link", at(TSS32_B, 16)).emit("IRET", { size: 32 });
  }),
  inLegacy("task: an exception by a task gate", "SDM 3 §6.12.2", (c) => {
    prepareTask(c, ".task")
      .poke(IDT32 + 6 * 8, gate32({ selector: SELECTOR.tss32B, type: 5 }))
      .emit("UD2")
      .label(".task");
    c.emit("STR", "ecx").log("tr", "ecx").log("esp", "esp");
  }),
  inLegacy("task: a busy TSS", "SDM 3 §7.2.2", (c) => c.emit("JMP far", 0, SELECTOR.tss32)),
];
/** The second TSS starts at a label, with EAX 0x1234. */
function prepareTask(c: CaseCode, to: string): CaseCode {
  for (const [offset, value] of [
    [0x24, 2],
    [0x28, 0x1234],
    [0x38, STACK.rsp1],
    [0x48, 0x10],
    [0x4c, 0x18],
    [0x50, 0x10],
    [0x54, 0x10],
    [0x58, 0],
    [0x5c, 0],
  ] as const) {
    c.mov(at(TSS32_B + offset, 32), value);
  }
  return c.mov("eax", label(to)).mov(at(TSS32_B + 0x20, 32), "eax");
}

export const PROTECTED: readonly SystemCase[] = [...EXCEPTIONS, ...GATES];
export const PROTECTED_SEGMENTS: readonly SystemCase[] = SEGMENTS;
export const PROTECTED_TRANSFERS: readonly SystemCase[] = [...TRANSFERS, ...VIRTUAL, ...TASKS];
