/** SYSCALL, SYSRET, SYSENTER and SYSEXIT, as on Intel's processors. [SDM 2; SDM 3 §5.8.7, §5.8.8] */

import { AC, ARITHMETIC, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM } from "../../../isa/flags.ts";
import { EFER_SCE } from "../../../isa/msrs.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { FLAT_CODE32, FLAT_CODE64, FLAT_DATA } from "../../reset-state.ts";
import { GuestFault } from "../engine-host.ts";
import { CS, SS } from "../state-view.ts";
import type { OperandBits } from "./interrupt-return.ts";
import { canonical } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";

const RCX = 1;
const RDX = 2;
const RSP = 4;
const R11 = 11;
const FLAT_LIMIT = 0xffff_ffff;
const DPL3 = 3 << 5;
/** Flags that SYSRET takes from R11: all but RF and VM. */
const SYSRET_FLAGS = ARITHMETIC | TF | IF | DF | IOPL | NT | AC | VIF | VIP | ID;

/** CS and SS as these instructions set them: flat, whatever the descriptor tables say. */
function setFlat({ view }: SystemParts, selector: number, stackSelector: number, code: number, cpl: 0 | 3): void {
  const dpl = cpl === 3 ? DPL3 : 0;
  view.setSegment(CS, selector, code | dpl, FLAT_LIMIT, 0, 0);
  view.setSegment(SS, stackSelector, FLAT_DATA | dpl, FLAT_LIMIT, 0, 0);
  view.cpl = cpl;
}

export function syscall(parts: SystemParts): void {
  const { host, view } = parts;
  if ((view.low(STATE.efer) & EFER_SCE) === 0 || !view.mode64) throw new GuestFault(EXCEPTION.UD);
  const flags = view.rflags;
  view.setGprHalves(RCX, view.low(STATE.rip), view.high(STATE.rip));
  view.setGprHalves(R11, flags & ~RF, 0);
  view.setHalves(STATE.rip, view.low(STATE.lstar), view.high(STATE.lstar));
  view.rflags = flags & ~(view.low(STATE.fmask) | RF);
  const selector = view.high(STATE.star) & 0xfffc;
  setFlat(parts, selector, selector + 8, FLAT_CODE64, 0);
  host.privilegeChanged();
}

export function sysret(parts: SystemParts, bits: OperandBits): void {
  const { host, view } = parts;
  if ((view.low(STATE.efer) & EFER_SCE) === 0 || !view.mode64) throw new GuestFault(EXCEPTION.UD);
  const wide = bits === 64;
  if (wide && !canonical(view.gprHigh(RCX))) throw new GuestFault(EXCEPTION.GP, 0);
  const selector = view.high(STATE.star) >>> 16;
  view.rflags = view.gprLow(R11) & SYSRET_FLAGS;
  view.setHalves(STATE.rip, view.gprLow(RCX), wide ? view.gprHigh(RCX) : 0);
  const code = ((wide ? selector + 16 : selector) & 0xffff) | 3;
  setFlat(parts, code, ((selector + 8) & 0xffff) | 3, wide ? FLAT_CODE64 : FLAT_CODE32, 3);
  if (wide) host.privilegeChanged();
  else host.viewChanged();
}

export function sysenter(parts: SystemParts): void {
  const { host, view } = parts;
  const selector = view.low(STATE.sysenterCs) & 0xfffc;
  if (!view.protectedMode || selector === 0) throw new GuestFault(EXCEPTION.GP, 0);
  const long = view.longModeActive;
  view.systemFlags &= ~(VM | IF | RF);
  setFlat(parts, selector, selector + 8, long ? FLAT_CODE64 : FLAT_CODE32, 0);
  view.setGprHalves(RSP, view.low(STATE.sysenterEsp), long ? view.high(STATE.sysenterEsp) : 0);
  view.setHalves(STATE.rip, view.low(STATE.sysenterEip), long ? view.high(STATE.sysenterEip) : 0);
  host.viewChanged();
}

export function sysexit(parts: SystemParts, bits: OperandBits): void {
  const { host, view } = parts;
  const selector = view.low(STATE.sysenterCs) & 0xfffc;
  if (!view.protectedMode || selector === 0) throw new GuestFault(EXCEPTION.GP, 0);
  const wide = bits === 64;
  if (wide && !(canonical(view.gprHigh(RCX)) && canonical(view.gprHigh(RDX)))) throw new GuestFault(EXCEPTION.GP, 0);
  const code = ((selector + (wide ? 32 : 16)) & 0xffff) | 3;
  setFlat(parts, code, code + 8, wide ? FLAT_CODE64 : FLAT_CODE32, 3);
  view.setHalves(STATE.rip, view.gprLow(RDX), wide ? view.gprHigh(RDX) : 0);
  view.setGprHalves(RSP, view.gprLow(RCX), wide ? view.gprHigh(RCX) : 0);
  host.viewChanged();
}
