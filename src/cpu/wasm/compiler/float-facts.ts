/** What is known of vector registers on one way through a region, so that it need not be tested again. */

import type { FloatType } from "../../../isa/ir.ts";

/** A register's value: zero or normal as a float of this type or in all lanes of it; or all bits zero. */
type Fact = FloatType | "zero";

export class FloatFacts {
  /** MXCSR allows the fast path. */
  ordinary = false;
  readonly #registers = new Map<number, Fact>();

  copy(): FloatFacts {
    const made = new FloatFacts();
    made.ordinary = this.ordinary;
    for (const [number, fact] of this.#registers) made.#registers.set(number, fact);
    return made;
  }

  get(number: number): Fact | undefined {
    return this.#registers.get(number);
  }
  set(number: number, fact: Fact | undefined): void {
    if (fact === undefined) this.#registers.delete(number);
    else this.#registers.set(number, fact);
  }
  isPlain(number: number, type: FloatType): boolean {
    const fact = this.#registers.get(number);
    if (fact === "zero" || fact === type) return true;
    return (fact === "f64x2" && type === "f64") || (fact === "f32x4" && type === "f32");
  }
}
