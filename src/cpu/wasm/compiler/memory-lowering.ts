/**
 * Memory accesses of a region: the TLB's probe or a page kept in locals. Whatever misses leaves the region, with the state
 * as it was before the instruction: it is the interpreter's.
 */

import type { Bits, Statement, Value } from "../../../isa/ir.ts";
import { KEPT_PAGES, TLB } from "../layout.ts";
import { LOAD } from "../lower.ts";
import { IntegerLowering } from "./integer-lowering.ts";
import { PAGE_BYTES } from "./region.ts";

const PAGE_LAST = 0xfffn;
const KEPT_ADDEND = 8;

export abstract class MemoryLowering extends IntegerLowering {
  readonly #places = new Map<Value, number>();
  readonly #kept = new Map<string, number>();
  /** Loads of the present instruction that floats are made of: loaded as such. */
  protected asFloats: ReadonlySet<Value> = new Set();

  /** Where a value lies that is read from a vector register; undefined where it is none. */
  protected abstract vectorOffset(value: Value): number | undefined;

  #missed(): void {
    const { code } = this;
    code.op("i32.eqz");
    code.if();
    this.target.retry();
    code.end();
  }

  /** Pushes the place in the memory of a linear address, or leaves. */
  #place(value: Value, address: number, bits: Bits, table: number): void {
    const { code } = this;
    const bytes = bits / 8;
    const entry = this.target.locals.take("i32");
    const kept = this.#keptPage(value, table);
    if (kept === undefined) {
      this.probe(address, entry, bytes, table);
      this.#missed();
      this.placeOf(address, entry, table);
      return;
    }
    code.get(address);
    code.i64(PAGE_LAST);
    code.op("i64.or");
    code.i32(0);
    code.memory("i64.load", kept);
    code.op("i64.ne");
    if (bytes > 1) {
      // An access that begins in the page and ends behind it.
      code.get(address);
      code.op("i32.wrap_i64");
      code.i32(Number(PAGE_LAST));
      code.op("i32.and");
      code.i32(PAGE_BYTES - bytes);
      code.op("i32.gt_u");
      code.op("i32.or");
    }
    code.if();
    this.probe(address, entry, bytes, table);
    this.#missed();
    code.i32(0);
    code.get(address);
    code.i64(PAGE_LAST);
    code.op("i64.or");
    code.memory("i64.store", kept);
    code.i32(0);
    code.get(entry);
    code.memory("i32.load", table + 8);
    code.memory("i32.store", kept + KEPT_ADDEND);
    code.end();
    code.get(address);
    code.op("i32.wrap_i64");
    code.i32(0);
    code.memory("i32.load", kept + KEPT_ADDEND);
    code.op("i32.add");
  }

  /** Forgets the kept pages, at the region's end. */
  forgetPages(): void {
    const { code } = this;
    for (const kept of this.#kept.values()) {
      code.i32(0);
      code.i64(0n);
      code.memory("i64.store", kept);
    }
  }

  #keptPage(address: Value, table: number): number | undefined {
    const stream = this.target.stream(address);
    if (stream === undefined) return undefined;
    const key = `${stream} ${table}`;
    const known = this.#kept.get(key);
    if (known !== undefined || this.#kept.size >= KEPT_PAGES.entries) return known;
    const made = KEPT_PAGES.base + this.#kept.size * KEPT_PAGES.entryBytes;
    this.#kept.set(key, made);
    return made;
  }

  protected load(value: Value, addressValue: Value, bits: Bits, intent: "read" | "write"): void {
    const { code } = this;
    const address = this.addressLocal(addressValue);
    this.#place(addressValue, address, bits, intent === "write" ? TLB.writeDelta : 0);
    if (intent === "write") {
      const place = this.target.locals.take("i32");
      this.#places.set(value, place);
      code.tee(place);
    }
    if (this.asFloats.has(value)) code.memory(bits === 64 ? "f64.load" : "f32.load", 0);
    else code.memory(LOAD[bits], 0);
  }

  protected store(s: Extract<Statement, { kind: "store" }>): void {
    const { code } = this;
    const place = s.through === undefined ? undefined : this.#places.get(s.through);
    if (place !== undefined) {
      const stored = this.storedLocal(s.value);
      code.get(place);
      code.get(stored);
    } else {
      const address = this.addressLocal(s.address);
      const vector = this.vectorOffset(s.value);
      if (vector !== undefined && s.bits >= 32) {
        this.#storeVector(s.address, address, vector, s.bits);
        return;
      }
      const stored = this.storedLocal(s.value);
      this.#place(s.address, address, s.bits, TLB.writeDelta);
      code.get(stored);
    }
    this.storeTo(s.bits, s.value.type, 0);
  }

  #storeVector(value: Value, address: number, vector: number, bits: Bits): void {
    const { code } = this;
    const { vectors } = this.target;
    this.#place(value, address, bits, TLB.writeDelta);
    if (bits === 64) vectors.pushDouble(vector);
    else if (bits === 32) vectors.pushSingle(vector);
    else vectors.push(vector, bits);
    code.memory(bits === 64 ? "f64.store" : bits === 32 ? "f32.store" : "v128.store", 0);
  }
}
