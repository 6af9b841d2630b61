/** Guest time from the host's monotonic clock. It can be stopped, and then stands still on every thread. */

import type { GuestClock } from "../cpu/vcpu.ts";

/** The time-stamp counter's frequency unless a saved state brings another: one tick a nanosecond, so no scaling. */
export const DEFAULT_TSC_HZ = 1_000_000_000;

/** What every thread of a VM must agree on. */
export interface ClockOrigin {
  /** Host time of power-on in ms since the Unix epoch, monotonic (performance.timeOrigin + performance.now()). */
  readonly powerOnMs: number;
  readonly bootTime: bigint;
  readonly tscHz: number;
  /** Two doubles: ms that the clock has stood still so far; host ms at which it was stopped, 0 while it runs. */
  readonly stops: SharedArrayBuffer;
}

const NS_PER_MS = 1e6;
const STOPPED_FOR = 0;
const STOPPED_AT = 1;

/** `bootTime`: ns since the Unix epoch that the guest's clocks show at power-on; absent: the host's. */
export function clockOrigin(bootTime = BigInt(Date.now()) * 1_000_000n, tscHz: number = DEFAULT_TSC_HZ): ClockOrigin {
  return {
    powerOnMs: performance.timeOrigin + performance.now(),
    bootTime,
    tscHz,
    stops: new SharedArrayBuffer(16),
  };
}

/** The clock of a saved machine: it stands at `now` guest ns until it is resumed. */
export function stoppedClock({ now, bootTime, tscHz }: { now: number; bootTime: bigint; tscHz: number }): ClockOrigin {
  const stops = new SharedArrayBuffer(16);
  new Float64Array(stops)[STOPPED_AT] = now / NS_PER_MS || Number.MIN_VALUE;
  return { powerOnMs: performance.timeOrigin + performance.now(), bootTime, tscHz, stops };
}

/** Threads have time origins of their own: the difference to power-on is taken once, so that `now` keeps its precision. */
export class HostClock implements GuestClock {
  readonly tscHz: number;
  readonly bootTime: bigint;
  readonly #startMs: number;
  readonly #stops: Float64Array;

  constructor(origin: ClockOrigin) {
    this.tscHz = origin.tscHz;
    this.bootTime = origin.bootTime;
    this.#startMs = origin.powerOnMs - performance.timeOrigin;
    this.#stops = new Float64Array(origin.stops);
  }

  now(): number {
    const stoppedAt = this.#stops[STOPPED_AT] ?? 0;
    const ran = (stoppedAt === 0 ? this.#hostMs() : stoppedAt) - (this.#stops[STOPPED_FOR] ?? 0);
    return Math.max(0, Math.round(ran * NS_PER_MS));
  }

  /** Stops the clock; false: it stood still. Call it, as `resume`, while no vCPU runs, and from one thread only. */
  stop(): boolean {
    if (this.#stops[STOPPED_AT] !== 0) return false;
    this.#stops[STOPPED_AT] = this.#hostMs();
    return true;
  }

  /** Moves the stopped clock on to `now`, guest ns; never back. */
  advance(now: number): void {
    const stoppedAt = this.#stops[STOPPED_AT] ?? 0;
    if (stoppedAt !== 0) this.#stops[STOPPED_AT] = stoppedAt + Math.max(0, now - this.now()) / NS_PER_MS;
  }

  /** Lets the clock go on from where it stopped. */
  resume(): void {
    const stoppedAt = this.#stops[STOPPED_AT] ?? 0;
    if (stoppedAt === 0) return;
    const stood = this.#hostMs() - stoppedAt;
    this.#stops[STOPPED_AT] = 0;
    this.#stops[STOPPED_FOR] = (this.#stops[STOPPED_FOR] ?? 0) + stood;
  }

  /** Never 0, which means that the clock runs. */
  #hostMs(): number {
    return performance.now() - this.#startMs || Number.MIN_VALUE;
  }
}
