/** Hardware task switches: what they check, save and load; tasks of 16 and 32 bits. [SDM 3 §7] */

import { label, mem } from "../../../src/isa/assembler.ts";
import { at, type CaseCode } from "../guest/case-code.ts";
import { GDT, IDT32, LDT, PLAY, SELECTOR, STACK, TSS32, TSS32_B } from "../guest/layout.ts";
import { end32, legacyMode, toUser32 } from "../guest/legacy-runtime.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor, gate32 } from "../guest/tables.ts";

const FREE = SELECTOR.free;
/** The second task, by its TSS of 32 bits. */
const TASK = SELECTOR.tss32B;
/** A task of 16 bits, and a task gate. */
const TASK16 = 0x88;
const GATE = 0x90;
const TSS16 = TSS32_B + 0x100;
const USER_CODE = SELECTOR.userCode32 | 3;
const USER_DATA = SELECTOR.userData | 3;
/** Types of descriptors, present. */
const TSS32_TYPE = 0x89;
const TSS16_TYPE = 0x81;

/** What the second task starts with. */
interface Start {
  readonly cs?: number;
  readonly ss?: number;
  readonly ds?: number;
  readonly es?: number;
  readonly fs?: number;
  readonly gs?: number;
  readonly ldt?: number;
  readonly flags?: number;
  readonly eip?: number;
  readonly trap?: boolean;
}

/** A case in 32-bit mode. It ends in the second task, at `.task`, or by an exception; what became of the tasks is logged. */
function task(name: string, body: (c: CaseCode) => unknown, atTask?: (c: CaseCode) => unknown): SystemCase {
  return {
    name: `task: ${name}`,
    spec: "SDM 3 §7.2, §7.3",
    code(c) {
      legacyMode(c).onFault32(".after");
      body(c);
      c.mark("past").emit("JMP", ".after").label(".task").mark("task");
      if (atTask === undefined) c.logFlags("fl");
      else atTask(c);
      c.label(".after")
        .emit("STR", "ecx")
        .log("tr", "ecx")
        .emit("SLDT", "ecx")
        .log("ldt", "ecx")
        .logSystem("cr0", "cr0");
      for (const [field, selector] of [
        ["old", SELECTOR.tss32],
        ["new", TASK],
        ["new16", TASK16],
      ] as const) {
        c.logMemory(field, at(GDT + selector + 5, 8));
      }
      // Long mode is not entered with TR on a task of 16 bits.
      c.mov(at(GDT + SELECTOR.tss32 + 5, 8), 0x89)
        .mov("ecx", SELECTOR.tss32)
        .emit("LTR", "cx");
      end32(c);
    },
  };
}

