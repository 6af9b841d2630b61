/** The stack, and the flags as a whole: PUSH to LEAVE, PUSHF, POPF, and the single system flags [SDM 2]. */

import { AC, ARITHMETIC, DF, ID, IF, IOPL, NT, RF, TF, VM } from "../flags.ts";
import type { ContextPart, Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, RBP, RDI, RSP, type Semantics } from "../semantics.ts";
import { type Segment, SEGMENTS, segmentField } from "../state.ts";

/** What pushes and pops depend on. */
export const STACK: readonly ContextPart[] = ["stackSize", "long"];

/** Loads a segment register. Outside 64-bit mode what comes next may be decoded anew: the caller ends with
 * `afterSegmentLoad`. */
export function loadSegment(m: Semantics, segment: Segment, selector: Value): void {
  m.call("loadSegment", [m.i32(SEGMENTS.indexOf(segment)), m.and(m.fit(selector, 32), 0xffff)]);
}
/** No interrupt is taken before the next instruction, even where the trace ends here. */
export function shadowNext(m: Semantics): void {
  m.setField("shadowRip", m.nextRip());
}
export function afterSegmentLoad(m: Semantics): void {
  if (!m.context.long) m.leave(false);
}

function pushSegment(segment: Segment, form: string): Instruction {
  return {
    name: `PUSH ${segment.toUpperCase()}`,
    forms: [form],
    effect(m) {
      const { operandSize } = m.context;
      m.push(m.fit(m.state(segmentField(segment, "selector").offset, 16), operandSize), operandSize);
    },
    uses: STACK,
  };
}

function popSegment(segment: Segment, form: string): Instruction {
  return {
    name: `POP ${segment.toUpperCase()}`,
    forms: [form],
    effect(m) {
      loadSegment(m, segment, m.peek(16));
      m.dropStack(m.context.operandSize / 8);
      if (segment === "ss") shadowNext(m);
      afterSegmentLoad(m);
    },
    uses: STACK,
    system: true,
    ...(segment === "ss" ? { shadow: "stack" } : {}),
    // ES, SS and DS are popped outside 64-bit mode only, where a segment load always leaves.
    ...(form.endsWith("i64") ? { ends: true } : {}),
  };
}

function pop(m: Semantics, dst: Operand): void {
  const { bits } = dst;
  const value = m.peek(bits);
  if (dst.kind === "mem") {
    // The address is formed with RSP as it is after the pop, but RSP must be unchanged if the store faults.
    const pointer = m.gpr(RSP, 64);
    m.dropStack(bits / 8);
    const address = m.address(dst);
    m.setGpr(RSP, 64, pointer);
    m.store(address, bits, value);
    m.dropStack(bits / 8);
  } else {
    // In this order POP RSP keeps what was popped.
    m.dropStack(bits / 8);
    m.write(dst, value);
  }
}

/** I/O privilege level, 0 to 3. */
export function ioPrivilege(m: Semantics): Value {
  return m.and(m.shrU(m.field("flagsSystem"), Math.log2(IOPL & -IOPL)), 3);
}
/** Whether CPL is above IOPL (i32): then IF is not to be touched, nor ports without a look at the bitmap. */
export function aboveIoPrivilege(m: Semantics): Value {
  return m.gtU(m.field("cpl"), ioPrivilege(m));
}
/** #GP(0) in virtual-8086 mode (where CPL is 3) unless IOPL is 3. */
function requireVirtualPrivilege(m: Semantics): void {
  if (m.context.long) return;
  m.when(m.systemFlag(VM), () => m.faultWhen(aboveIoPrivilege(m), EXCEPTION.GP, 0));
}

function pushFlags(m: Semantics): void {
  requireVirtualPrivilege(m);
  const flags = m.or(m.arithmeticFlags(), m.and(m.field("flagsSystem"), ~(VM | RF)));
  m.push(m.fit(flags, m.context.operandSize), m.context.operandSize);
}

function popFlags(m: Semantics): void {
  const { operandSize } = m.context;
  requireVirtualPrivilege(m);
  const value = m.fit(m.peek(operandSize), 32);
  const old = m.field("flagsSystem");
  // What may change goes by privilege [SDM 2, POPF, table 4-16]. VM, VIF and VIP stay; RF becomes 0.
  const always = operandSize === 16 ? TF | DF | NT : TF | DF | NT | AC | ID;
  const withInterrupts = m.select(aboveIoPrivilege(m), m.i32(always), m.i32(always | IF));
  const mask = m.select(m.field("cpl"), withInterrupts, m.i32(always | IF | IOPL));
  const kept = operandSize === 16 ? ~0 : ~RF;
  const flags = m.or(m.and(m.and(old, kept), m.not(mask)), m.and(value, mask));
  m.dropStack(operandSize / 8);
  m.setArithmeticFlags(m.and(value, ARITHMETIC));
  m.setField("flagsSystem", flags);
  const changed = m.xor(old, flags);
  m.when(m.and(changed, TF | AC), () => {
    m.call("viewChanged", [], true);
    m.leave(true);
  });
  m.when(m.and(m.and(changed, flags), IF), () => m.when(m.field("interruptHint"), () => m.leave(true)));
}

