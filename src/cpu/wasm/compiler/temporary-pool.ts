/** Locals for values of a region's instructions. */

import type { ValueType } from "../../../isa/ir.ts";
import type { CodeWriter } from "../../../wasm/code.ts";

/** Gives out locals for values; those that flags still to be computed need are kept. */
export class TemporaryPool {
  readonly #code: CodeWriter;
  readonly #all: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  #taken = new Set<number>();

  constructor(code: CodeWriter) {
    this.#code = code;
  }
  take(type: ValueType): number {
    for (const local of this.#all[type]) {
      if (this.#taken.has(local)) continue;
      this.#taken.add(local);
      return local;
    }
    const made = this.#code.local(type);
    this.#all[type].push(made);
    this.#taken.add(made);
    return made;
  }
  /** What is taken now; given back to `reset`. */
  taken(): ReadonlySet<number> {
    return new Set(this.#taken);
  }
  reset(taken: ReadonlySet<number>, also: Iterable<number> = []): void {
    this.#taken = new Set([...taken, ...also]);
  }
}
