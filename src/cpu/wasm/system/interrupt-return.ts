/** IRET, IRETD and IRETQ in every mode. [SDM 2 IRET; SDM 3 §6.14.3, §20.2.5, §20.3] */

import { AC, ARITHMETIC, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM } from "../../../isa/flags.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CS, DS, ES, FS, GS, SS, TR } from "../state-view.ts";
import { canonical } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, selectorError } from "./segments.ts";
import { switchTask } from "./task-switch.ts";

export type OperandBits = 16 | 32 | 64;
const RSP = 4;
/** What IRET may always change; IF, IOPL, VIF and VIP depend on privilege. */
const RETURNED_FLAGS = ARITHMETIC | TF | DF | NT | RF | AC | ID;

/** RFLAGS with the bits of `mask` taken from `popped`; a 16-bit IRET changes the low half alone. */
function returnFlags({ view }: SystemParts, popped: number, mask: number, bits: OperandBits): void {
  const changed = bits === 16 ? mask & 0xffff : mask;
  view.rflags = (view.rflags & ~changed) | (popped & changed);
}

/** The flags that IRET may change at a privilege. [SDM 3 §6.8.1] */
function flagsMask(cpl: number, flags: number): number {
  let mask = RETURNED_FLAGS;
  if (cpl <= (flags & IOPL) >> 12) mask |= IF;
  if (cpl === 0) mask |= IOPL | VIF | VIP;
  return mask;
}

export function interruptReturn(parts: SystemParts, bits: OperandBits): void {
  const { view } = parts;
  if (!view.usesDescriptors) returnReal(parts, bits);
  else if ((view.systemFlags & NT) !== 0) returnNested(parts);
  else returnProtected(parts, bits);
}

/** A return to the task that this one is nested in; #GP(0) in long mode, which has no tasks. */
function returnNested(parts: SystemParts): void {
  const { view, memory } = parts;
  if (view.longModeActive) throw new GuestFault(EXCEPTION.GP, 0);
  switchTask(parts, memory.load16(view.baseLow(TR), 0, true), "return");
}

function returnReal(parts: SystemParts, bits: OperandBits): void {
  const { host, view, segments, stack } = parts;
  const virtual = view.virtual8086;
  if (virtual && (view.systemFlags & IOPL) !== IOPL) throw new GuestFault(EXCEPTION.GP, 0);
  const bytes = bits === 16 ? 2 : 4;
  stack.useCurrent(false, 0);
  const ip = stack.pop(bytes);
  const selector = stack.pop(bytes) & 0xffff;
  const flags = stack.pop(bytes);
  if (ip > view.limit(CS)) throw new GuestFault(EXCEPTION.GP, 0);
  stack.commit();
  segments.assignReal(CS, selector);
  view.setHalves(STATE.rip, ip, 0);
  // VM, VIF and VIP stay; so does IOPL in virtual-8086 mode.
  returnFlags(parts, flags, RETURNED_FLAGS | IF | (virtual ? 0 : IOPL), bits);
  host.viewChanged();
}

/** Checks the code segment fetched last as the target of a return to `selector`. [SDM 2 RET, IRET] */
export function checkReturnCode({ view, segments }: SystemParts, selector: number): void {
  const { attributes } = segments;
  const rpl = selector & 3;
  const dpl = dplOf(attributes);
  const privileged = isConforming(attributes) ? dpl <= rpl : dpl === rpl;
  const bothSizes = view.longModeActive && (attributes & ATTRIBUTE.long) !== 0 && (attributes & ATTRIBUTE.big) !== 0;
  if (!isCode(attributes) || rpl < view.cpl || !privileged || bothSizes) {
    throw new GuestFault(EXCEPTION.GP, selectorError(selector, 0));
  }
  if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, selectorError(selector, 0));
}

/** #GP(0) where a new instruction pointer is not canonical in 64-bit code, or beyond the limit elsewhere. */
export function checkTarget(code64: boolean, limit: number, low: number, high: number): void {
  if (code64 ? !canonical(high) : high !== 0 || low > limit) throw new GuestFault(EXCEPTION.GP, 0);
}

