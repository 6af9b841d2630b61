/**
 * Device state: declared field by field, laid out in a shared buffer in the order of declaration, saved by name.
 *
 * Two threads that lay out the same declarations over the same buffer see the same state. No field is atomic: whoever
 * touches a device's state holds the board's lock.
 */

import { IsolaError } from "../base/errors.ts";

type Kind = "u8" | "u16" | "u32" | "u64" | "f64" | "bool" | "bytes" | "u8s" | "u32s" | "f64s";

/** One field's declaration; `T` is what the device sees. */
export interface Field<T> {
  readonly kind: Kind;
  /** Elements: 1 for scalars. */
  readonly length: number;
  /** Never present: it carries the type. */
  readonly sample?: T;
}

const scalar = <T>(kind: Kind): Field<T> => ({ kind, length: 1 });

export const u8: Field<number> = scalar("u8");
export const u16: Field<number> = scalar("u16");
export const u32: Field<number> = scalar("u32");
/** A bigint: for registers that are written rarely, never on a hot path. */
export const u64: Field<bigint> = scalar("u64");
/** An integer held exactly to 2^53, or Infinity: guest nanoseconds and counts. */
export const f64: Field<number> = scalar("f64");
export const bool: Field<boolean> = scalar("bool");
export const bytes = (length: number): Field<Uint8Array> => ({ kind: "bytes", length });
/** Arrays of small integers: saved as lists of numbers, unlike `bytes`. */
export const u8s = (length: number): Field<Uint8Array> => ({ kind: "u8s", length });
export const u32s = (length: number): Field<Uint32Array> => ({ kind: "u32s", length });
export const f64s = (length: number): Field<Float64Array> => ({ kind: "f64s", length });

export type StateSpec = Readonly<Record<string, Field<unknown>>>;
export type StateOf<S extends StateSpec> = {
  -readonly [K in keyof S]: S[K] extends Field<infer T> ? T : never;
};

/** What a saved field may be: plain data; a u64 is a hexadecimal string, an infinite time the word "never". */
export type SavedValue = number | boolean | string | Uint8Array | (number | string)[];
export type SavedFields = Record<string, SavedValue>;

const ELEMENT_BYTES: Record<Kind, number> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  f64: 8,
  bool: 1,
  bytes: 1,
  u8s: 1,
  u32s: 4,
  f64s: 8,
};

/** Hands out spans of one shared buffer, in order; both sides of the buffer must ask in the same order. */
export class StateArena {
  readonly buffer: SharedArrayBuffer;
  #next: number;

  constructor(buffer: SharedArrayBuffer, start = 0) {
    this.buffer = buffer;
    this.#next = start;
  }

