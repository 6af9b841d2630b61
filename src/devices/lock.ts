/**
 * The board's lock: one mutex over a word of shared memory, re-entrant within a thread.
 *
 * It is held for microseconds, around one device access or one event of the host, so a waiter spins first. A thread
 * that may not block (a browser's main thread) goes on spinning.
 */

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const SPINS = 200;

/** Each thread makes its own object over the same word. */
export class SharedLock {
  readonly #word: Int32Array;
  /** How often this thread has entered. */
  #depth = 0;

  constructor(buffer: SharedArrayBuffer, offset: number) {
    this.#word = new Int32Array(buffer, offset, 1);
  }

  acquire(): void {
    if (this.#depth++ > 0) return;
    if (Atomics.compareExchange(this.#word, 0, FREE, HELD) !== FREE) this.#acquireSlowly();
  }

  #acquireSlowly(): void {
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.compareExchange(this.#word, 0, FREE, HELD) === FREE) return;
    }
    // Contended from here on: whoever releases then wakes one waiter. [Drepper, Futexes are tricky, mutex 2]
    while (Atomics.exchange(this.#word, 0, CONTENDED) !== FREE) {
      if (mayBlock) Atomics.wait(this.#word, 0, CONTENDED, 100);
    }
  }

  release(): void {
    if (--this.#depth > 0) return;
    if (Atomics.exchange(this.#word, 0, FREE) === CONTENDED) Atomics.notify(this.#word, 0, 1);
  }

  /** Runs `body` with the lock held. */
  enter<T>(body: () => T): T {
    this.acquire();
    try {
      return body();
    } finally {
      this.release();
    }
  }
}

/** Whether this thread may block in Atomics.wait. */
export const mayBlock: boolean = (() => {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
    return true;
  } catch {
    return false;
  }
})();
