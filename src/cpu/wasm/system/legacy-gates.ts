/**
 * Delivery of events outside long mode: the real-mode vector table and protected mode's 16- and 32-bit gates, from
 * virtual-8086 mode too. [SDM 3 §6.11, §6.12, §20.1.4, §20.3; SDM 2 INT n]
 */

import { AC, IF, NT, RF, TF, VM } from "../../../isa/flags.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CS, DS, ES, FS, GS, SS, TR } from "../state-view.ts";
import type { EventSource, SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, SYSTEM_TYPE, selectorError } from "./segments.ts";
import { switchTask, TaskFault } from "./task-switch.ts";

const IDT_ERROR = 2;

/** Real mode: the vector table at IDTR, no error codes. */
export function enterRealVector({ host, view, memory, segments, stack }: SystemParts, vector: number): void {
  const entry = vector * 4;
  if (entry + 3 > view.low(STATE.idtrLimit)) throw new GuestFault(EXCEPTION.GP, 0);
  const target = memory.load32((view.low(STATE.idtrBase) + entry) >>> 0, 0, true);
  stack.useCurrent(true, 0);
  stack.push(2, view.rflags, 0);
  stack.push(2, view.selector(CS), 0);
  stack.push(2, view.low(STATE.rip), 0);
  stack.commit();
  segments.assignReal(CS, target >>> 16);
  view.setHalves(STATE.rip, target & 0xffff, 0);
  view.systemFlags &= ~(IF | TF | AC | RF);
  host.viewChanged();
}

/** The stack of privilege `cpl` in the present TSS: selector and pointer. [SDM 3 §7.2.1, §7.6] */
export function innerStack(
  { view, memory }: SystemParts,
  cpl: number,
  ext: number,
): { selector: number; pointer: number } {
  const wide = (view.attributes(TR) & ATTRIBUTE.code) !== 0;
  const offset = wide ? 4 + cpl * 8 : 2 + cpl * 4;
  const bytes = wide ? 6 : 4;
  if (offset + bytes - 1 > view.limit(TR)) throw new GuestFault(EXCEPTION.TS, selectorError(view.selector(TR), ext));
  const at = (view.baseLow(TR) + offset) >>> 0;
  const pointer = wide ? memory.load32(at, 0, true) : memory.load16(at, 0, true);
  return { selector: memory.load16((at + (wide ? 4 : 2)) >>> 0, 0, true), pointer };
}

/** An event by a task gate; its error code goes on the new task's stack, as wide as its TSS. [SDM 3 §6.12.2] */
function enterTask(parts: SystemParts, selector: number, errorCode: number | undefined, ext: number, rf: number): void {
  const wide = switchTask(parts, selector, "event", { ext, rf });
  if (errorCode === undefined) return;
  const { view, stack } = parts;
  try {
    stack.useCurrent(view.cpl < 3, ext);
    stack.push(wide ? 4 : 2, errorCode, 0);
    stack.commit();
  } catch (fault) {
    if (!(fault instanceof GuestFault)) throw fault;
    throw new TaskFault(fault.vector, fault.errorCode);
  }
}

export function enterProtectedGate(
  parts: SystemParts,
  vector: number,
  errorCode: number | undefined,
  source: EventSource,
  rf: number,
): void {
  const { host, view, memory, segments, stack } = parts;
  const ext = source === "software" ? 0 : 1;
  const gateError = (vector << 3) | IDT_ERROR | ext;
  const entry = vector * 8;
  if (entry + 7 > view.low(STATE.idtrLimit)) throw new GuestFault(EXCEPTION.GP, gateError);
  memory.load64((view.low(STATE.idtrBase) + entry) >>> 0, 0, true);
  const gateLow = memory.low;
  const gateHigh = memory.high;
  const type = (gateHigh >>> 8) & 0x1f;
  const isGate = type === SYSTEM_TYPE.taskGate || (type & ~9) === 6;
  const cpl = view.cpl;
  if (!isGate) throw new GuestFault(EXCEPTION.GP, gateError);
  if (source === "software" && ((gateHigh >>> 13) & 3) < cpl) throw new GuestFault(EXCEPTION.GP, gateError);
  if ((gateHigh & 0x8000) === 0) throw new GuestFault(EXCEPTION.NP, gateError);
  const selector = gateLow >>> 16;
  if (type === SYSTEM_TYPE.taskGate) {
    enterTask(parts, selector, errorCode, ext, rf);
    return;
  }

  if ((selector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.GP, ext);
  segments.fetch(selector, EXCEPTION.GP, ext);
  const { attributes, base, limit } = segments;
  const dpl = dplOf(attributes);
  const selectorFault = selectorError(selector, ext);
  if (!isCode(attributes) || dpl > cpl) throw new GuestFault(EXCEPTION.GP, selectorFault);
  if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, selectorFault);
  const inner = !isConforming(attributes) && dpl < cpl;
  const newCpl = inner ? dpl : cpl;
  const fromVirtual = view.virtual8086;
  if (fromVirtual && newCpl !== 0) throw new GuestFault(EXCEPTION.GP, selectorFault);
  segments.mark(ATTRIBUTE.accessed);
  const wide = (type & 8) !== 0;
  const target = wide ? ((gateLow & 0xffff) | (gateHigh & 0xffff_0000)) >>> 0 : gateLow & 0xffff;
  if (target > limit) throw new GuestFault(EXCEPTION.GP, ext);

  let newStack = { selector: 0, attributes: 0, base: 0, limit: 0 };
  if (inner) {
    const { selector: stackSelector, pointer } = innerStack(parts, newCpl, ext);
    if ((stackSelector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.TS, ext);
    segments.checkStack(stackSelector, newCpl, EXCEPTION.TS, ext);
    segments.mark(ATTRIBUTE.accessed);
    newStack = { selector: stackSelector, attributes: segments.attributes, base: segments.base, limit: segments.limit };
    const full = selectorError(stackSelector, ext);
    stack.useSegment(newStack.attributes, newStack.base, newStack.limit, pointer, newCpl < 3, full);
  } else {
    stack.useCurrent(newCpl < 3, ext);
  }
  const bytes = wide ? 4 : 2;
  const flags = view.rflags;
  if (fromVirtual) for (const segment of [GS, FS, DS, ES]) stack.push(bytes, view.selector(segment), 0);
  if (inner) {
    stack.push(bytes, view.selector(SS), 0);
    stack.push(bytes, view.gprLow(4), 0);
  }
  stack.push(bytes, (flags & ~RF) | rf, 0);
  stack.push(bytes, view.selector(CS), 0);
  stack.push(bytes, view.low(STATE.rip), 0);
  if (errorCode !== undefined) stack.push(bytes, errorCode, 0);

  // Nothing below can fault.
  view.systemFlags &= (type & 1) === 0 ? ~(TF | NT | RF | VM | IF) : ~(TF | NT | RF | VM);
  if (fromVirtual) for (const segment of [GS, FS, DS, ES]) view.setSegment(segment, 0, 0, 0, 0, 0);
  if (inner) view.setSegment(SS, newStack.selector, newStack.attributes, newStack.limit, newStack.base, 0);
  view.setSegment(CS, (selector & 0xfffc) | newCpl, attributes | ATTRIBUTE.accessed, limit, base, 0);
  view.cpl = newCpl;
  stack.commit();
  view.setHalves(STATE.rip, target, 0);
  host.viewChanged();
}
