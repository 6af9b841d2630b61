/** For tests: a memory core over a small RAM, with the state's fields and the paging structures set by hand. */

import { gprOffset, STATE, type StateName } from "../../../isa/state.ts";
import { GuestMemory } from "../../../memory/guest-memory.ts";
import { CODE_MAP, STATE_BASE, TLB } from "../layout.ts";
import { createMemoryCore, type MemoryCore, type MemoryCoreImports } from "./memory-core.ts";
import { PAGING } from "./page-walk.ts";

const MIB = 1024 * 1024;
export const RAM_BYTES = 4 * MIB;

/** Flags of a paging-structure entry [SDM 3 §4.5]. */
export const P = 1n;
export const RW = 2n;
export const US = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const NX = 1n << 63n;

export const CR0_WP = 1n << 16n;
export const CR4_PSE = 1n << 4n;
export const CR4_SMEP = 1n << 20n;
export const CR4_SMAP = 1n << 21n;
export const EFER_NXE = 1n << 11n;
export const EFLAGS_AC = 1 << 18;

/** The TLB's views [layout.ts]. */
export const SUPERVISOR_VIEW = 0;
export const LIFTED_VIEW = 1;
export const USER_VIEW = 2;

/** A fault that the core left in the state; `cr2` is what CR2 holds, unsigned. */
export interface LeftFault {
  readonly vector: number;
  readonly error: number;
  readonly cr2: bigint;
}

export class CoreFixture {
  readonly memory: GuestMemory;
  readonly core: MemoryCore;
  /** Device accesses so far, as "r4 a0000" and "w2 a0000 beef". */
  readonly device: string[] = [];
  /** What the next device reads give; 0 when empty. */
  readonly deviceValues: number[] = [];
  /** Calls of codeWrite: guest-physical address, bytes, and what the first byte was at that moment. */
  readonly codeWrites: { physical: number; bytes: number; before: number }[] = [];
  /** Calls of watched: linear address, bytes, access. */
  readonly watched: string[] = [];
  /** How often what follows from the state was left to TypeScript. */
  viewChanges = 0;
  /** Whether codeWrite forgets the page's code. */
  codeForgotten = false;

  constructor(ramBytes = RAM_BYTES, options: Parameters<typeof createMemoryCore>[2] = {}) {
    this.memory = GuestMemory.create(ramBytes);
    const ramOffset = this.memory.regions[0]?.offset ?? 0;
    const imports: MemoryCoreImports = {
      mmioRead: (address, bytes) => {
        this.device.push(`r${bytes} ${address.toString(16)}`);
        return this.deviceValues.shift() ?? 0;
      },
      mmioWrite: (address, bytes, value) => {
        const unsigned = bytes === 4 ? value >>> 0 : value & ((1 << (bytes * 8)) - 1);
        this.device.push(`w${bytes} ${address.toString(16)} ${unsigned.toString(16)}`);
      },
      viewChanged: () => {
        this.viewChanges++;
      },
      watched: (address, bytes, access) => this.watched.push(`${address.toString(16)} ${bytes} ${access}`),
      codeWrite: (place, bytes) => {
        const physical = place - ramOffset;
        this.codeWrites.push({ physical, bytes, before: this.memory.bytes[place] ?? 0 });
        if (this.codeForgotten) this.markCode(physical, false);
        return this.codeForgotten ? 1 : 0;
      },
    };
    this.core = createMemoryCore(this.memory, imports, options);
    this.reset();
  }

  /** Zeroes state, RAM and logs; no paging, CPL 0, and the TLBs empty. */
  reset(): void {
    const { bytes } = this.memory;
    bytes.fill(0, STATE_BASE + gprOffset(0), STATE_BASE + 8192);
    for (const { offset, size } of this.memory.regions) {
      if (size <= RAM_BYTES) bytes.fill(0, offset, offset + size);
    }
    bytes.fill(0, CODE_MAP, CODE_MAP + (RAM_BYTES >> 12));
    this.device.length = 0;
    this.deviceValues.length = 0;
    this.codeWrites.length = 0;
    this.watched.length = 0;
    this.codeForgotten = false;
    this.set("cr0", CR0_WP);
    this.useView(SUPERVISOR_VIEW);
    this.core.flushAll();
  }

