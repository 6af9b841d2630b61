/**
 * Split virtqueues, the device's side. [virtio 1.2 §2.7]
 *
 * Everything in a ring is hostile: each word is read once, every buffer must lie in RAM as a whole, and a chain is
 * never longer than the queue's largest size. A ring that breaks a rule gives a fault, after which the device asks for
 * a reset; it never throws. Queues are walked on the I/O thread only.
 */

import type { GuestMemory } from "../../memory/guest-memory.ts";

/** Largest queue of any device: a power of two. */
export const MAX_QUEUE_SIZE = 256;

const DESCRIPTOR_BYTES = 16;
const USED_ENTRY_BYTES = 8;
/** Bytes of a ring before its entries: flags and index. */
const RING_HEADER_BYTES = 4;
const FLAG_NEXT = 1;
const FLAG_WRITE = 2;
const FLAG_INDIRECT = 4;
const AVAIL_NO_INTERRUPT = 1;
/** A chain holds less than this, so that its length fits the used ring's 32 bits. */
const MAX_CHAIN_BYTES = 2 ** 32;

/** The registers of a device's queues, as far as a ring needs them; one element a queue, six words for its addresses. */
export interface RingRegisters {
  readonly queueSize: Uint32Array;
  /** Descriptor area, driver area, device area: low word, high word. */
  readonly queueAddress: Uint32Array;
  /** The next entry of the available ring, and of the used ring; modulo 2^16. */
  readonly queueNext: Uint32Array;
  readonly queueUsed: Uint32Array;
}
export const ADDRESS_WORDS = 6;

/** One request: views of guest RAM in the order of the descriptors. */
export interface ChainBuffers {
  readonly head: number;
  readonly readable: readonly Uint8Array[];
  readonly writable: readonly Uint8Array[];
}

/** What the guest did wrong, with the section that forbids it. */
export interface RingFault {
  readonly fault: string;
}

const fault = (what: string, section: string): RingFault => ({ fault: `${what} [virtio 1.2 §${section}]` });

/** Places of the three areas in the memory's buffer; -1 where one is not in RAM. */
interface Areas {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

export class SplitQueue {
  readonly #memory: GuestMemory;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #registers: RingRegisters;
  readonly #index: number;

  constructor(memory: GuestMemory, registers: RingRegisters, index: number) {
    this.#memory = memory;
    this.#halves = new Uint16Array(memory.memory.buffer);
    this.#words = new Uint32Array(memory.memory.buffer);
    this.#registers = registers;
    this.#index = index;
  }

  get #size(): number {
    return this.#registers.queueSize[this.#index] ?? 0;
  }