  /** Offset in bytes of a fresh span, aligned to a cache line. Throws `board-memory` where the buffer is used up. */
  take(sizeBytes: number): number {
    const offset = Math.ceil(this.#next / 64) * 64;
    if (offset + sizeBytes > this.buffer.byteLength) {
      throw new IsolaError({
        code: "board-memory",
        message: `laying out device state: ${offset + sizeBytes} bytes needed, the board's buffer has ${this.buffer.byteLength}; raise BOARD_BYTES`,
      });
    }
    this.#next = offset + sizeBytes;
    return offset;
  }

  get used(): number {
    return this.#next;
  }
}

const offsetsOf = (spec: StateSpec): { offsets: Map<string, number>; size: number } => {
  const offsets = new Map<string, number>();
  let size = 0;
  for (const [name, field] of Object.entries(spec)) {
    const element = ELEMENT_BYTES[field.kind];
    size = Math.ceil(size / element) * element;
    offsets.set(name, size);
    size += element * field.length;
  }
  return { offsets, size };
};

type ScalarArray = Uint8Array | Uint16Array | Uint32Array | Float64Array | BigUint64Array;

const arrayOver = (kind: Kind, buffer: SharedArrayBuffer, offset: number, length: number): ScalarArray => {
  switch (kind) {
    case "u8":
    case "bool":
    case "bytes":
    case "u8s":
      return new Uint8Array(buffer, offset, length);
    case "u16":
      return new Uint16Array(buffer, offset, length);
    case "u32":
    case "u32s":
      return new Uint32Array(buffer, offset, length);
    case "u64":
      return new BigUint64Array(buffer, offset, length);
    case "f64":
    case "f64s":
      return new Float64Array(buffer, offset, length);
  }
};

const wrongField = (device: string, name: string, found: unknown, wanted: string): IsolaError =>
  new IsolaError({
    code: "state-invalid",
    message: `loading the state of ${device}: field ${name} is ${describe(found)}, wanted ${wanted}; the saved state is damaged`,
  });

const describe = (value: unknown): string => {
  if (value === undefined) return "absent";
  if (value instanceof Uint8Array || Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === "object" ? "an object" : `${value as string | number}`.slice(0, 40);
};

const MAXIMUM: Partial<Record<Kind, number>> = { u8: 0xff, u16: 0xffff, u32: 0xffffffff, u8s: 0xff, u32s: 0xffffffff };

const encodeNumber = (value: number): number | string => (value === Infinity ? "never" : value);

/** A number of this kind, or undefined where the saved value cannot be one. */
const decodeNumber = (kind: Kind, value: unknown): number | undefined => {
  const maximum = MAXIMUM[kind];
  if (maximum === undefined) {
    if (value === "never") return Infinity;
    return typeof value === "number" && Number.isSafeInteger(value) ? value : undefined;
  }
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= maximum ? value : undefined;
};

/** The declared fields of one device over its span of the buffer. */
export class StateBlock<S extends StateSpec> {
  readonly fields: StateOf<S>;
  readonly #spec: StateSpec;
  readonly #arrays = new Map<string, ScalarArray>();
  readonly #raw: Uint8Array;

  constructor(spec: S, arena: StateArena) {
    const { offsets, size } = offsetsOf(spec);
    const base = arena.take(size);
    this.#spec = spec;
    this.#raw = new Uint8Array(arena.buffer, base, size);
    const fields = {};
    for (const [name, field] of Object.entries(spec)) {
      const array = arrayOver(field.kind, arena.buffer, base + (offsets.get(name) ?? 0), field.length);
      this.#arrays.set(name, array);
      Object.defineProperty(fields, name, { enumerable: true, ...accessor(field.kind, array) });
    }
    this.fields = fields as StateOf<S>;
  }

  /** Zeroes every field. */
  clear(): void {
    this.#raw.fill(0);
  }

  save(): SavedFields {
    const saved: SavedFields = {};
    for (const [name, { kind }] of Object.entries(this.#spec)) {
      const array = this.#arrays.get(name);
      if (array instanceof BigUint64Array) saved[name] = `0x${(array[0] ?? 0n).toString(16)}`;
      else if (array === undefined) continue;
      else if (kind === "bytes") saved[name] = Uint8Array.from(array);
      else if (kind === "u8s" || kind === "u32s" || kind === "f64s") saved[name] = Array.from(array, encodeNumber);
      else if (kind === "bool") saved[name] = array[0] !== 0;
      else saved[name] = encodeNumber(array[0] ?? 0);
    }
    return saved;
  }

  /** Loads every declared field, or none: throws `state-invalid` before anything is changed. */
  load(device: string, saved: Readonly<Record<string, unknown>>): void {
    const assignments: (() => void)[] = [];
    for (const name of Object.keys(saved)) {
      if (!Object.hasOwn(this.#spec, name)) throw wrongField(device, name, saved[name], "no such field");
    }
    for (const [name, field] of Object.entries(this.#spec)) {
      assignments.push(this.#decode(device, name, field, saved[name]));
    }
    for (const assign of assignments) assign();
  }

  #decode(device: string, name: string, { kind, length }: Field<unknown>, value: unknown): () => void {
    const array = this.#arrays.get(name);
    if (array instanceof BigUint64Array) {
      if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/.test(value)) {
        throw wrongField(device, name, value, "64 bits in hexadecimal");
      }
      return () => {
        array[0] = BigInt(value);
      };
    }
    if (kind === "bool") {
      if (typeof value !== "boolean") throw wrongField(device, name, value, "true or false");
      return () => array?.set([value ? 1 : 0]);
    }
    if (kind === "bytes" && value instanceof Uint8Array && value.length === length) {
      return () => array?.set(value);
    }
    const list: unknown[] | undefined =
      value instanceof Uint8Array
        ? Array.from(value)
        : Array.isArray(value)
          ? value
          : length === 1
            ? [value]
            : undefined;
    if (list?.length !== length) throw wrongField(device, name, value, `${length} × ${kind}`);
    const numbers = list.map((item) => {
      const number = decodeNumber(kind === "bytes" ? "u8" : kind, item);
      if (number === undefined) throw wrongField(device, name, item, kind);
      return number;
    });
    return () => array?.set(numbers);
  }
}

const accessor = (kind: Kind, array: ScalarArray): PropertyDescriptor => {
  if (kind === "bytes" || kind === "u8s" || kind === "u32s" || kind === "f64s") return { value: array };
  if (kind === "bool") {
    const flags = array as Uint8Array;
    return {
      get: () => flags[0] !== 0,
      set: (value: boolean) => {
        flags[0] = value ? 1 : 0;
      },
    };
  }
  return {
    get: () => array[0],
    set: (value: number) => {
      (array as Uint32Array)[0] = value;
    },
  };
};