/** Fills in the second task's TSS; ring 3's where CS says so. */
function start32(c: CaseCode, values: Start = {}): CaseCode {
  const { cs = SELECTOR.kernelCode32, ss = SELECTOR.kernelData, ds = ss, es = ss, fs = 0, gs = 0, ldt = 0 } = values;
  const { flags = 2, eip, trap = false } = values;
  const fields: [number, number][] = [
    [0x04, STACK.rsp0],
    [0x08, SELECTOR.kernelData],
    [0x1c, 0x1000],
    [0x24, flags],
    [0x38, (cs & 3) === 3 ? STACK.user : STACK.rsp1],
    [0x48, es],
    [0x4c, cs],
    [0x50, ss],
    [0x54, ds],
    [0x58, fs],
    [0x5c, gs],
    [0x60, ldt],
    [0x64, trap ? 0x680001 : 0x680000],
  ];
  for (const [i, value] of [0xa1, 0xc2, 0xd3, 0xb4].entries()) fields.push([0x28 + i * 4, value * 0x10101]);
  for (const [i, value] of [0xb5, 0x56, 0xd7].entries()) fields.push([0x3c + i * 4, value * 0x10101]);
  for (const [offset, value] of fields) c.mov(at(TSS32_B + offset, 32), value);
  if (eip !== undefined) return c.mov(at(TSS32_B + 0x20, 32), eip);
  return c
    .mov("eax", label(".task"))
    .mov(at(TSS32_B + 0x20, 32), "eax")
    .mov("eax", 0);
}
/** The same of 16 bits: its code is a jump at the start of PLAY, since IP has 16 bits. */
function start16(c: CaseCode, { flags = 2, ss = SELECTOR.kernelData } = {}): CaseCode {
  c.poke(GDT + TASK16, descriptor({ base: TSS16, limit: 0x2b, attributes: TSS16_TYPE }));
  c.poke(GDT + FREE, descriptor({ base: PLAY, limit: 0xffff, attributes: 0x9a }));
  const fields: [number, number][] = [
    [0x02, 0xa000],
    [0x04, SELECTOR.kernelData],
    [0x0e, 0],
    [0x10, flags],
    [0x1a, 0x7000],
    [0x22, SELECTOR.kernelData],
    [0x24, FREE],
    [0x26, ss],
    [0x28, SELECTOR.kernelData],
    [0x2a, 0],
  ];
  for (const [i, value] of [0xa1, 0xc2, 0xd3, 0xb4].entries()) fields.push([0x12 + i * 2, value * 0x101]);
  for (const [i, value] of [0xb5, 0x56, 0xd7].entries()) fields.push([0x1c + i * 2, value * 0x101]);
  for (const [offset, value] of fields) c.mov(at(TSS16 + offset, 16), value);
  // JMP ptr16:32 by an operand-size prefix.
  c.mov("eax", label(".task"))
    .mov(at(PLAY, 16), 0xea66)
    .mov(at(PLAY + 2, 32), "eax")
    .mov(at(PLAY + 6, 16), SELECTOR.kernelCode32);
  return c.mov("eax", 0);
}
function taskGate(c: CaseCode, selector: number, { dpl = 0, present = true } = {}): CaseCode {
  return c.poke(GDT + GATE, gate32({ selector, type: 5, dpl, present }));
}
function idtTaskGate(c: CaseCode, vector: number, selector: number, { dpl = 0, present = true } = {}): CaseCode {
  return c.poke(IDT32 + vector * 8, gate32({ selector, type: 5, dpl, present }));
}
const jump = (c: CaseCode, selector = TASK as number) => c.emit("JMP far", 0, selector);
const call = (c: CaseCode, selector = TASK as number) => c.emit("CALL far", 0, selector);

/** Registers as the second task finds them. */
function logAll(c: CaseCode): CaseCode {
  for (const name of ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]) c.log(name, name);
  for (const name of ["es", "cs", "ss", "ds", "fs", "gs"]) c.logSystem(name, name);
  return c.logFlags("fl");
}
/** What the first task's TSS holds: EIP as an offset from the case's start. */
function logSaved(c: CaseCode): CaseCode {
  c.mov("ebx", at(TSS32 + 0x20, 32))
    .emit("SUB", "ebx", label(".task"))
    .log("seip", "ebx");
  for (let offset = 0x24; offset <= 0x60; offset += 4) c.logMemory(`s${offset.toString(16)}`, at(TSS32 + offset, 32));
  return c.logMemory("link", at(TSS32_B, 16));
}