/** ENTER: pushes RBP, then with a nesting level the enclosing frames' pointers, and opens a frame. */
function enter(m: Semantics, frame: Operand, nesting: Operand): void {
  const { operandSize, stackSize } = m.context;
  const size = operandSize / 8;
  const level = m.and(m.fit(m.read(nesting), 32), 0x1f);
  const base = m.sub(m.gpr(RSP, 64), size);
  m.when(
    m.isZero(level),
    () => m.store(m.stackLinear(base), operandSize, m.gpr(RBP, operandSize)),
    () => m.call("enterNested", [level, m.i32(operandSize), m.i32(stackSize)]),
  );
  const pushed = m.mul(m.fit(level, 64), size);
  const top = m.sub(m.sub(base, pushed), m.fit(m.fit(m.read(frame), 32), 64));
  // Where the stack ends now must be writable [SDM 2, ENTER]; what was pushed stays in memory if it is not.
  m.loadForWrite(m.stackLinear(top), operandSize);
  m.setGpr(RBP, operandSize, m.fit(base, operandSize));
  m.setStackPointer(top);
}

function leaveFrame(m: Semantics): void {
  const { operandSize } = m.context;
  const frame = m.gpr(RBP, 64);
  const value = m.load(m.stackLinear(frame), operandSize);
  m.setStackPointer(m.add(frame, operandSize / 8));
  m.setGpr(RBP, operandSize, value);
}

/** PUSHA: the eight registers downwards, RSP as it was before. */
function pushAll(m: Semantics): void {
  const bits = m.context.operandSize;
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((register) => m.gpr(register, bits));
  for (const [i, value] of values.entries()) m.store(m.stackAddress(-(i + 1) * (bits / 8)), bits, value);
  m.dropStack(-8 * (bits / 8));
}

/** POPA: the same upwards; the place of RSP is passed over. */
function popAll(m: Semantics): void {
  const bits = m.context.operandSize;
  const values: Value[] = [];
  for (let register = RDI; register >= RAX; register--) values[register] = m.peek(bits, (RDI - register) * (bits / 8));
  m.dropStack(8 * (bits / 8));
  for (const [register, value] of values.entries()) if (register !== RSP) m.setGpr(register, bits, value);
}

function setSystemFlag(m: Semantics, flag: number, on: boolean): void {
  const flags = m.field("flagsSystem");
  m.setField("flagsSystem", on ? m.or(flags, flag) : m.and(flags, ~flag));
}

export const STACK_INSTRUCTIONS: readonly Instruction[] = [
  {
    name: "PUSH",
    forms: ["50+r Zv d64", "FF /6 Ev d64", "68 Iz d64", "6A Ibs d64"],
    effect: (m, src) => m.push(m.read(src), src.bits),
    uses: STACK,
  },
  { name: "POP", forms: ["58+r Zv d64", "8F /0 Ev d64"], effect: pop, uses: STACK },
  pushSegment("es", "06 i64"),
  pushSegment("cs", "0E i64"),
  pushSegment("ss", "16 i64"),
  pushSegment("ds", "1E i64"),
  pushSegment("fs", "0F A0 d64"),
  pushSegment("gs", "0F A8 d64"),
  popSegment("es", "07 i64"),
  popSegment("ss", "17 i64"),
  popSegment("ds", "1F i64"),
  popSegment("fs", "0F A1 d64"),
  popSegment("gs", "0F A9 d64"),
  { name: "PUSHA", forms: ["60 i64"], effect: pushAll, uses: STACK },
  { name: "POPA", forms: ["61 i64"], effect: popAll, uses: STACK },
  { name: "PUSHF", forms: ["9C d64"], effect: pushFlags, uses: STACK },
  { name: "POPF", forms: ["9D d64"], effect: popFlags, uses: STACK },
  { name: "ENTER", forms: ["C8 Iw,Ib d64"], effect: enter, uses: STACK },
  { name: "LEAVE", forms: ["C9 d64"], effect: leaveFrame, uses: STACK },
  { name: "CLC", forms: ["F8"], effect: (m) => m.setCarry(m.i32(0)) },
  { name: "STC", forms: ["F9"], effect: (m) => m.setCarry(m.i32(1)) },
  { name: "CMC", forms: ["F5"], effect: (m) => m.setCarry(m.xor(m.carry(), 1)) },
  { name: "CLD", forms: ["FC"], effect: (m) => setSystemFlag(m, DF, false) },
  { name: "STD", forms: ["FD"], effect: (m) => setSystemFlag(m, DF, true) },
  {
    name: "CLI",
    forms: ["FA"],
    effect(m) {
      m.faultWhen(aboveIoPrivilege(m), EXCEPTION.GP, 0);
      setSystemFlag(m, IF, false);
    },
    system: true,
  },
  {
    name: "STI",
    forms: ["FB"],
    effect(m) {
      m.faultWhen(aboveIoPrivilege(m), EXCEPTION.GP, 0);
      setSystemFlag(m, IF, true);
      shadowNext(m);
    },
    system: true,
    shadow: "interrupts",
  },
  {
    name: "CLAC",
    forms: ["NP 0F 01 =CA"],
    effect(m) {
      m.faultWhen(m.field("cpl"), EXCEPTION.UD);
      m.setAlignmentCheck(false);
    },
    system: true,
    feature: "smap",
  },
  {
    name: "STAC",
    forms: ["NP 0F 01 =CB"],
    effect(m) {
      m.faultWhen(m.field("cpl"), EXCEPTION.UD);
      m.setAlignmentCheck(true);
    },
    system: true,
    feature: "smap",
  },
];
