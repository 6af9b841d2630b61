/** Guest time from the host's monotonic clock. */

import type { GuestClock } from "../cpu/vcpu.ts";

/** The time-stamp counter's frequency unless a saved state brings another: one tick a nanosecond, so no scaling. */
export const DEFAULT_TSC_HZ = 1_000_000_000;

/** What every thread of a VM must agree on. */
export interface ClockOrigin {
  /** Host time of power-on in ms since the Unix epoch, monotonic (performance.timeOrigin + performance.now()). */
  readonly powerOnMs: number;
  readonly bootTime: bigint;
  readonly tscHz: number;
}

export function clockOrigin(): ClockOrigin {
  return {
    powerOnMs: performance.timeOrigin + performance.now(),
    bootTime: BigInt(Date.now()) * 1_000_000n,
    tscHz: DEFAULT_TSC_HZ,
  };
}

/** Threads have time origins of their own: the difference to power-on is taken once, so that `now` keeps its precision. */
export class HostClock implements GuestClock {
  readonly tscHz: number;
  readonly bootTime: bigint;
  readonly #startMs: number;

  constructor(origin: ClockOrigin) {
    this.tscHz = origin.tscHz;
    this.bootTime = origin.bootTime;
    this.#startMs = origin.powerOnMs - performance.timeOrigin;
  }

  now(): number {
    return Math.max(0, Math.round((performance.now() - this.#startMs) * 1e6));
  }
}
