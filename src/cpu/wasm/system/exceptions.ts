/**
 * Delivery of exceptions and interrupts: the 64-bit gates here, the older ways in legacy-gates.ts.
 * [SDM 3 §6.12-6.15; SDM 2 INT n]
 */

import { IF, NT, RF, TF, VM } from "../../../isa/flags.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CS, SS, TR } from "../state-view.ts";
import { enterProtectedGate, enterRealVector } from "./legacy-gates.ts";
import { addLow, canonical, carry } from "./linear-memory.ts";
import type { EventSource, SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, selectorError } from "./segments.ts";

const DR7_GD = 1 << 13;
/** DR6: a task switch to a TSS with T set. */
const DR6_BT = 1 << 15;
/** In an error code: it names a gate of the IDT, not a selector. */
const IDT_ERROR = 2;
const IST_OFFSET = 0x24;

/** Exceptions that combine with a second one to a double fault. [SDM 3 table 6-5] */
function isContributory(vector: number): boolean {
  return vector === EXCEPTION.DE || (vector >= EXCEPTION.TS && vector <= EXCEPTION.GP);
}
function makesDoubleFault(first: number, second: number): boolean {
  if (isContributory(first)) return isContributory(second);
  return first === EXCEPTION.PF && (isContributory(second) || second === EXCEPTION.PF);
}

/** Whether an exception is a fault: its saved flags have RF set, so that the instruction restarts past its own
 * breakpoint [SDM 3 §18.3.1.1]. */
function isFault(vector: number): boolean {
  return (
    vector !== EXCEPTION.DB &&
    vector !== EXCEPTION.BP &&
    vector !== EXCEPTION.OF &&
    vector !== EXCEPTION.DF &&
    vector !== EXCEPTION.MC &&
    vector !== 2
  );
}

export class ExceptionUnit {
  readonly #parts: SystemParts;

  constructor(parts: SystemParts) {
    this.#parts = parts;
  }

  /**
   * Delivers an event with STATE.rip as the address to return to. Faults on the way become the exceptions that the
   * architecture makes of them, at last a triple fault, which asks the run loop to shut down.
   */
  deliver(vector: number, errorCode: number | undefined, source: EventSource): void {
    let event = vector;
    let code = errorCode;
    let origin = source;
    for (;;) {
      try {
        this.enter(event, code, origin);
        this.raiseTaskTrap();
        return;
      } catch (fault) {
        if (!(fault instanceof GuestFault)) throw fault;
        if (event === EXCEPTION.DF && origin === "exception") {
          this.#parts.host.requestExit("shutdown");
          return;
        }
        const doubles = origin === "exception" && makesDoubleFault(event, fault.vector);
        event = doubles ? EXCEPTION.DF : fault.vector;
        code = doubles ? 0 : fault.errorCode;
        origin = "exception";
      }
    }
  }

  /** After a switch to a task whose TSS has the T flag set: #DB before its first instruction. [SDM 3 §18.3.1.5] */
  raiseTaskTrap(): void {
    const { pending, view } = this.#parts;
    if (!pending.taskTrap) return;
    pending.taskTrap = false;
    view.setLow(STATE.dr6, view.low(STATE.dr6) | DR6_BT);
    this.deliver(EXCEPTION.DB, undefined, "exception");
  }

