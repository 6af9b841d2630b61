/**
 * A ring of bytes in shared memory, from one thread to one other, without a lock. How a console's bytes pass between
 * the vCPU's thread and the host's.
 */

import { mayBlock } from "./lock.ts";
import type { StateArena } from "./state.ts";

const HEAD = 0; // bytes ever written, modulo 2^32
const TAIL = 1; // bytes ever read
const READER_WAITS = 2;
const WRITER_WAITS = 3;
const HEADER_BYTES = 16;

export class ByteRing {
  readonly #words: Int32Array;
  readonly #data: Uint8Array;
  readonly #mask: number;

  /** `capacity` in bytes: a power of two. */
  constructor(arena: StateArena, capacity: number) {
    const offset = arena.take(HEADER_BYTES + capacity);
    this.#words = new Int32Array(arena.buffer, offset, 4);
    this.#data = new Uint8Array(arena.buffer, offset + HEADER_BYTES, capacity);
    this.#mask = capacity - 1;
  }

  /** Bytes waiting to be read. */
  get length(): number {
    return (Atomics.load(this.#words, HEAD) - Atomics.load(this.#words, TAIL)) | 0;
  }

  get room(): number {
    return this.#data.length - this.length;
  }

  /** Writes one byte; false where the ring is full. */
  push(byte: number): boolean {
    const head = Atomics.load(this.#words, HEAD);
    if (((head - Atomics.load(this.#words, TAIL)) | 0) === this.#data.length) return false;
    this.#data[head & this.#mask] = byte;
    this.#advance(HEAD, READER_WAITS, head + 1);
    return true;
  }

  /** Writes as many bytes as there is room for; result: how many. */
  write(bytes: Uint8Array): number {
    const head = Atomics.load(this.#words, HEAD);
    const count = Math.min(bytes.length, this.room);
    for (let i = 0; i < count; i++) this.#data[(head + i) & this.#mask] = bytes[i] ?? 0;
    if (count > 0) this.#advance(HEAD, READER_WAITS, head + count);
    return count;
  }

  /** Reads one byte, -1 where there is none. */
  shift(): number {
    const tail = Atomics.load(this.#words, TAIL);
    if (tail === Atomics.load(this.#words, HEAD)) return -1;
    const byte = this.#data[tail & this.#mask] ?? 0;
    this.#advance(TAIL, WRITER_WAITS, tail + 1);
    return byte;
  }

  /** Reads all that is there: a copy. */
  read(): Uint8Array<ArrayBuffer> {
    const tail = Atomics.load(this.#words, TAIL);
    const bytes = new Uint8Array(this.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.#data[(tail + i) & this.#mask] ?? 0;
    if (bytes.length > 0) this.#advance(TAIL, WRITER_WAITS, tail + bytes.length);
    return bytes;
  }

  /** What waits in the ring: a copy, which stays there too. Call it, as `load`, while nobody reads or writes. */
  save(): Uint8Array {
    const tail = Atomics.load(this.#words, TAIL);
    return Uint8Array.from({ length: this.length }, (_, i) => this.#data[(tail + i) & this.#mask] ?? 0);
  }

  /** Puts these bytes in the place of what waits; false, and nothing is changed, where there is no room for them. */
  load(bytes: Uint8Array): boolean {
    if (bytes.length > this.#data.length) return false;
    this.read();
    this.write(bytes);
    return true;
  }

  #advance(word: number, waits: number, value: number): void {
    Atomics.store(this.#words, word, value);
    if (Atomics.exchange(this.#words, waits, 0) !== 0) Atomics.notify(this.#words, word);
  }

  /** Resolves once there is something to read. It does not keep Node's event loop alive by itself. */
  readable(): Promise<void> {
    return this.#until(HEAD, READER_WAITS, () => this.length > 0);
  }

  /** Resolves once there is room to write. */
  writable(): Promise<void> {
    return this.#until(TAIL, WRITER_WAITS, () => this.room > 0);
  }

  async #until(word: number, waits: number, ready: () => boolean): Promise<void> {
    for (;;) {
      const seen = Atomics.load(this.#words, word);
      Atomics.store(this.#words, waits, 1);
      if (ready()) return;
      const wait = Atomics.waitAsync(this.#words, word, seen);
      if (wait.async) await wait.value;
    }
  }

  /** Blocks this thread for at most `ms` until there is room; at once where the thread may not block. */
  waitForRoom(ms: number): void {
    const tail = Atomics.load(this.#words, TAIL);
    Atomics.store(this.#words, WRITER_WAITS, 1);
    if (this.room === 0 && mayBlock) Atomics.wait(this.#words, TAIL, tail, ms);
  }
}
