/** The last bytes of a console, in memory: every watcher reads from its own place, and no watcher can hold the guest up. */

export class ConsoleHistory {
  readonly #ring: Uint8Array;
  /** Bytes ever added: the offset of the next one. */
  #end = 0;

  constructor(capacityBytes: number) {
    this.#ring = new Uint8Array(capacityBytes);
  }

  get end(): number {
    return this.#end;
  }

  /** Offset of the oldest byte that is kept. */
  get start(): number {
    return Math.max(0, this.#end - this.#ring.length);
  }

  add(bytes: Uint8Array): void {
    const capacity = this.#ring.length;
    const kept = bytes.subarray(Math.max(0, bytes.length - capacity));
    const at = (this.#end + bytes.length - kept.length) % capacity;
    const first = Math.min(kept.length, capacity - at);
    this.#ring.set(kept.subarray(0, first), at);
    this.#ring.set(kept.subarray(first), 0);
    this.#end += bytes.length;
  }

  /** A copy of at most `limit` bytes from offset `from`, which lies between `start` and `end`. */
  read(from: number, limit: number): Uint8Array {
    const length = Math.max(0, Math.min(limit, this.#end - from));
    const bytes = new Uint8Array(length);
    const at = from % this.#ring.length;
    const first = Math.min(length, this.#ring.length - at);
    bytes.set(this.#ring.subarray(at, at + first));
    bytes.set(this.#ring.subarray(0, length - first), first);
    return bytes;
  }
}
