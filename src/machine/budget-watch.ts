/**
 * Looks at what a VM uses whose guest need not leave its engine by itself, and brings it out where its budget of
 * processor time may be used up, so that its thread looks too (cpu-limiter.ts). A guest that idles is left alone: each
 * time it is brought out costs it more than it uses.
 */

import type { CpuMeter } from "./cpu-limiter.ts";

/** Between two looks at a VM that uses little of its budget, in ms; the longest time between any two. */
const LONGEST_MS = 50;
/**
 * A look costs 0.3 ms of processor time (measured). One that may use a processor is looked at 50 times a second; a small
 * budget more often, so that it runs by short turns, but for one look in 0.5 ms of it.
 */
const USUAL_MS = 20;
const TURN_MS = 50;
const LOOK_COST_MS = 0.5;
/** What part of its budget a VM uses at the least that is near it. */
const NEAR = 0.75;

export class BudgetWatch {
  readonly #meter: CpuMeter;
  readonly #kick: () => void;
  readonly #processors: number;
  #sinceMs: number;
  #sinceUsed: number;
  #near = false;

  /** `processors` is the budget; `kick` brings the guest out. */
  constructor(processors: number, meter: CpuMeter, kick: () => void) {
    this.#processors = processors;
    this.#meter = meter;
    this.#kick = kick;
    this.#sinceMs = meter.now();
    this.#sinceUsed = meter.usedMicros();
  }

  /** Kicks where that is due; result: ms until it is to be called again. */
  look(): number {
    const elapsed = this.#meter.now() - this.#sinceMs;
    if (elapsed >= LONGEST_MS) {
      // Over the longest time between looks, since one that is held to its budget runs and sleeps by turns.
      const used = this.#meter.usedMicros();
      this.#near = used - this.#sinceUsed > NEAR * this.#processors * elapsed * 1000;
      [this.#sinceMs, this.#sinceUsed] = [this.#sinceMs + elapsed, used];
    }
    if (!this.#near) return LONGEST_MS;
    this.#kick();
    const turn = Math.min(TURN_MS * this.#processors, USUAL_MS);
    return Math.min(Math.max(LOOK_COST_MS / this.#processors, turn), LONGEST_MS);
  }
}
