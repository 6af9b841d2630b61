/** What device tests share: a clock moved by hand, a line that counts, a place for state. */

import type { GuestClock } from "../cpu/vcpu.ts";
import type { IrqLine } from "./device.ts";
import { StateArena } from "./state.ts";

export class ManualClock implements GuestClock {
  readonly tscHz = 2_000_000_000;
  /** 2024-02-28 22:13:20.5 UTC. */
  readonly bootTime = 1_709_158_400_500_000_000n;
  /** Guest ns. */
  time = 0;

  now(): number {
    return this.time;
  }
}

export class CountingLine implements IrqLine {
  level = false;
  /** Rising edges. */
  edges = 0;

  raise(): void {
    if (!this.level) this.edges++;
    this.level = true;
  }

  lower(): void {
    this.level = false;
  }

  pulse(): void {
    this.raise();
    this.lower();
  }
}

export const newArena = (sizeBytes = 2 ** 19): StateArena => new StateArena(new SharedArrayBuffer(sizeBytes));

/** xorshift32: the same numbers for the same seed; 32 bits, unsigned. */
export const randomNumbers = (seed: number): (() => number) => {
  let x = seed | 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
};
