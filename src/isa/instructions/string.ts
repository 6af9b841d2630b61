/**
 * String instructions [SDM 2, MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, REP].
 *
 * With a REP prefix one execution does one element, then runs the instruction again; interrupts are taken between.
 * MOVS and STOS upwards first ask the engine to do many at once.
 */

import { DF, TF } from "../flags.ts";
import type { ContextPart, Instruction } from "../instruction.ts";
import type { Bits, Value } from "../ir.ts";
import { RAX, RCX, RDI, RDX, RSI, type Semantics } from "../semantics.ts";
import { byte } from "./data.ts";
import { checkPort } from "./io.ts";

const USES: readonly ContextPart[] = ["addressSize", "rep", "segment", "long"];

/** DS:rSI or what a prefix put in place of DS. */
function source(m: Semantics): Value {
  return m.linear(m.context.segment, m.addressRegister(RSI));
}
/** ES:rDI, which no prefix changes. */
function destination(m: Semantics): Value {
  return m.linear("es", m.addressRegister(RDI));
}
/** Moves rSI or rDI by the direction flag, once the element has been done. */
function step(m: Semantics, register: number, bits: Bits): void {
  m.setAddressRegister(register, m.add(m.addressRegister(register), m.stringStep(bits)));
}

/** What a comparing element found. */
interface Comparison {
  /** Whether the two were equal (i32). */
  readonly equal: Value;
  readonly setFlags: () => void;
}

/**
 * Runs `element` under REP. After a fault in a repeated comparison RFLAGS is what it was before the instruction
 * [SDM 2, REP]: flags are set by the last element alone. Intel's processors do so for traps between elements, too.
 */
function repeatable(m: Semantics, element: () => Comparison | undefined): void {
  const { rep } = m.context;
  if (rep === "none") {
    element()?.setFlags();
    return;
  }
  const count = m.addressRegister(RCX);
  m.when(m.ne(count, 0), () => {
    const comparison = element();
    const left = m.sub(count, 1);
    m.setAddressRegister(RCX, left);
    const rest = m.ne(left, 0);
    if (comparison === undefined) {
      m.when(rest, () => m.repeat());
      return;
    }
    const { equal, setFlags } = comparison;
    const more = m.and(rest, rep === "rep" ? equal : m.isZero(equal));
    m.when(more, () => m.repeat(), setFlags);
  });
}

/** How many elements at most can be done before the offset in `register` wraps (i64). */
function beforeWrap(m: Semantics, register: number, count: Value, bits: Bits): Value {
  const { addressSize } = m.context;
  if (addressSize === 64) return count;
  const room = m.shrU(m.sub(m.i64(2 ** addressSize), m.addressRegister(register)), Math.log2(bits / 8));
  return m.select(m.ltU(room, count), room, count);
}

/** MOVS and STOS under REP: many elements by the engine where it can, else one: downwards, and where each is followed by
 * a trap. `registers` are those that move. */
function repeatableInBulk(
  m: Semantics,
  bits: Bits,
  registers: number[],
  bulk: (count: Value) => Value,
  one: () => void,
) {
  if (m.context.alignment || m.context.checked !== 0) {
    repeatable(m, () => {
      one();
      return undefined;
    });
    return;
  }
  const bytes = bits / 8;
  const count = m.addressRegister(RCX);
  m.when(m.ne(count, 0), () => {
    let limit = count;
    for (const register of registers) limit = beforeWrap(m, register, limit, bits);
    const done = m.choose(
      m.systemFlag(DF | TF),
      () => m.i64(0),
      () => bulk(limit),
    );
    const left = m.variable(m.sub(count, done));
    m.when(
      m.isZero(done),
      () => {
        one();
        m.assign(left, m.sub(count, 1));
      },
      () => {
        for (const register of registers) {
          m.setAddressRegister(register, m.add(m.addressRegister(register), m.mul(done, bytes)));
        }
      },
    );
    const rest = m.get(left);
    m.setAddressRegister(RCX, rest);
    m.when(m.ne(rest, 0), () => m.repeat());
  });
}