const WAYS: SystemCase[] = [
  task(
    "registers are loaded",
    (c) => jump(start32(c, { flags: 0x246cd5 & ~0x4000, fs: SELECTOR.kernelData, gs: USER_DATA })),
    logAll,
  ),
  task(
    "registers are saved by JMP",
    (c) => {
      start32(c);
      for (const [i, name] of ["eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"].entries()) c.mov(name, 0x1111_0000 + i);
      c.emit("STC").emit("STD");
      jump(c);
    },
    (c) => logSaved(c.emit("CLD")),
  ),
  task(
    "registers are saved by CALL",
    (c) => call(start32(c)),
    (c) => logSaved(c).logFlags("fl"),
  ),
  task(
    "registers are saved by INT",
    (c) => idtTaskGate(start32(c), 0x40, TASK).emit("INT", 0x40),
    (c) => logSaved(c).logFlags("fl"),
  ),
  task(
    "registers are saved by an exception",
    (c) => idtTaskGate(start32(c), 6, TASK).emit("UD2"),
    (c) => logSaved(c).logFlags("fl"),
  ),
  task("registers are loaded, 16 bits", (c) => jump(start16(c, { flags: 0x0cd7 }), TASK16), logAll),
  task(
    "16 bits: CALL, and IRET back",
    (c) => call(start16(c), TASK16).mark("back").logFlags("fl2"),
    (c) => c.logFlags("fl").logMemory("link", at(TSS16, 16)).emit("IRET", { size: 32 }).mark("again"),
  ),
  task(
    "16 bits: what it saves",
    (c) => call(start16(c), TASK16).mark("back"),
    (c) => {
      c.mov("eax", 0x1234_5678).mov("fs", "ax").mov("ebp", 0x9abc_def0);
      c.emit("IRET", { size: 32 });
    },
  ),
  task(
    "CALL, IRET, CALL again",
    (c) => {
      call(start32(c)).mark("back");
      call(c)
        .mark("back2")
        .logMemory("eip", at(TSS32_B + 0x4c, 32));
    },
    (c) =>
      c.log("eax", "eax").emit("INC", "eax").emit("IRET", { size: 32 }).log("eax2", "eax").emit("IRET", { size: 32 }),
  ),
  task("JMP by a task gate", (c) => jump(taskGate(start32(c), TASK), GATE)),
  task("CALL by a task gate", (c) => call(taskGate(start32(c), TASK), GATE)),
  task(
    "JMP there and back",
    (c) => jump(start32(c)).mark("back"),
    (c) => jump(c, SELECTOR.tss32),
  ),
  task(
    "an error code of 32 bits",
    (c) => idtTaskGate(start32(c), 13, TASK).mov("eax", 0x1000).mov("fs", "ax"),
    (c) =>
      c
        .log("esp", "esp")
        .logMemory("error", mem({ base: "esp", bits: 32 }))
        .logFlags("fl"),
  ),
  task(
    "an error code of 16 bits",
    (c) => idtTaskGate(start16(c), 13, TASK16).mov("eax", 0x1000).mov("fs", "ax"),
    (c) => c.log("esp", "esp").logFlags("fl"),
  ),
  task(
    "to ring 3, an exception there",
    (c) => jump(start32(c, { cs: USER_CODE, ss: USER_DATA, eip: PLAY }).mov(at(PLAY, 16), 0x0b0f)),
    () => {},
  ),
  task("to virtual-8086 mode", (c) => {
    c.mov(at(0x8000, 16), 0x0b0f);
    jump(start32(c, { cs: 0x800, ss: 0x900, ds: 0x11, es: 0x22, fs: 0x33, gs: 0x44, flags: 0x2_0002, eip: 0 }));
  }),
  task(
    "from virtual-8086 mode by INT",
    (c) => {
      for (const [i, byte] of [0xcd, 0x40].entries()) c.mov(at(0x8000 + i, 8), byte);
      idtTaskGate(start32(c), 0x40, TASK, { dpl: 3 });
      for (const value of [0x44, 0x33, 0x22, 0x11, 0x900, 0x100]) c.emit("PUSH", value);
      c.emit("PUSH", 0x2_3002).emit("PUSH", 0x800).emit("PUSH", 0).emit("IRET", { size: 32 });
    },
    logSaved,
  ),
  task("with the T flag", (c) => jump(start32(c, { trap: true })).mark("past2")),
  task(
    "DR7's local bits are cleared",
    (c) => jump(start32(c).mov("eax", 0x3ff).mov("dr7", "eax")),
    (c) => c.logSystem("dr7", "dr7"),
  ),
  task(
    "with an LDT of its own",
    (c) => {
      c.poke(GDT + FREE, descriptor({ base: LDT, limit: 0xff, attributes: 0x82 }));
      c.poke(LDT + 8, descriptor({ base: PLAY, limit: 0xfff, attributes: 0x4092 }));
      jump(start32(c, { ldt: FREE, fs: 0xc }));
    },
    (c) =>
      c
        .mov("eax", mem({ disp: 8, segment: "fs", bits: 32 }))
        .log("fs8", "eax")
        .logFlags("fl"),
  ),
];

