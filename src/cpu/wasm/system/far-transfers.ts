/** Far JMP, CALL and RET: direct, through call gates, to other privilege levels. [SDM 2 JMP, CALL, RET; SDM 3 §5.8] */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CS, SS, TR } from "../state-view.ts";
import { checkReturnCode, checkTarget, fetchReturnStack, type OperandBits } from "./interrupt-return.ts";
import { innerStack } from "./legacy-gates.ts";
import { addLow, canonical, carry } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, SYSTEM_TYPE, selectorError } from "./segments.ts";
import { switchTask } from "./task-switch.ts";

type PushBytes = 2 | 4 | 8;

/** A checked code segment, kept while others are fetched. */
interface CodeTarget {
  readonly selector: number;
  readonly attributes: number;
  readonly base: number;
  readonly limit: number;
  readonly offsetLow: number;
  readonly offsetHigh: number;
}

/** A call gate that was found good. */
interface CallGate {
  readonly selector: number;
  readonly offsetLow: number;
  readonly offsetHigh: number;
  readonly bytes: PushBytes;
  /** Words or doublewords to copy. */
  readonly parameters: number;
}

function fault(vector: number, selector: number): never {
  throw new GuestFault(vector, selectorError(selector, 0));
}

function bytesOf(bits: OperandBits): PushBytes {
  return bits === 64 ? 8 : bits === 32 ? 4 : 2;
}

function offsetHalves(offset: bigint, bits: OperandBits): [low: number, high: number] {
  const unsigned = BigInt.asUintN(bits, offset);
  return [Number(unsigned & 0xffff_ffffn), Number(unsigned >> 32n)];
}

