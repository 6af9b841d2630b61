/**
 * Memory by linear address, for the system's own reads and writes: descriptor tables, TSS, stacks, saved FPU state.
 * Addresses and 64-bit values are two unsigned halves, and the software TLB is probed here before the memory core is
 * asked, so that entering and leaving the kernel makes few bigints.
 */

import { DECODE } from "../../../isa/decode.ts";
import { STATE } from "../../../isa/state.ts";
import type { EngineHost } from "../engine-host.ts";
import { TLB } from "../layout.ts";

const PAGE = 4096;
const INDEX_MASK = (TLB.entries - 1) * TLB.entryBytes;

export class LinearMemory {
  readonly #host: EngineHost;
  /** Halves of what the last `load64` read, unsigned. */
  low = 0;
  high = 0;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #tlbBaseIndex: number;
  readonly #decodeIndex: number;
  readonly #pair = new Uint32Array(2);
  readonly #long = new BigUint64Array(this.#pair.buffer);

  constructor(host: EngineHost) {
    this.#host = host;
    this.#view = host.memory.view;
    this.#bytes = host.memory.bytes;
    this.#words = new Int32Array(host.memory.memory.buffer);
    this.#tlbBaseIndex = (host.stateBase + STATE.tlbBase.offset) >> 2;
    this.#decodeIndex = (host.stateBase + STATE.decodeContext.offset) >> 2;
  }

  #join(low: number, high: number): bigint {
    this.#pair[0] = low;
    this.#pair[1] = high;
    return this.#long[0] ?? 0n;
  }

  /** The place in the memory of `bytes` at an address whose translation the TLB holds, or 0. `system` probes the
   * supervisor's table, which is right at every CPL; the present view's table serves the others. */
  #place(low: number, high: number, bytes: number, write: boolean, system: boolean): number {
    if ((low & (PAGE - 1)) + bytes > PAGE) return 0;
    // Where alignment is checked, the memory core's caller does it.
    if (!system && ((this.#words[this.#decodeIndex] ?? 0) & DECODE.alignment) !== 0) return 0;
    const table = (system ? TLB.base : (this.#words[this.#tlbBaseIndex] ?? 0)) + (write ? TLB.writeDelta : 0);
    const entry = (table + ((low >>> 8) & INDEX_MASK)) >> 2;
    if (this.#words[entry] !== (low & -PAGE) || this.#words[entry + 1] !== (high | 0)) return 0;
    return (low + (this.#words[entry + 2] ?? 0)) >>> 0;
  }

  /** `system`: by the supervisor's rights whatever CPL is, as the processor reads its tables [SDM 3 §4.6.1]. */
  load64(low: number, high: number, system: boolean): void {
    const place = this.#place(low, high, 8, false, system);
    if (place !== 0) {
      this.low = this.#view.getUint32(place, true);
      this.high = this.#view.getUint32(place + 4, true);
      return;
    }
    this.#long[0] = this.#host.load(this.#join(low, high), 8, system);
    this.low = this.#pair[0] ?? 0;
    this.high = this.#pair[1] ?? 0;
  }
  load32(low: number, high: number, system: boolean): number {
    const place = this.#place(low, high, 4, false, system);
    if (place !== 0) return this.#view.getUint32(place, true);
    return Number(this.#host.load(this.#join(low, high), 4, system));
  }
  load16(low: number, high: number, system: boolean): number {
    return Number(this.#host.load(this.#join(low, high), 2, system));
  }
  load8(low: number, high: number, system: boolean): number {
    return Number(this.#host.load(this.#join(low, high), 1, system));
  }

  store64(low: number, high: number, valueLow: number, valueHigh: number, system: boolean): void {
    const place = this.#place(low, high, 8, true, system);
    if (place !== 0) {
      this.#view.setUint32(place, valueLow, true);
      this.#view.setUint32(place + 4, valueHigh, true);
      return;
    }
    const address = this.#join(low, high);
    this.#host.store(address, 8, this.#join(valueLow, valueHigh), system);
  }
  store32(low: number, high: number, value: number, system: boolean): void {
    const place = this.#place(low, high, 4, true, system);
    if (place !== 0) this.#view.setUint32(place, value, true);
    else this.#host.store(this.#join(low, high), 4, BigInt(value >>> 0), system);
  }
  store16(low: number, high: number, value: number, system: boolean): void {
    this.#host.store(this.#join(low, high), 2, BigInt(value & 0xffff), system);
  }
  store8(low: number, high: number, value: number, system: boolean): void {
    this.#host.store(this.#join(low, high), 1, BigInt(value & 0xff), system);
  }

  /** Fills `target`, whose length is a multiple of 8, by the rights of CPL. */
  read(low: number, high: number, target: Uint8Array): void {
    const place = this.#place(low, high, target.length, false, false);
    if (place !== 0) {
      target.set(this.#bytes.subarray(place, place + target.length));
      return;
    }
    const first = bytesInFirstPage(low, target.length);
    if (first !== 0) {
      this.read(low, high, target.subarray(0, first));
      this.read(addLow(low, first), high + carry(low, first), target.subarray(first));
      return;
    }
    const words = new DataView(target.buffer, target.byteOffset, target.length);
    for (let i = 0; i < target.length; i += 8) {
      this.load64(addLow(low, i), high + carry(low, i), false);
      words.setUint32(i, this.low, true);
      words.setUint32(i + 4, this.high, true);
    }
  }
  /** Stores `source`, whose length is a multiple of 8; a fault may find the lower part stored. */
  write(low: number, high: number, source: Uint8Array): void {
    const place = this.#place(low, high, source.length, true, false);
    if (place !== 0) {
      this.#bytes.set(source, place);
      return;
    }
    const first = bytesInFirstPage(low, source.length);
    if (first !== 0) {
      this.write(low, high, source.subarray(0, first));
      this.write(addLow(low, first), high + carry(low, first), source.subarray(first));
      return;
    }
    const words = new DataView(source.buffer, source.byteOffset, source.length);
    for (let i = 0; i < source.length; i += 8) {
      const at = addLow(low, i);
      this.store64(at, high + carry(low, i), words.getUint32(i, true), words.getUint32(i + 4, true), false);
    }
  }
}

/** How many of `bytes` from an address on lie in its page, where they are a multiple of 8 and not all; else 0. */
function bytesInFirstPage(low: number, bytes: number): number {
  const first = PAGE - (low & (PAGE - 1));
  return first < bytes && first % 8 === 0 ? first : 0;
}

/** Whether an address of these halves is canonical: bits 63:47 all alike. [SDM 1 §3.3.7.1] */
export function canonical(high: number): boolean {
  const top = high >>> 15;
  return top === 0 || top === 0x1ffff;
}

/** The low half of a sum; `carry` gives what goes into the high one. `amount` is 0 to 2^32 - 1. */
export function addLow(low: number, amount: number): number {
  return (low + amount) >>> 0;
}
export function carry(low: number, amount: number): number {
  return low + amount > 0xffff_ffff ? 1 : 0;
}
