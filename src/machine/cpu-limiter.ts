/**
 * Holds a VM to its budget of processor time, by measured use: a bucket fills at the budget's rate and is emptied by
 * what the process used, the engine's compile threads included. While it is empty the vCPU sleeps, and the guest's clock
 * goes on, as it does for a guest that a busy host does not run.
 */

import { CONTROL } from "./vcpu-messages.ts";

/** An idle guest may save up so much wall time of its budget, in ms: it can answer at once when it wakes. */
const BURST_MS = 200;
const LEAST_BURST_MICROS = 2000;
/**
 * A VM that used up its budget sleeps until it may run for so long again, but no longer than LONGEST_STARVED_MS for that: in
 * shorter turns it would find cold caches each time (measured at 10 % of a processor: in turns of 1 ms a third of the work
 * for the same processor time, in turns of 10 ms beside a busy neighbour five sixths).
 */
const TURN_MICROS = 20_000;
const LONGEST_STARVED_MS = 200;
/** What compile threads used may be owed for so long, in ms; beyond that it is forgiven. */
const LONGEST_DEBT_MS = 10_000;
/** A guest that has not run for so long gets a turn, whatever it owes: on a slow host what serves it may take all its budget. */
const LONGEST_PAUSE_MS = 2000;
/** Longest sleep, in ms: then the budget and the use are looked at again. */
const LONGEST_SLEEP_MS = 400;

export interface CpuMeter {
  /** Host time in ms, monotonic. */
  now(): number;
  /** µs of processor time that the process has used so far. */
  usedMicros(): number;
}

export class CpuLimiter {
  readonly #control: Int32Array;
  readonly #meter: CpuMeter;
  /** µs in the bucket. */
  #tokens = 0;
  #lastMs: number;
  /** Negative while nothing is counted. */
  #lastUsed: number;
  /** When it was last let run. */
  #ranMs: number;

  constructor(control: Int32Array, meter: CpuMeter) {
    this.#control = control;
    this.#meter = meter;
    this.#lastMs = meter.now();
    this.#ranMs = this.#lastMs;
    this.#lastUsed = meter.usedMicros();
    // What the process's start took is a debt too.
    this.#tokens = -this.#lastUsed;
  }

  /** Charges what was used since the last call; returns ms to sleep, 0 where the guest may go on. */
  charge(): number {
    const budget = Atomics.load(this.#control, CONTROL.budget);
    if (budget === 0) {
      // Without a budget nothing is counted: who gets one later begins with an empty bucket and no debt.
      this.#lastUsed = -1;
      return 0;
    }
    const now = this.#meter.now();
    const used = this.#meter.usedMicros();
    if (this.#lastUsed < 0) {
      [this.#lastUsed, this.#lastMs, this.#tokens] = [used, now, 0];
      return 0;
    }
    // Millionths of a processor over ms: thousandths of µs.
    const perMs = budget / 1000;
    const burst = Math.max(perMs * BURST_MS, LEAST_BURST_MICROS);
    const tokens = this.#tokens + (now - this.#lastMs) * perMs - (used - this.#lastUsed);
    this.#tokens = Math.max(Math.min(tokens, burst), -perMs * LONGEST_DEBT_MS);
    this.#lastMs = now;
    this.#lastUsed = used;
    const turn = Math.min(TURN_MICROS / perMs, LONGEST_STARVED_MS);
    if (now - this.#ranMs >= LONGEST_PAUSE_MS) this.#tokens = Math.max(this.#tokens, turn * perMs);
    if (this.#tokens >= 0) {
      this.#ranMs = now;
      return 0;
    }
    return Math.min(turn - this.#tokens / perMs, LONGEST_SLEEP_MS);
  }

  /** Sleeps until the bucket has something in it, or the VM is to pause or stop. */
  limit(): void {
    for (;;) {
      const ticket = Atomics.load(this.#control, CONTROL.signal);
      const ms = this.charge();
      if (ms === 0 || Atomics.load(this.#control, CONTROL.stop) !== 0) return;
      if (Atomics.load(this.#control, CONTROL.pause) !== 0) return;
      const begun = this.#meter.now();
      Atomics.wait(this.#control, CONTROL.signal, ticket, ms);
      Atomics.add(this.#control, CONTROL.throttled, Math.round((this.#meter.now() - begun) * 1000));
    }
  }
}