  /** Enters the handler of a vector once; raises GuestFault, with nothing but memory changed, where it cannot. */
  enter(vector: number, errorCode: number | undefined, source: EventSource): void {
    const { view } = this.#parts;
    // RF counts for one instruction only, so what IRET once set is not saved again.
    const rf = source === "exception" && isFault(vector) ? RF : 0;
    if (view.longModeActive) this.#enterLong(vector, errorCode, source, rf);
    else if (view.protectedMode) enterProtectedGate(this.#parts, vector, errorCode, source, rf);
    else enterRealVector(this.#parts, vector);
    if (vector === EXCEPTION.DB) view.setLow(STATE.dr7, view.low(STATE.dr7) & ~DR7_GD);
  }

  #enterLong(vector: number, errorCode: number | undefined, source: EventSource, rf: number): void {
    const { host, view, memory, segments, stack } = this.#parts;
    const ext = source === "software" ? 0 : 1;
    const gateError = (vector << 3) | IDT_ERROR | ext;
    const entry = vector * 16;
    if (entry + 15 > view.low(STATE.idtrLimit)) throw new GuestFault(EXCEPTION.GP, gateError);
    const tableLow = view.low(STATE.idtrBase);
    const tableHigh = view.high(STATE.idtrBase);
    memory.load64(addLow(tableLow, entry), tableHigh + carry(tableLow, entry), true);
    const gateLow = memory.low;
    const gateHigh = memory.high;
    const type = (gateHigh >>> 8) & 0x1f;
    const cpl = view.cpl;
    if (type !== 14 && type !== 15) throw new GuestFault(EXCEPTION.GP, gateError);
    if (source === "software" && ((gateHigh >>> 13) & 3) < cpl) throw new GuestFault(EXCEPTION.GP, gateError);
    if ((gateHigh & 0x8000) === 0) throw new GuestFault(EXCEPTION.NP, gateError);
    memory.load64(addLow(tableLow, entry + 8), tableHigh + carry(tableLow, entry + 8), true);
    const targetLow = ((gateLow & 0xffff) | (gateHigh & 0xffff_0000)) >>> 0;
    const targetHigh = memory.low;

    const selector = gateLow >>> 16;
    if ((selector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.GP, ext);
    segments.fetch(selector, EXCEPTION.GP, ext);
    const attributes = segments.attributes;
    const dpl = dplOf(attributes);
    const code64 = (attributes & (ATTRIBUTE.long | ATTRIBUTE.big)) === ATTRIBUTE.long;
    if (!isCode(attributes) || !code64 || dpl > cpl) throw new GuestFault(EXCEPTION.GP, selectorError(selector, ext));
    if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, selectorError(selector, ext));
    segments.mark(ATTRIBUTE.accessed);
    if (!canonical(targetHigh)) throw new GuestFault(EXCEPTION.GP, ext);

    const newCpl = isConforming(attributes) ? cpl : dpl;
    const ist = gateHigh & 7;
    if (ist !== 0) this.#stackFromTss(IST_OFFSET + (ist - 1) * 8, newCpl, ext);
    else if (newCpl < cpl) this.#stackFromTss(4 + newCpl * 8, newCpl, ext);
    else stack.use64(view.gprLow(4), view.gprHigh(4), true, newCpl < 3, ext);

    const flags = view.rflags;
    stack.push(8, view.selector(SS), 0);
    stack.push(8, view.gprLow(4), view.gprHigh(4));
    stack.push(8, (flags & ~RF) | rf, 0);
    stack.push(8, view.selector(CS), 0);
    stack.push(8, view.low(STATE.rip), view.high(STATE.rip));
    if (errorCode !== undefined) stack.push(8, errorCode, 0);

    // Nothing below can fault.
    const was64 = view.mode64;
    if (newCpl !== cpl) segments.assignNull(SS, newCpl);
    segments.assign(CS, (selector & 0xfffc) | newCpl);
    view.cpl = newCpl;
    stack.commit();
    view.setHalves(STATE.rip, targetLow, targetHigh);
    view.systemFlags &= type === 14 ? ~(TF | NT | RF | VM | IF) : ~(TF | NT | RF | VM);
    if (!was64) host.viewChanged();
    else if (newCpl !== cpl || (flags & TF) !== 0) host.privilegeChanged();
  }

  #stackFromTss(offset: number, newCpl: number, ext: number): void {
    const { view, memory, stack } = this.#parts;
    if (offset + 7 > view.limit(TR)) throw new GuestFault(EXCEPTION.TS, selectorError(view.selector(TR), ext));
    const low = view.baseLow(TR);
    memory.load64(addLow(low, offset), view.baseHigh(TR) + carry(low, offset), true);
    if (!canonical(memory.high)) throw new GuestFault(EXCEPTION.SS, ext);
    stack.use64(memory.low, memory.high, true, newCpl < 3, ext);
  }
}
