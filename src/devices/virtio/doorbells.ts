/**
 * What passes between a virtio device's registers, which any vCPU's thread enters, and its queues, which the I/O thread
 * walks: doorbells one way, work in flight the other. It lies in shared memory beside the devices' state and is no part
 * of it: a saved VM has no work in flight, and whoever loads a state rings every queue.
 */

import type { StateArena } from "../state.ts";

/** Words of the header, then of each device. */
const SIGNAL = 0;
const WAITS = 1;
const HEADER_WORDS = 2;
const KICKS = 0;
const BUSY = 1;
const RESETTING = 2;
const DEVICE_WORDS = 3;

export class Doorbells {
  readonly #words: Int32Array;

  constructor(arena: StateArena, devices: number) {
    const count = HEADER_WORDS + DEVICE_WORDS * devices;
    this.#words = new Int32Array(arena.buffer, arena.take(4 * count), count);
  }

  /** Tells the I/O thread to look. Any thread. */
  ring(): void {
    Atomics.add(this.#words, SIGNAL, 1);
    if (Atomics.exchange(this.#words, WAITS, 0) !== 0) Atomics.notify(this.#words, SIGNAL);
  }

  /** What `rung` compares with: take it before looking for work. */
  ticket(): number {
    return Atomics.load(this.#words, SIGNAL);
  }

  /** Resolves once something rang since `ticket` was taken. It does not keep Node's event loop alive by itself. */
  async rung(ticket: number): Promise<void> {
    Atomics.store(this.#words, WAITS, 1);
    const wait = Atomics.waitAsync(this.#words, SIGNAL, ticket);
    if (wait.async) await wait.value;
  }

  device(index: number): Work {
    return new Work(this, this.#words.subarray(HEADER_WORDS + index * DEVICE_WORDS));
  }
}

/** One device's share. `busy` and `resetting` are touched under the board's lock only. */
export class Work {
  readonly #bells: Doorbells;
  readonly #words: Int32Array;

  constructor(bells: Doorbells, words: Int32Array) {
    this.#bells = bells;
    this.#words = words;
  }

  /** The driver made something available in a queue. */
  kick(queue: number): void {
    Atomics.or(this.#words, KICKS, 1 << queue);
    this.#bells.ring();
  }

  kickAll(): void {
    Atomics.store(this.#words, KICKS, -1);
    this.#bells.ring();
  }

  /** Queues kicked since the last call, one bit each. */
  takeKicks(): number {
    return Atomics.exchange(this.#words, KICKS, 0);
  }

  /** Chains taken and not completed. */
  get busy(): number {
    return this.#words[BUSY] ?? 0;
  }
  set busy(count: number) {
    this.#words[BUSY] = count;
  }

  /** The driver has reset the device, which waits for its work in flight. */
  get resetting(): boolean {
    return this.#words[RESETTING] !== 0;
  }
  set resetting(value: boolean) {
    this.#words[RESETTING] = value ? 1 : 0;
  }
}