/** A TSS's descriptor that is not good, by every way to it. */
const BAD_TASKS: SystemCase[] = (
  [
    [
      "a limit of 0x66",
      (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x66, attributes: TSS32_TYPE })),
    ],
    ["absent", (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x09 }))],
    ["busy", (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x8b }))],
    [
      "busy and absent",
      (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x0b })),
    ],
    ["data", (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x92 }))],
    ["an LDT", (c: CaseCode) => c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x82 }))],
  ] as const
).flatMap(([what, prepare]) => [
  task(`JMP to a TSS with ${what}`, (c) => jump(prepare(start32(c)))),
  task(`CALL by a gate to a TSS with ${what}`, (c) => call(taskGate(prepare(start32(c)), TASK), GATE)),
  task(`INT by a gate to a TSS with ${what}`, (c) => idtTaskGate(prepare(start32(c)), 0x40, TASK).emit("INT", 0x40)),
  task(`an exception by a gate to a TSS with ${what}`, (c) => idtTaskGate(prepare(start32(c)), 6, TASK).emit("UD2")),
]);

/** By a gate, of a selector that names no TSS. */
const BAD_SELECTORS: SystemCase[] = (
  [
    ["null", 0],
    ["beyond the GDT", 0x1000],
    ["in an LDT", TASK | 4],
    ["a code segment", SELECTOR.kernelCode32],
    ["with an RPL", TASK | 3],
  ] as const
).flatMap(([what, selector]) => [
  task(`JMP by a gate, its selector ${what}`, (c) => jump(taskGate(start32(c), selector), GATE)),
  task(`INT by a gate, its selector ${what}`, (c) => idtTaskGate(start32(c), 0x40, selector).emit("INT", 0x40)),
  task(`an exception by a gate, its selector ${what}`, (c) => idtTaskGate(start32(c), 6, selector).emit("UD2")),
]);

/** From ring 3. */
function fromUser(name: string, prepare: (c: CaseCode) => unknown, body: (c: CaseCode) => unknown): SystemCase {
  return task(`${name}, from ring 3`, (c) => {
    prepare(start32(c));
    toUser32(c, ".user").label(".user");
    body(c);
    c.emit("UD2");
  });
}
const describeTask = (c: CaseCode, dpl: number) =>
  c.poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes: TSS32_TYPE | (dpl << 5) }));
const PRIVILEGE: SystemCase[] = [
  fromUser(
    "JMP to a TSS of DPL 0",
    () => {},
    (c) => jump(c),
  ),
  fromUser(
    "JMP to a TSS of DPL 3",
    (c) => describeTask(c, 3),
    (c) => jump(c),
  ),
  fromUser(
    "CALL by a gate of DPL 0",
    (c) => taskGate(c, TASK),
    (c) => call(c, GATE),
  ),
  fromUser(
    "CALL by a gate of DPL 3 to a TSS of DPL 0",
    (c) => taskGate(c, TASK, { dpl: 3 }),
    (c) => call(c, GATE),
  ),
  fromUser(
    "CALL by a gate that is absent",
    (c) => taskGate(c, TASK, { dpl: 3, present: false }),
    (c) => call(c, GATE),
  ),
  fromUser(
    "INT by a gate of DPL 0",
    (c) => idtTaskGate(c, 0x40, TASK),
    (c) => c.emit("INT", 0x40),
  ),
  fromUser(
    "INT by a gate of DPL 3",
    (c) => idtTaskGate(c, 0x40, TASK, { dpl: 3 }),
    (c) => c.emit("INT", 0x40),
  ),
  fromUser(
    "an exception",
    (c) => idtTaskGate(c, 6, TASK),
    (c) => c.emit("UD2"),
  ),
  task("JMP by a selector with RPL 3 to a TSS of DPL 0", (c) => jump(start32(c), TASK | 3)),
];

