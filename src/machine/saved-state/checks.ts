/** Takes parsed data of a saved state apart; everything that is not as wanted is `saved-state-invalid`. */

import { savedStateInvalid } from "./errors.ts";
import type { Plain } from "./plain-data.ts";

const U64 = 1n << 64n;

/** One value of the manifest with its path, for messages. */
export class Checked {
  readonly #path: string;
  readonly #value: Plain | undefined;

  constructor(value: Plain | undefined, path = "") {
    this.#value = value;
    this.#path = path;
  }

  #refuse(wanted: string): never {
    const { length } = Object(this.#value) as { length?: number };
    const found =
      this.#value === undefined
        ? "absent"
        : typeof this.#value === "object"
          ? length === undefined
            ? "an object"
            : `a list of ${length}`
          : `"${String(this.#value).slice(0, 40)}"`;
    throw savedStateInvalid(`${this.#path || "its manifest"} is ${found}, wanted ${wanted}`);
  }

  get present(): boolean {
    return this.#value !== undefined;
  }

  get record(): Record<string, Plain> {
    const value = this.#value;
    if (typeof value !== "object" || value instanceof Uint8Array || Array.isArray(value)) this.#refuse("an object");
    return value as Record<string, Plain>;
  }

  field(name: string): Checked {
    const { record } = this;
    return new Checked(
      Object.hasOwn(record, name) ? record[name] : undefined,
      this.#path === "" ? name : `${this.#path}.${name}`,
    );
  }

  list(longest: number, shortest = 0): Checked[] {
    const value = this.#value;
    if (!Array.isArray(value) || value.length > longest || value.length < shortest) {
      this.#refuse(`a list of ${shortest === longest ? longest : `${shortest} to ${longest}`}`);
    }
    return value.map((item: Plain, index) => new Checked(item, `${this.#path}[${index}]`));
  }

  /** An integer from `least` to `most`. */
  integer(least: number, most: number): number {
    const value = this.#value;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
      this.#refuse(`an integer from ${least} to ${most}`);
    }
    return value;
  }

  /** An unsigned number of 64 bits. */
  get u64(): bigint {
    const value = this.#value;
    if (typeof value !== "bigint" || value < 0n || value >= U64) this.#refuse("64 bits");
    return value;
  }

  get flag(): boolean {
    if (typeof this.#value !== "boolean") this.#refuse("true or false");
    return this.#value;
  }

  text(longest: number): string {
    if (typeof this.#value !== "string" || this.#value.length > longest) this.#refuse(`a text of up to ${longest}`);
    return this.#value;
  }

  oneOf<T extends string>(values: readonly T[]): T {
    const found = values.find((value) => value === this.#value);
    return found ?? this.#refuse(values.join(" or "));
  }

  bytes(longest: number, shortest = 0): Uint8Array {
    const value = this.#value;
    if (!(value instanceof Uint8Array) || value.length > longest || value.length < shortest) {
      this.#refuse(shortest === longest ? `${longest} bytes` : `${shortest} to ${longest} bytes`);
    }
    return value;
  }
}