/** Fetches the stack segment that a return to privilege `cpl` pops, checked; false for a null one, which only 64-bit
 * code inside ring 3 may have. */
export function fetchReturnStack({ segments }: SystemParts, selector: number, cpl: number, code64: boolean): boolean {
  if ((selector & 0xfffc) === 0) {
    if (!code64 || cpl === 3 || (selector & 3) !== cpl) throw new GuestFault(EXCEPTION.GP, 0);
    return false;
  }
  segments.checkStack(selector, cpl, EXCEPTION.GP, 0);
  segments.mark(ATTRIBUTE.accessed);
  return true;
}

function returnProtected(parts: SystemParts, bits: OperandBits): void {
  const { host, view, segments, stack } = parts;
  const bytes = bits === 64 ? 8 : bits === 32 ? 4 : 2;
  const { cpl } = view;
  const from64 = view.mode64;
  stack.useCurrent(false, 0);
  const ripLow = stack.pop(bytes);
  const ripHigh = stack.high;
  const selector = stack.pop(bytes) & 0xffff;
  const flags = stack.pop(bytes);
  if ((flags & VM) !== 0 && cpl === 0 && bits === 32 && !view.longModeActive) {
    returnVirtual(parts, ripLow, selector, flags);
    return;
  }
  if ((selector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.GP, 0);
  segments.fetch(selector, EXCEPTION.GP, 0);
  checkReturnCode(parts, selector);
  segments.mark(ATTRIBUTE.accessed);
  const { attributes, limit, base } = segments;
  const code64 = segments.is64(attributes);
  checkTarget(code64, limit, ripLow, ripHigh);

  const rpl = selector & 3;
  const switches = rpl > cpl || from64;
  let stackSelector = 0;
  if (switches) {
    const pointerLow = stack.pop(bytes);
    const pointerHigh = stack.high;
    stackSelector = stack.pop(bytes) & 0xffff;
    const hasStack = fetchReturnStack(parts, stackSelector, rpl, code64);
    if (code64) stack.use64(pointerLow, pointerHigh, false, false, 0);
    else stack.useSegment(segments.attributes, 0, 0, pointerLow, false, 0);
    if (hasStack) segments.assign(SS, stackSelector);
    else segments.assignNull(SS, stackSelector);
  }

  // Nothing below can fault.
  view.setSegment(CS, selector, attributes, limit, base, 0);
  view.cpl = rpl;
  stack.commit();
  view.setHalves(STATE.rip, ripLow, ripHigh);
  const before = view.systemFlags;
  returnFlags(parts, flags, flagsMask(cpl, before), bits);
  if (rpl > cpl) segments.dropPrivileged(rpl);
  const flagsMatter = ((before ^ view.systemFlags) & (TF | AC)) !== 0;
  if (!from64 || !code64) host.viewChanged();
  else if (rpl !== cpl || flagsMatter) host.privilegeChanged();
}

/** From ring 0 back to virtual-8086 mode: the frame holds the data segments too. */
function returnVirtual({ host, view, stack }: SystemParts, ip: number, selector: number, flags: number): void {
  const pointer = stack.pop(4);
  const selectors = [SS, ES, DS, FS, GS].map((segment) => [segment, stack.pop(4) & 0xffff] as const);
  if (ip > 0xffff) throw new GuestFault(EXCEPTION.GP, 0);
  view.rflags = flags & (RETURNED_FLAGS | IF | IOPL | VIF | VIP | VM);
  for (const [segment, value] of [[CS, selector] as const, ...selectors]) {
    view.setSegment(segment, value, 0xf3, 0xffff, value << 4, 0);
  }
  view.cpl = 3;
  view.setGprHalves(RSP, pointer, 0);
  view.setHalves(STATE.rip, ip, 0);
  host.viewChanged();
}