/** IRET with NT: the link of the present TSS. */
const RETURNS: SystemCase[] = (
  [
    ["to an idle task", TASK, TSS32_TYPE],
    ["to a busy task", TASK, 0x8b],
    ["to an absent task", TASK, 0x0b],
    ["to data", SELECTOR.kernelData, TSS32_TYPE],
    ["to a null selector", 0, TSS32_TYPE],
    ["into an LDT", TASK | 4, 0x8b],
    ["beyond the GDT", 0x1000, 0x8b],
    ["to a busy task with an RPL", TASK | 3, 0x8b],
  ] as const
).map(([what, selector, attributes]) =>
  task(`IRET ${what}`, (c) => {
    start32(c).poke(GDT + TASK, descriptor({ base: TSS32_B, limit: 0x67, attributes }));
    c.mov(at(TSS32, 16), selector).emit("PUSH", 0x4002).emit("POPF").emit("IRET", { size: 32 });
  }),
);

/** Selectors of the new task that are not good: its own faults. It is one of ring 3, so that its handlers have a stack. */
const BAD_SEGMENTS: SystemCase[] = (
  [
    ["an LDT in an LDT", { ldt: FREE | 4 }, 0x82],
    ["an LDT beyond the GDT", { ldt: 0x1000 }, 0x82],
    ["an LDT that is a TSS", { ldt: FREE }, 0x89],
    ["an LDT that is absent", { ldt: FREE }, 0x02],
    ["CS beyond the GDT", { cs: 0x1003 }, 0],
    ["CS that is data", { cs: USER_DATA }, 0],
    ["CS of DPL 0", { cs: FREE | 3 }, 0xc09a],
    ["CS that is absent", { cs: FREE | 3 }, 0xc07a],
    ["CS that is a TSS", { cs: FREE | 3 }, 0xe9],
    ["CS that is conforming, of DPL 0", { cs: FREE | 3 }, 0xc09e],
    ["SS null", { ss: 0 }, 0],
    ["SS beyond the GDT", { ss: 0x1003 }, 0],
    ["SS of DPL 0", { ss: FREE | 3 }, 0xc092],
    ["SS of RPL 0", { ss: SELECTOR.userData }, 0],
    ["SS that is code", { ss: USER_CODE }, 0],
    ["SS that is read-only", { ss: FREE | 3 }, 0xc0f0],
    ["SS that is absent", { ss: FREE | 3 }, 0xc072],
    ["DS of DPL 0", { ds: FREE | 3 }, 0xc092],
    ["DS of DPL 3 with RPL 0", { ds: SELECTOR.userData }, 0],
    ["DS that is absent", { ds: FREE | 3 }, 0xc072],
    ["DS that is execute-only code", { ds: FREE | 3 }, 0xc0f8],
    ["DS that is conforming code of DPL 0", { ds: FREE | 3 }, 0xc09e],
    ["DS that is a TSS", { ds: FREE | 3 }, 0xe9],
    ["ES beyond the GDT", { es: 0x1000 }, 0],
    ["FS in an LDT that is not there", { fs: 0xc }, 0],
    ["GS that is absent", { gs: FREE | 3 }, 0xc072],
    ["EIP beyond CS's limit", { cs: FREE | 3, eip: 0x10_0000 }, 0x40fa],
  ] as const
).flatMap(([what, values, attributes]) => {
  const prepare = (c: CaseCode) => {
    start32(c, { cs: USER_CODE, ss: USER_DATA, ds: 0, es: 0, eip: PLAY, ...values });
    // Where no fault comes, UD2 does.
    c.mov(at(PLAY, 16), 0x0b0f);
    return c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
  };
  return [
    task(`a new task's ${what}, by JMP`, (c) => jump(prepare(c))),
    task(`a new task's ${what}, by an exception`, (c) => idtTaskGate(prepare(c), 0, TASK).emit("DIV", "ecx")),
  ];
});

export const TASKS: readonly SystemCase[] = [...WAYS, ...PRIVILEGE, ...RETURNS];
export const TASK_FAULTS: readonly SystemCase[] = [...BAD_TASKS, ...BAD_SELECTORS, ...BAD_SEGMENTS];
