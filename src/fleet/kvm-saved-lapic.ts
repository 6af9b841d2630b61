/** A local APIC as KVM has it, from and to the board's own device. [kvm api §4.57; SDM 3 §11.4, §11.5.4] */

import type { SavedInterrupts } from "./kvm-saved-interrupts.ts";

/** Offsets in the APIC's page. [SDM 3 table 11-1] */
const ID = 0x20;
const TPR = 0x80;
const LDR = 0xd0;
const DFR = 0xe0;
const SVR = 0xf0;
const ISR = 0x100;
const TMR = 0x180;
const IRR = 0x200;
const ESR = 0x280;
const ICR_LOW = 0x300;
const ICR_HIGH = 0x310;
const LVT = 0x320;
const INITIAL_COUNT = 0x380;
const CURRENT_COUNT = 0x390;
const DIVIDE = 0x3e0;

const ONE_SHOT = 0;
const TSC_DEADLINE = 2;
const modeOf = (lvt: number): number => (lvt >> 17) & 3;

type LapicState = SavedInterrupts["lapics"][number]["context"]["state"];

/** What of a local APIC KVM keeps elsewhere than in the page of its registers. */
export interface LapicSurroundings {
  /** IA32_APIC_BASE. */
  base: bigint;
  /** IA32_TSC_DEADLINE as the guest reads it. */
  deadline: bigint;
  nmiPending: boolean;
  initPending: boolean;
}

export interface GuestTime {
  /** Guest ns. */
  readonly now: number;
  readonly tscHz: number;
  /** IA32_TSC_ADJUST of the processor. */
  readonly adjustment: bigint;
}

/** ns of one unit of the timer's count, which runs at 1 GHz before division. [SDM 3 figure 11-10] */
function unitOf(divide: number): number {
  const code = ((divide & 8) >> 1) | (divide & 3);
  return code === 7 ? 1 : 2 << code;
}

export function lapicFromKvm(state: LapicState, kvm: DataView, around: LapicSurroundings, time: GuestTime): void {
  const register = (offset: number): number => kvm.getUint32(offset, true);
  state.baseAddress = Number(around.base & ~0xfffn);
  state.baseFlags = Number(around.base & 0xfffn);
  state.id = register(ID) >>> 24;
  state.tpr = register(TPR) & 0xff;
  state.ldr = register(LDR);
  state.dfr = register(DFR);
  state.svr = register(SVR);
  state.esr = register(ESR);
  state.errors = 0;
  state.icrLow = register(ICR_LOW);
  state.icrHigh = register(ICR_HIGH);
  for (let entry = 0; entry < 6; entry++) state.lvt[entry] = register(LVT + 16 * entry);
  for (let word = 0; word < 8; word++) {
    state.isr[word] = register(ISR + 16 * word);
    state.tmr[word] = register(TMR + 16 * word);
    state.irr[word] = register(IRR + 16 * word);
  }
  state.initialCount = register(INITIAL_COUNT);
  state.divide = register(DIVIDE) & 0xb;
  state.nmiPending = around.nmiPending;
  state.initPending = around.initPending;
  state.startupPending = false;
  state.startupVector = 0;
  timerFromKvm(state, register(CURRENT_COUNT), around.deadline, time);
}

function timerFromKvm(state: LapicState, current: number, deadline: bigint, { now, tscHz, adjustment }: GuestTime) {
  const mode = modeOf(state.lvt[0] ?? 0);
  state.tscDeadline = 0n;
  state.timerStart = 0;
  state.timerExpiry = Infinity;
  if (mode === TSC_DEADLINE) {
    if (deadline === 0n) return;
    state.tscDeadline = BigInt.asUintN(64, deadline - adjustment);
    const expiry = Math.ceil(Number(state.tscDeadline) * (1e9 / tscHz));
    state.timerExpiry = expiry > Number.MAX_SAFE_INTEGER ? Infinity : expiry;
  } else if (state.initialCount !== 0) {
    const unit = unitOf(state.divide);
    state.timerStart = Math.max(0, now - (state.initialCount - current) * unit);
    if (mode !== ONE_SHOT || current !== 0) state.timerExpiry = now + Math.max(current, 1) * unit;
  }
}

/** Changes `kvm`, which holds what the APIC has now; gives what belongs elsewhere. */
export function lapicToKvm(state: LapicState, kvm: DataView, { now, adjustment }: GuestTime): LapicSurroundings {
  const set = (offset: number, value: number): void => kvm.setUint32(offset, value >>> 0, true);
  set(ID, state.id << 24);
  set(TPR, state.tpr);
  set(LDR, state.ldr);
  set(DFR, state.dfr);
  set(SVR, state.svr);
  set(ESR, state.esr);
  set(ICR_LOW, state.icrLow);
  set(ICR_HIGH, state.icrHigh);
  for (let entry = 0; entry < 6; entry++) set(LVT + 16 * entry, state.lvt[entry] ?? 0);
  for (let word = 0; word < 8; word++) {
    set(ISR + 16 * word, state.isr[word] ?? 0);
    set(TMR + 16 * word, state.tmr[word] ?? 0);
    set(IRR + 16 * word, state.irr[word] ?? 0);
  }
  const mode = modeOf(state.lvt[0] ?? 0);
  // A one-shot that is over would expire again: KVM takes a current count of zero as one that is just reached.
  const over = mode === TSC_DEADLINE || (mode === ONE_SHOT && state.timerExpiry === Infinity);
  const left = Math.ceil((state.timerExpiry - now) / unitOf(state.divide));
  set(DIVIDE, state.divide);
  set(INITIAL_COUNT, over ? 0 : state.initialCount);
  set(CURRENT_COUNT, over ? 0 : Math.min(Math.max(left, 1), state.initialCount));
  return {
    base: BigInt(state.baseAddress) | BigInt(state.baseFlags),
    deadline: state.tscDeadline === 0n ? 0n : BigInt.asUintN(64, state.tscDeadline + adjustment),
    nmiPending: state.nmiPending,
    initPending: state.initPending,
  };
}