  /** An area's place in the buffer. Addresses beyond 2^53 are rounded, and are no RAM either way. */
  #place(area: number, bytes: number): number {
    const at = this.#index * ADDRESS_WORDS + 2 * area;
    const { queueAddress } = this.#registers;
    return this.#memory.offsetOf((queueAddress[at] ?? 0) + (queueAddress[at + 1] ?? 0) * 2 ** 32, bytes);
  }

  #areas(): Areas | undefined {
    const size = this.#size;
    const descriptors = this.#place(0, DESCRIPTOR_BYTES * size);
    const available = this.#place(1, RING_HEADER_BYTES + 2 * size);
    const used = this.#place(2, RING_HEADER_BYTES + USED_ENTRY_BYTES * size);
    // Alignment was checked when the queue was enabled, but the state may have been loaded from a file since.
    const aligned = descriptors % 16 === 0 && available % 2 === 0 && used % 4 === 0;
    return descriptors < 0 || available < 0 || used < 0 || !aligned ? undefined : { descriptors, available, used };
  }

  /** Takes the next chain that the driver has made available; undefined where there is none. */
  next(indirectAllowed: boolean): ChainBuffers | RingFault | undefined {
    const size = this.#size;
    // A size from a loaded state may be anything.
    if (size === 0 || (size & (size - 1)) !== 0) return fault(`queue ${this.#index} has size ${size}`, "2.7");
    const areas = this.#areas();
    if (areas === undefined) return fault(`queue ${this.#index} lies outside RAM`, "2.7");
    const { queueNext } = this.#registers;
    const next = (queueNext[this.#index] ?? 0) & 0xffff;
    const index = Atomics.load(this.#halves, (areas.available + 2) >>> 1);
    const waiting = (index - next) & 0xffff;
    if (waiting === 0) return undefined;
    if (waiting > size) return fault(`${waiting} chains available in a queue of ${size}`, "2.7.13.3");
    const head = this.#halves[(areas.available + RING_HEADER_BYTES) / 2 + (next & (size - 1))] ?? 0;
    if (head >= size) return fault(`chain begins at descriptor ${head} of ${size}`, "2.7.6");
    const chain = this.#walk(areas.descriptors, size, head, indirectAllowed);
    if (!("fault" in chain)) queueNext[this.#index] = (next + 1) & 0xffff;
    return chain;
  }

  #walk(descriptors: number, size: number, head: number, indirectAllowed: boolean): ChainBuffers | RingFault {
    const readable: Uint8Array[] = [];
    const writable: Uint8Array[] = [];
    let table = descriptors;
    let entries = size;
    let index = head;
    let indirect = false;
    let total = 0;
    for (let count = 0; ; count++) {
      // Whatever forms a loop is longer than this.
      if (count >= MAX_QUEUE_SIZE || (!indirect && count >= size)) {
        return fault(`chain of more than ${count} descriptors`, "2.7.5.3.1");
      }
      const at = (table + index * DESCRIPTOR_BYTES) >>> 2;
      const address = (this.#words[at] ?? 0) + (this.#words[at + 1] ?? 0) * 2 ** 32;
      const length = this.#words[at + 2] ?? 0;
      const flagsAndNext = this.#words[at + 3] ?? 0;
      const flags = flagsAndNext & 0xffff;
      if ((flags & FLAG_INDIRECT) !== 0) {
        if (!indirectAllowed) return fault("indirect descriptor without its feature", "2.7.5.3.1");
        if (indirect) return fault("indirect descriptor inside an indirect table", "2.7.5.3.1");
        if ((flags & FLAG_NEXT) !== 0) return fault("indirect descriptor with a next one", "2.7.5.3.1");
        entries = length / DESCRIPTOR_BYTES;
        if (!Number.isInteger(entries) || entries < 1 || entries > MAX_QUEUE_SIZE) {
          return fault(`indirect table of ${length} bytes`, "2.7.5.3.1");
        }
        table = this.#memory.offsetOf(address, length);
        if (table < 0 || table % 4 !== 0) {
          return fault(`indirect table at 0x${address.toString(16)}, outside RAM or not aligned`, "2.7.5.3");
        }
        indirect = true;
        index = 0;
        continue;
      }
      if (length === 0) return fault("descriptor of length 0", "2.7.5");
      total += length;
      if (total >= MAX_CHAIN_BYTES) return fault("chain of 4 GiB or more", "2.7.5.2");
      const buffer = this.#memory.slice(address, length);
      if (buffer === undefined) {
        return fault(`descriptor of ${length} bytes at 0x${address.toString(16)}, outside RAM`, "2.7.5");
      }
      if ((flags & FLAG_WRITE) !== 0) writable.push(buffer);
      else if (writable.length > 0) return fault("readable descriptor after a writable one", "2.7.4.2");
      else readable.push(buffer);
      if ((flags & FLAG_NEXT) === 0) return { head, readable, writable };
      index = flagsAndNext >>> 16;
      if (index >= entries) return fault(`chain goes on at descriptor ${index} of ${entries}`, "2.7.5");
    }
  }

  /** Writes an entry of the used ring; the driver does not see it before `publish`. False where the ring is not in RAM. */
  put(head: number, writtenBytes: number): Uint8Array | undefined {
    const used = this.#areas()?.used;
    if (used === undefined || this.#size === 0) return undefined;
    const slot = (this.#registers.queueUsed[this.#index] ?? 0) & (this.#size - 1);
    const at = used + RING_HEADER_BYTES + slot * USED_ENTRY_BYTES;
    this.#words[at >>> 2] = head;
    this.#words[(at >>> 2) + 1] = writtenBytes;
    return this.#memory.bytes.subarray(at, at + USED_ENTRY_BYTES);
  }

  /** Shows the driver one entry more. Gives the bytes written, undefined where the ring is not in RAM. */
  publish(): Uint8Array | undefined {
    const used = this.#areas()?.used;
    if (used === undefined) return undefined;
    const { queueUsed } = this.#registers;
    const index = ((queueUsed[this.#index] ?? 0) + 1) & 0xffff;
    queueUsed[this.#index] = index;
    // An atomic store: all that was written before is seen by who sees this.
    Atomics.store(this.#halves, (used + 2) >>> 1, index);
    return this.#memory.bytes.subarray(used + 2, used + 4);
  }

  /** Whether the driver asks not to be interrupted at this moment. [§2.7.7] */
  get quiet(): boolean {
    const available = this.#areas()?.available;
    return available !== undefined && (Atomics.load(this.#halves, available >>> 1) & AVAIL_NO_INTERRUPT) !== 0;
  }
}