/** Fetches what a far pointer names; null selectors raise #GP(0). */
function fetchTarget({ segments }: SystemParts, selector: number): void {
  if ((selector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.GP, 0);
  segments.fetch(selector, EXCEPTION.GP, 0);
}

/** The code segment fetched last as a target at the present privilege; its offset is checked. */
function sameLevelTarget(parts: SystemParts, selector: number, low: number, high: number, byGate: boolean): CodeTarget {
  const { view, segments } = parts;
  const { attributes, base, limit } = segments;
  const { cpl } = view;
  const dpl = dplOf(attributes);
  // A gate's selector has an RPL that does not count.
  const allowed = isConforming(attributes) ? dpl <= cpl : dpl === cpl && (byGate || (selector & 3) <= cpl);
  if (!allowed) fault(EXCEPTION.GP, selector);
  checkLongCode(parts, selector);
  if ((attributes & ATTRIBUTE.present) === 0) fault(EXCEPTION.NP, selector);
  segments.mark(ATTRIBUTE.accessed);
  checkTarget(segments.is64(attributes), limit, low, high);
  const accessed = attributes | ATTRIBUTE.accessed;
  return { selector: (selector & 0xfffc) | cpl, attributes: accessed, base, limit, offsetLow: low, offsetHigh: high };
}

/** In long mode a code segment cannot be both 64-bit and 32-bit. */
function checkLongCode({ view, segments }: SystemParts, selector: number): void {
  const both = ATTRIBUTE.long | ATTRIBUTE.big;
  if (view.longModeActive && (segments.attributes & both) === both) fault(EXCEPTION.GP, selector);
}

function enterCode({ host, view }: SystemParts, target: CodeTarget): void {
  view.setSegment(CS, target.selector, target.attributes, target.limit, target.base, 0);
  view.cpl = target.selector & 3;
  view.setHalves(STATE.rip, target.offsetLow, target.offsetHigh);
  host.viewChanged();
}

/** Real and virtual-8086 mode: the offset is checked against CS's limit, which stays. */
function enterRealCode({ host, view, segments }: SystemParts, selector: number, offset: number): void {
  segments.assignReal(CS, selector);
  view.setHalves(STATE.rip, offset, 0);
  host.viewChanged();
}

/** Reads the gate, TSS or task gate fetched last. Gives a call gate that may be used; by a TSS or a task gate the task is
 * switched, and it gives nothing. */
function fetchGate(parts: SystemParts, selector: number, cause: "jump" | "call"): CallGate | undefined {
  const { view, segments } = parts;
  const { low, high, attributes } = segments;
  const type = attributes & ATTRIBUTE.type;
  const long = view.longModeActive;
  const { callGate16, callGate32, taskGate, tss16, tss32 } = SYSTEM_TYPE;
  const known: readonly number[] = long ? [callGate32] : [callGate16, callGate32, taskGate, tss16, tss32];
  const privileged = dplOf(attributes) >= Math.max(view.cpl, selector & 3);
  if (!known.includes(type) || !privileged) fault(EXCEPTION.GP, selector);
  if ((attributes & ATTRIBUTE.present) === 0) fault(EXCEPTION.NP, selector);
  const target = low >>> 16;
  if (type !== callGate16 && type !== callGate32) {
    switchTask(parts, type === taskGate ? target : selector, cause);
    return undefined;
  }
  if (type === callGate16) {
    return { selector: target, offsetLow: low & 0xffff, offsetHigh: 0, bytes: 2, parameters: high & 0x1f };
  }
  const offsetLow = ((low & 0xffff) | (high & 0xffff_0000)) >>> 0;
  if (!long) return { selector: target, offsetLow, offsetHigh: 0, bytes: 4, parameters: high & 0x1f };
  if (!segments.find(selector, 16)) fault(EXCEPTION.GP, selector);
  const offsetHigh = segments.fetchUpperBase();
  if (segments.upperType !== 0) fault(EXCEPTION.GP, selector);
  return { selector: target, offsetLow, offsetHigh, bytes: 8, parameters: 0 };
}

/** Fetches the code segment that a gate names, and checks what does not depend on privilege. */
function fetchGateCode(parts: SystemParts, gate: CallGate): void {
  const { view, segments } = parts;
  fetchTarget(parts, gate.selector);
  const { attributes } = segments;
  if (!isCode(attributes) || dplOf(attributes) > view.cpl) fault(EXCEPTION.GP, gate.selector);
  const code64 = (attributes & (ATTRIBUTE.long | ATTRIBUTE.big)) === ATTRIBUTE.long;
  if (view.longModeActive && !code64) fault(EXCEPTION.GP, gate.selector);
}

export function farJump(parts: SystemParts, value: number, offset: bigint, bits: OperandBits): void {
  const { view, segments } = parts;
  const selector = value & 0xffff;
  const [low, high] = offsetHalves(offset, bits);
  if (!view.usesDescriptors) {
    checkTarget(false, view.limit(CS), low, high);
    enterRealCode(parts, selector, low);
    return;
  }
  fetchTarget(parts, selector);
  if (isCode(segments.attributes)) {
    enterCode(parts, sameLevelTarget(parts, selector, low, high, false));
    return;
  }
  if ((segments.attributes & ATTRIBUTE.memory) !== 0) fault(EXCEPTION.GP, selector);
  const gate = fetchGate(parts, selector, "jump");
  if (gate === undefined) return;
  fetchGateCode(parts, gate);
  enterCode(parts, sameLevelTarget(parts, gate.selector, gate.offsetLow, gate.offsetHigh, true));
}

/** Pushes CS and RIP on the stack in hand. */
function pushReturn({ view, stack }: SystemParts, bytes: PushBytes): void {
  stack.push(bytes, view.selector(CS), 0);
  stack.push(bytes, view.low(STATE.rip), view.high(STATE.rip));
}

export function farCall(parts: SystemParts, value: number, offset: bigint, bits: OperandBits): void {
  const { view, segments, stack } = parts;
  const selector = value & 0xffff;
  const [low, high] = offsetHalves(offset, bits);
  if (!view.usesDescriptors) {
    checkTarget(false, view.limit(CS), low, high);
    stack.useCurrent(false, 0);
    pushReturn(parts, bytesOf(bits));
    stack.commit();
    enterRealCode(parts, selector, low);
    return;
  }
  fetchTarget(parts, selector);
  let target: CodeTarget;
  let bytes = bytesOf(bits);
  if (isCode(segments.attributes)) {
    target = sameLevelTarget(parts, selector, low, high, false);
  } else {
    if ((segments.attributes & ATTRIBUTE.memory) !== 0) fault(EXCEPTION.GP, selector);
    const gate = fetchGate(parts, selector, "call");
    if (gate === undefined) return;
    fetchGateCode(parts, gate);
    if (!isConforming(segments.attributes) && dplOf(segments.attributes) < view.cpl) {
      callInner(parts, gate);
      return;
    }
    target = sameLevelTarget(parts, gate.selector, gate.offsetLow, gate.offsetHigh, true);
    bytes = gate.bytes;
  }
  stack.useCurrent(false, 0);
  pushReturn(parts, bytes);
  stack.commit();
  enterCode(parts, target);
}

/** A call through a gate to a more privileged ring, on its stack from the TSS. */
function callInner(parts: SystemParts, gate: CallGate): void {
  const { view, segments, stack } = parts;
  const { attributes, base, limit } = segments;
  const newCpl = dplOf(attributes);
  if ((attributes & ATTRIBUTE.present) === 0) fault(EXCEPTION.NP, gate.selector);
  segments.mark(ATTRIBUTE.accessed);
  const code64 = segments.is64(attributes);
  const target: CodeTarget = {
    selector: (gate.selector & 0xfffc) | newCpl,
    attributes: attributes | ATTRIBUTE.accessed,
    base,
    limit,
    offsetLow: gate.offsetLow,
    offsetHigh: gate.offsetHigh,
  };
  const oldSelector = view.selector(SS);
  const oldLow = view.gprLow(4);
  const oldHigh = view.gprHigh(4);
  if (code64) {
    pointerFromTss(parts, newCpl);
    checkTarget(true, limit, gate.offsetLow, gate.offsetHigh);
    stack.push(8, oldSelector, 0);
    stack.push(8, oldLow, oldHigh);
    pushReturn(parts, 8);
    segments.assignNull(SS, newCpl);
    stack.commit();
    enterCode(parts, target);
    return;
  }
  const parameters = readParameters(parts, gate);
  const { selector: newStack, pointer } = innerStack(parts, newCpl, 0);
  if ((newStack & 0xfffc) === 0) throw new GuestFault(EXCEPTION.TS, 0);
  segments.checkStack(newStack, newCpl, EXCEPTION.TS, 0);
  segments.mark(ATTRIBUTE.accessed);
  const { attributes: rights, base: stackBase, limit: stackLimit } = segments;
  stack.useSegment(rights, stackBase, stackLimit, pointer, newCpl < 3, selectorError(newStack, 0));
  checkTarget(false, limit, gate.offsetLow, 0);
  stack.push(gate.bytes, oldSelector, 0);
  stack.push(gate.bytes, oldLow, 0);
  for (const parameter of parameters) stack.push(gate.bytes, parameter, 0);
  pushReturn(parts, gate.bytes);
  view.setSegment(SS, newStack, rights, stackLimit, stackBase, 0);
  stack.commit();
  enterCode(parts, target);
}

/** The caller's parameters in the order in which they are pushed again: the highest first. */
function readParameters({ stack }: SystemParts, gate: CallGate): number[] {
  stack.useCurrent(false, 0);
  const values: number[] = [];
  for (let i = 0; i < gate.parameters; i++) values.unshift(stack.pop(gate.bytes));
  return values;
}

/** Takes RSPn of a 64-bit TSS as the stack in hand. */
function pointerFromTss({ view, memory, stack }: SystemParts, cpl: number): void {
  const offset = 4 + cpl * 8;
  const error = selectorError(view.selector(TR), 0);
  if (offset + 7 > view.limit(TR)) throw new GuestFault(EXCEPTION.TS, error);
  const low = view.baseLow(TR);
  memory.load64(addLow(low, offset), view.baseHigh(TR) + carry(low, offset), true);
  if (!canonical(memory.high)) throw new GuestFault(EXCEPTION.SS, 0);
  stack.use64(memory.low, memory.high, false, cpl < 3, 0);
}

/** RET far; `release` bytes of parameters are dropped from both stacks. */
export function farReturn(parts: SystemParts, bits: OperandBits, release: number): void {
  const { host, view, segments, stack } = parts;
  const bytes = bytesOf(bits);
  stack.useCurrent(false, 0);
  const low = stack.pop(bytes);
  const high = stack.high;
  const selector = stack.pop(bytes) & 0xffff;
  if (!view.usesDescriptors) {
    checkTarget(false, view.limit(CS), low, high);
    stack.skip(release);
    stack.commit();
    enterRealCode(parts, selector, low);
    return;
  }
  fetchTarget(parts, selector);
  checkReturnCode(parts, selector);
  segments.mark(ATTRIBUTE.accessed);
  const { attributes, base, limit } = segments;
  const code64 = segments.is64(attributes);
  checkTarget(code64, limit, low, high);
  stack.skip(release);
  const rpl = selector & 3;
  const outer = rpl > view.cpl;
  if (outer) {
    const pointerLow = stack.pop(bytes);
    const pointerHigh = stack.high;
    const stackSelector = stack.pop(bytes) & 0xffff;
    const hasStack = fetchReturnStack(parts, stackSelector, rpl, code64);
    if (code64) stack.use64(pointerLow, pointerHigh, false, false, 0);
    else stack.useSegment(segments.attributes, 0, 0, pointerLow, false, 0);
    stack.skip(release);
    if (hasStack) segments.assign(SS, stackSelector);
    else segments.assignNull(SS, stackSelector);
  }
  view.setSegment(CS, selector, attributes, limit, base, 0);
  view.cpl = rpl;
  stack.commit();
  view.setHalves(STATE.rip, low, high);
  if (outer) segments.dropPrivileged(rpl);
  host.viewChanged();
}
