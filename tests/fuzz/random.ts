/** Deterministic randomness: sfc32 (Chris Doty-Humphrey's Small Fast Counter), seeded per case so that any case can be made alone. */

export class Random {
  #a = 0;
  #b = 0;
  #c = 0;
  #counter = 1;

  /** Starts the sequence of (`seed`, `stream`); each any integer, of which 32 and 53 bits count. */
  seed(seed: number, stream: number): this {
    this.#a = seed | 0;
    this.#b = stream | 0;
    this.#c = Math.floor(stream / 2 ** 32) | 0;
    this.#counter = 1;
    for (let i = 0; i < 12; i++) this.u32();
    return this;
  }

  /** 0 to 2^32 - 1. */
  u32(): number {
    const t = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t;
    return t >>> 0;
  }

  /** 0 to `limit` - 1; `limit` up to 2^32. */
  below(limit: number): number {
    return Math.floor((this.u32() / 2 ** 32) * limit);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32;
  }

  pick<T>(from: readonly T[]): T {
    const item = from[this.below(from.length)];
    if (item === undefined) throw new RangeError("pick from an empty list");
    return item;
  }
}