  set(name: StateName, value: bigint | number): void {
    const { type, offset } = STATE[name];
    if (type === "i64") this.memory.view.setBigInt64(STATE_BASE + offset, BigInt(value), true);
    else this.memory.view.setInt32(STATE_BASE + offset, Number(value), true);
  }
  get(name: StateName): bigint {
    const { type, offset } = STATE[name];
    if (type === "i64") return this.memory.view.getBigUint64(STATE_BASE + offset, true);
    return BigInt(this.memory.view.getInt32(STATE_BASE + offset, true));
  }

  /** Turns paging on with tables at `cr3`; forgets translations. */
  paging(mode: keyof typeof PAGING, cr3: bigint): void {
    this.set("pagingMode", PAGING[mode]);
    this.set("cr3", cr3);
    if (mode === "pae") this.loadDirectoryPointers();
    this.core.flushAll();
  }
  /** As a write of CR3 does. */
  loadDirectoryPointers(): void {
    const at = Number(this.get("cr3") & 0xffff_ffe0n);
    for (const [i, name] of (["pdpte0", "pdpte1", "pdpte2", "pdpte3"] as const).entries()) {
      this.set(name, BigInt.asIntN(64, this.entry(at, i)));
    }
  }
  useView(view: number): void {
    this.set("cpl", view === USER_VIEW ? 3 : 0);
    this.set("flagsSystem", 2 | (view === LIFTED_VIEW ? EFLAGS_AC : 0));
    this.set("tlbBase", TLB.base + view * TLB.viewBytes);
  }

  /** Sets or reads entry `index` of the table at guest-physical `table`; 8-byte entries. */
  put(table: number, index: number, entry: bigint): void {
    this.memory.view.setBigUint64(this.#place(table + index * 8), entry, true);
  }
  entry(table: number, index: number): bigint {
    return this.memory.view.getBigUint64(this.#place(table + index * 8), true);
  }
  /** The same for the 4-byte entries of 32-bit paging. */
  put32(table: number, index: number, entry: bigint): void {
    this.memory.view.setUint32(this.#place(table + index * 4), Number(entry), true);
  }
  entry32(table: number, index: number): bigint {
    return BigInt(this.memory.view.getUint32(this.#place(table + index * 4), true));
  }

  /** RAM by guest-physical address. */
  ram(physical: number, bytes: number): bigint {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--)
      value = (value << 8n) | BigInt(this.memory.bytes[this.#place(physical + i)] ?? 0);
    return value;
  }
  setRam(physical: number, bytes: number, value: bigint): void {
    for (let i = 0; i < bytes; i++)
      this.memory.bytes[this.#place(physical + i)] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  #place(physical: number): number {
    const place = this.memory.offsetOf(physical, 1);
    if (place < 0) throw new Error(`no RAM at ${physical.toString(16)}`);
    return place;
  }

  markCode(physical: number, holds: boolean): void {
    this.memory.bytes[CODE_MAP + (physical >>> 12)] = holds ? 1 : 0;
  }

  /** Takes the fault out of the state, if there is one. */
  takeFault(): LeftFault | undefined {
    const fault = Number(this.get("fault"));
    if (fault === 0) return undefined;
    this.set("fault", 0);
    return { vector: fault - 1, error: Number(this.get("faultError")), cr2: this.get("cr2") };
  }

  /** Guest-physical address that the TLB gives for a linear one, or undefined where it misses: lowered code's probe. */
  tlb(linear: bigint, table: "read" | "write", view: number): number | undefined {
    const { view: data } = this.memory;
    const index = Number((BigInt.asUintN(64, linear) >> 12n) % BigInt(TLB.entries));
    const entry = TLB.base + view * TLB.viewBytes + (table === "write" ? TLB.writeDelta : 0) + index * TLB.entryBytes;
    if (data.getBigInt64(entry, true) !== (linear & ~0xfffn)) return undefined;
    const place = (Number(BigInt.asIntN(32, linear)) + data.getInt32(entry + 8, true)) >>> 0;
    for (const { start, size, offset } of this.memory.regions) {
      if (place >= offset && place < offset + size) return start + (place - offset);
    }
    throw new Error(`the TLB points outside RAM, to ${place.toString(16)}`);
  }
}
