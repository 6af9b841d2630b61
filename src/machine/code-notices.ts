/**
 * How the I/O thread makes the vCPU's thread forget code that a device has overwritten.
 *
 * The engine keeps a byte per page of RAM that says whether decoded code lies there; a device's write asks it page by
 * page, which is all it costs as long as there is none. Where there is, the page is put on a list in shared memory, and
 * the guest is not told of the request's end before the vCPU's thread, between two slices, has forgotten that page.
 * The engine marks a page before it reads code from it, and a device asks after it has written: whichever comes first,
 * one of them sees the other.
 */

import { CODE_MAP } from "../cpu/wasm/layout.ts";
import type { SharedLock } from "../devices/lock.ts";
import type { StateArena } from "../devices/state.ts";
import type { Dma } from "../devices/virtio/service.ts";
import { ENGINE_BYTES, type GuestMemory } from "../memory/guest-memory.ts";

export const PAGE_BYTES = 4096;

/** Words. Requests are numbered; all up to DONE are served. */
const REQUESTED = 0;
const DONE = 1;
const COUNT = 2;
const PAGES = 3;
const MOST_PAGES = 125;
const WORDS = PAGES + MOST_PAGES;

/** Both threads' view of the list. Reading and writing it takes the board's lock. */
export class CodeNotices {
  readonly #words: Int32Array;

  constructor(arena: StateArena) {
    this.#words = new Int32Array(arena.buffer, arena.take(4 * WORDS), WORDS);
  }

  /** Whether there is anything to forget; without the lock. */
  get waiting(): boolean {
    return Atomics.load(this.#words, REQUESTED) !== Atomics.load(this.#words, DONE);
  }

  /** Adds pages, by number from RAM's start; gives what `done` takes. */
  request(pages: readonly number[]): number {
    const words = this.#words;
    let count = words[COUNT] ?? 0;
    for (const page of pages) {
      if (count < MOST_PAGES) words[PAGES + count] = page;
      // A list that is full stays so: then all code is forgotten.
      count = Math.min(count + 1, MOST_PAGES + 1);
    }
    words[COUNT] = count;
    return Atomics.add(words, REQUESTED, 1) + 1;
  }

  /** The pages of all requests so far, or "all"; they count as forgotten once this returns. */
  take(): readonly number[] | "all" {
    const words = this.#words;
    const count = words[COUNT] ?? 0;
    const pages = count > MOST_PAGES ? "all" : Array.from(words.subarray(PAGES, PAGES + count));
    words[COUNT] = 0;
    return pages;
  }

  /** The vCPU's thread has forgotten what `take` gave. With the same hold of the lock. */
  finish(): void {
    Atomics.store(this.#words, DONE, Atomics.load(this.#words, REQUESTED));
    Atomics.notify(this.#words, DONE);
  }

  /** Resolves once request `number` is served. */
  async done(number: number): Promise<void> {
    for (;;) {
      const done = Atomics.load(this.#words, DONE);
      if (((done - number) | 0) >= 0) return;
      const wait = Atomics.waitAsync(this.#words, DONE, done);
      if (wait.async) await wait.value;
    }
  }
}

/** What a device's writes need of the machine. */
export interface EngineDmaOptions {
  readonly memory: GuestMemory;
  readonly notices: CodeNotices;
  readonly lock: SharedLock;
  /** Makes the vCPU's thread look, wherever it waits. */
  kick(): void;
}

/** Device writes into RAM, seen by the portable engine. */
export class EngineDma implements Dma {
  readonly #options: EngineDmaOptions;
  #ended = false;

  constructor(options: EngineDmaOptions) {
    this.#options = options;
  }

  wrote(buffers: readonly Uint8Array[]): Promise<void> | undefined {
    if (this.#ended) return undefined;
    const { memory, notices, lock, kick } = this.#options;
    let pages: number[] | undefined;
    for (const { byteOffset, byteLength } of buffers) {
      const last = (byteOffset + byteLength - 1 - ENGINE_BYTES) >>> 12;
      for (let page = (byteOffset - ENGINE_BYTES) >>> 12; page <= last; page++) {
        if (Atomics.load(memory.bytes, CODE_MAP + page) !== 0) (pages ??= []).push(page);
      }
    }
    if (pages === undefined) return undefined;
    const found = pages;
    const number = lock.enter(() => notices.request(found));
    kick();
    return notices.done(number);
  }

  /** The vCPU's thread is gone: nobody runs old code any more, and nobody waits. */
  end(): void {
    this.#ended = true;
    const { lock, notices } = this.#options;
    lock.enter(() => notices.finish());
  }
}
