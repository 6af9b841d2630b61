/**
 * The local APIC's timer: one-shot, periodic, TSC-deadline. [SDM 3 §11.5.4]
 *
 * The count runs at 1 GHz before division, as CPUID tells the guest (isa/cpuid.ts), so one unit is `divisor` guest nanoseconds. Counts are computed from the
 * time of loading; nothing ticks. Assumes TSC = now() * tscHz / 1e9, as the clock's contract says.
 */

import { type LapicContext, LVT_MASKED, LVT_TIMER } from "./lapic-state.ts";

const PERIODIC = 1;
const TSC_DEADLINE = 2;
/** A periodic timer is not served more often than this, in ns: a period of 1 ns must not stop the machine. */
const MIN_PERIOD = 20_000;

const modeOf = (lvt: number): number => (lvt >> 17) & 3;
const lvtOf = ({ state }: LapicContext): number => state.lvt[LVT_TIMER] ?? LVT_MASKED;

/** Bits 3, 1 and 0 of the divide register: 2 to 128, and 111 for 1. [SDM 3 figure 11-10] */
const divisorOf = ({ state }: LapicContext): number => {
  const code = ((state.divide & 8) >> 1) | (state.divide & 3);
  return code === 7 ? 1 : 2 << code;
};

const periodOf = (context: LapicContext): number => context.state.initialCount * divisorOf(context);

export const readCurrentCount = (context: LapicContext): number => {
  const { state, clock } = context;
  const mode = modeOf(lvtOf(context));
  const initial = state.initialCount;
  if (initial === 0 || mode === TSC_DEADLINE) return 0;
  const elapsed = Math.floor((clock.now() - state.timerStart) / divisorOf(context));
  if (mode === PERIODIC) return initial - (elapsed % initial);
  return elapsed >= initial ? 0 : initial - elapsed;
};

/** Loads the initial count; zero stops the timer. */
export const restartTimer = (context: LapicContext): void => {
  const { state, clock } = context;
  if (modeOf(lvtOf(context)) === TSC_DEADLINE) return;
  state.timerStart = clock.now();
  state.timerExpiry = state.initialCount === 0 ? Infinity : state.timerStart + periodOf(context);
};

/** Writes the timer's LVT entry. A change to or from TSC-deadline mode disarms the timer. */
export const writeTimerLvt = (context: LapicContext, lvt: number): void => {
  const { state, clock } = context;
  const before = lvtOf(context);
  // What expired while masked is gone.
  if ((before & LVT_MASKED) !== 0) advanceTimer(context, clock.now());
  state.lvt[LVT_TIMER] = lvt;
  if ((modeOf(before) === TSC_DEADLINE) !== (modeOf(lvt) === TSC_DEADLINE)) {
    state.timerExpiry = Infinity;
    state.tscDeadline = 0n;
    state.initialCount = 0;
  }
};

export const timerDeadline = (context: LapicContext): number =>
  (lvtOf(context) & LVT_MASKED) !== 0 ? Infinity : context.state.timerExpiry;

/** Moves the expiry past `now`; true if it was reached. */
export const advanceTimer = (context: LapicContext, now: number): boolean => {
  const { state } = context;
  if (state.timerExpiry > now) return false;
  const period = periodOf(context);
  if (modeOf(lvtOf(context)) === PERIODIC && period > 0) {
    // Periods missed are not made up: the vector's request bit could hold only one of them.
    const missed = Math.floor((now - state.timerExpiry) / period) + 1;
    state.timerExpiry += missed * period;
    if (period < MIN_PERIOD) state.timerExpiry = now + MIN_PERIOD;
  } else {
    state.timerExpiry = Infinity;
    state.tscDeadline = 0n;
  }
  return true;
};
