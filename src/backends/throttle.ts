/**
 * Holds a disk to so many bytes and requests a second. Each request pushes a point in time ahead by what it costs; it
 * waits while that point is further ahead than a burst (the generic cell rate algorithm, ITU-T I.371, as a leaky
 * bucket): over any second or more the mean holds, and a short burst is not delayed.
 */

export interface DiskLimits {
  /** Reads and writes together; absent: no limit. */
  readonly bytesPerSecond?: number;
  readonly requestsPerSecond?: number;
}

/** How far a disk may run ahead of its rate, in milliseconds. */
const BURST_MS = 100;

interface Waiter {
  readonly timer: ReturnType<typeof setTimeout>;
  readonly go: () => void;
}

export class Throttle {
  readonly #limits: DiskLimits;
  readonly #waiting = new Set<Waiter>();
  readonly #now: () => number;
  /** When all that was admitted would be paid for, in milliseconds. */
  #paid = 0;

  /** `now`: milliseconds that never go back. */
  constructor(limits: DiskLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Resolves when a request of so many bytes may go on. */
  async admit(bytes: number): Promise<void> {
    const { bytesPerSecond = Infinity, requestsPerSecond = Infinity } = this.#limits;
    const now = this.#now();
    const wait = this.#paid - BURST_MS - now;
    this.#paid = Math.max(this.#paid, now) + Math.max(bytes / bytesPerSecond, 1 / requestsPerSecond) * 1000;
    if (wait <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = {
      timer: setTimeout(() => {
        this.#waiting.delete(waiter);
        resolve();
      }, wait),
      go: resolve,
    };
    this.#waiting.add(waiter);
    await promise;
  }

  /** Lets all that waits go on at once: whoever asked stands still, and is not to be waited for. */
  hurry(): void {
    for (const { timer, go } of this.#waiting) {
      clearTimeout(timer);
      go();
    }
    this.#waiting.clear();
    this.#paid = 0;
  }
}
