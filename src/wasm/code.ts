/** A growing byte buffer with the encodings of WebAssembly [WebAssembly core 3.0 §5.2], and a body writer over it. */

import { opcode, VALUE_TYPE_CODE, type ValueType } from "./opcodes.ts";

export class ByteWriter {
  #bytes = new Uint8Array(256);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    if (this.#length === this.#bytes.length) this.#grow(1);
    this.#bytes[this.#length++] = value;
  }

  append(bytes: ArrayLike<number>): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Unsigned LEB128 of an integer in [0, 2^32). */
  u32(value: number): void {
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of a 32-bit integer. */
  s32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of a 64-bit integer; taken modulo 2^64. */
  s64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  name(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u32(bytes.length);
    this.append(bytes);
  }

  /** The bytes so far; a copy. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(more: number): void {
    const bigger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    bigger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bigger;
  }
}

/** Writes one function's body. Labels are counted by the caller, as in the binary format. */
export class CodeWriter extends ByteWriter {
  readonly #parameters: number;
  readonly #locals: ValueType[] = [];
  /** Nesting of block, loop and if, for computing branch depths. */
  depth = 0;

  constructor(parameters: number) {
    super();
    this.#parameters = parameters;
  }

  get locals(): readonly ValueType[] {
    return this.#locals;
  }

  /** Declares a local; its index. */
  local(type: ValueType): number {
    this.#locals.push(type);
    return this.#parameters + this.#locals.length - 1;
  }

  /** A plain instruction by its text name, with lane bytes where it takes them. */
  op(name: string, lanes?: readonly number[]): void {
    this.append(opcode(name).bytes);
    if (lanes !== undefined) this.append(lanes);
  }

  /** A load or store; `offset` in bytes. Alignment is a hint: guests misalign at will, so none is promised. */
  memory(name: string, offset: number): void {
    this.append(opcode(name).bytes);
    this.byte(0);
    this.u32(offset);
  }

  i32(value: number): void {
    this.byte(0x41);
    this.s32(value);
  }
  i64(value: bigint): void {
    this.byte(0x42);
    this.s64(value);
  }
  f32(value: number): void {
    this.byte(0x43);
    this.append(new Uint8Array(new Float32Array([value]).buffer));
  }
  f64(value: number): void {
    this.byte(0x44);
    this.append(new Uint8Array(new Float64Array([value]).buffer));
  }
  /** A vector constant of 16 bytes. */
  v128(bytes: ArrayLike<number>): void {
    this.append([0xfd, 0x0c]);
    this.append(bytes);
  }
  get(local: number): void {
    this.byte(0x20);
    this.u32(local);
  }
  set(local: number): void {
    this.byte(0x21);
    this.u32(local);
  }
  tee(local: number): void {
    this.byte(0x22);
    this.u32(local);
  }
  globalGet(index: number): void {
    this.byte(0x23);
    this.u32(index);
  }
  globalSet(index: number): void {
    this.byte(0x24);
    this.u32(index);
  }
  block(result?: ValueType): void {
    this.#open(0x02, result);
  }
  loop(result?: ValueType): void {
    this.#open(0x03, result);
  }
  if(result?: ValueType): void {
    this.#open(0x04, result);
  }
  else(): void {
    this.byte(0x05);
  }
  end(): void {
    this.depth--;
    this.byte(0x0b);
  }
  /** Branches to the construct opened when `depth` was `label`: take `label` from `depth` right after opening it. */
  br(label: number): void {
    this.byte(0x0c);
    this.u32(this.depth - label);
  }
  brIf(label: number): void {
    this.byte(0x0d);
    this.u32(this.depth - label);
  }
  brTable(labels: readonly number[], fallback: number): void {
    this.byte(0x0e);
    this.u32(labels.length);
    for (const label of labels) this.u32(this.depth - label);
    this.u32(this.depth - fallback);
  }
  return(): void {
    this.byte(0x0f);
  }
  unreachable(): void {
    this.byte(0x00);
  }
  call(index: number): void {
    this.byte(0x10);
    this.u32(index);
  }
  callIndirect(type: number, table = 0): void {
    this.byte(0x11);
    this.u32(type);
    this.u32(table);
  }
  drop(): void {
    this.byte(0x1a);
  }
  select(): void {
    this.byte(0x1b);
  }
  memoryCopy(): void {
    this.append([0xfc, 10, 0, 0]);
  }
  memoryFill(): void {
    this.append([0xfc, 11, 0]);
  }

  #open(code: number, result: ValueType | undefined): void {
    this.depth++;
    this.byte(code);
    this.byte(result === undefined ? 0x40 : VALUE_TYPE_CODE[result]);
  }
}