function moveOne(m: Semantics, bits: Bits): void {
  m.store(destination(m), bits, m.load(source(m), bits));
  step(m, RSI, bits);
  step(m, RDI, bits);
}
function moveString(m: Semantics, bits: Bits): void {
  if (m.context.rep === "none") {
    moveOne(m, bits);
    return;
  }
  const bulk = (count: Value) => m.helper("repMovs", "i64", [m.i32(bits / 8), count, destination(m), source(m)]);
  repeatableInBulk(m, bits, [RSI, RDI], bulk, () => moveOne(m, bits));
}

function storeOne(m: Semantics, bits: Bits): void {
  m.store(destination(m), bits, m.gpr(RAX, bits));
  step(m, RDI, bits);
}
function storeString(m: Semantics, bits: Bits): void {
  if (m.context.rep === "none") {
    storeOne(m, bits);
    return;
  }
  const bulk = (count: Value) =>
    m.helper("repStos", "i64", [m.i32(bits / 8), count, destination(m), m.fit(m.gpr(RAX, bits), 64)]);
  repeatableInBulk(m, bits, [RDI], bulk, () => storeOne(m, bits));
}

function loadString(m: Semantics, bits: Bits): void {
  repeatable(m, () => {
    m.setGpr(RAX, bits, m.load(source(m), bits));
    step(m, RSI, bits);
    return undefined;
  });
}

function compareStrings(m: Semantics, bits: Bits): void {
  repeatable(m, () => {
    // In this order, as AMD's processors do: where both fault, CR2 shows rDI's.
    const b = m.load(destination(m), bits);
    const a = m.load(source(m), bits);
    step(m, RSI, bits);
    step(m, RDI, bits);
    return { equal: m.eq(a, b), setFlags: () => m.flagsSub(bits, a, b, m.sub(a, b)) };
  });
}

function scanString(m: Semantics, bits: Bits): void {
  repeatable(m, () => {
    const a = m.gpr(RAX, bits);
    const b = m.load(destination(m), bits);
    step(m, RDI, bits);
    return { equal: m.eq(a, b), setFlags: () => m.flagsSub(bits, a, b, m.sub(a, b)) };
  });
}

/** The access is checked for writing before the port is read, so that no input is lost to a fault. */
function inputString(m: Semantics, size: Bits): void {
  const bits = size === 64 ? 32 : size;
  const port = m.gpr(RDX, 16);
  // Before the count is looked at: REP INS and OUTS of nothing fault too, as processors do.
  checkPort(m, port, bits);
  repeatable(m, () => {
    const address = destination(m);
    const through = m.loadForWrite(address, bits);
    m.store(address, bits, m.helper("readPort", "i32", [port, m.i32(bits / 8)]), through);
    step(m, RDI, bits);
    return undefined;
  });
}

function outputString(m: Semantics, size: Bits): void {
  const bits = size === 64 ? 32 : size;
  const port = m.gpr(RDX, 16);
  // Before the count is looked at: REP INS and OUTS of nothing fault too, as processors do.
  checkPort(m, port, bits);
  repeatable(m, () => {
    m.call("writePort", [port, m.i32(bits / 8), m.load(source(m), bits)]);
    step(m, RSI, bits);
    return undefined;
  });
  // The device may have raised an interrupt.
  m.leave(true);
}

/** The byte form and the one of operand size, which have neighbouring opcodes. */
function stringPair(
  name: string,
  opcode: number,
  effect: (m: Semantics, bits: Bits) => void,
  rest: Partial<Instruction> = {},
): Instruction[] {
  return [
    { name: `${name}B`, forms: [byte(opcode)], effect: (m) => effect(m, 8), uses: USES, ...rest },
    { name, forms: [byte(opcode + 1)], effect: (m) => effect(m, m.context.operandSize), uses: USES, ...rest },
  ];
}

export const STRING: readonly Instruction[] = [
  ...stringPair("MOVS", 0xa4, moveString),
  ...stringPair("CMPS", 0xa6, compareStrings),
  ...stringPair("STOS", 0xaa, storeString),
  ...stringPair("LODS", 0xac, loadString),
  ...stringPair("SCAS", 0xae, scanString),
  ...stringPair("INS", 0x6c, inputString, { system: true }),
  ...stringPair("OUTS", 0x6e, outputString, { system: true, ends: true }),
];
