/**
 * The memory side of the portable engine, in generated WebAssembly: page walker, TLB refill, slow loads and stores,
 * look-up of decoded code, bulk string moves [SDM 3 §4].
 *
 * Every function sets `fault` in the state and returns 0 where the access faults.
 */

import { EXCEPTION } from "../../isa/semantics.ts";
import { STATE, type StateName } from "../../isa/state.ts";
import { type GuestMemory, HIGH_RAM_START, VGA_WINDOW } from "../../memory/guest-memory.ts";
import type { CodeWriter } from "../../wasm/code.ts";
import { ModuleBuilder } from "../../wasm/module.ts";
import { CODE_MAP, FETCH_TLB, JUMP_CACHE, LARGE_PAGES, STATE_BASE, TLB, TLB_LOG, TRACE_HASH } from "./layout.ts";

/** Access bits of `translate`. */
export const ACCESS = { write: 1, fetch: 2, system: 4 } as const;

/** A fault code that asks the run loop to tell #SS from #GP by the instruction (non-canonical address). */
export const NON_CANONICAL_ERROR = 0x10000;

/** Values of `pagingMode` in the state. */
export const PAGING = { none: 0, twoLevel: 1, pae: 2, fourLevel: 3 } as const;

const PTE = { present: 1n, writable: 2n, user: 4n, accessed: 0x20n, dirty: 0x40n, large: 0x80n } as const;
/** MAXPHYADDR is 40: bits 51:40 are reserved [SDM 3 §4.1.4]. */
const ADDRESS_MASK = 0x00ff_ffff_f000n;
const RESERVED = 0x000f_ff00_0000_0000n;

/** Functions that the core exports. */
export interface MemoryCore {
  load(address: bigint, bytes: number): bigint;
  store(address: bigint, bytes: number, value: bigint): void;
  loadForWrite(address: bigint, bytes: number): bigint;
  probeWrite(address: bigint, bytes: number): void;
  /** Guest-physical address of a linear one, or -1 with `fault` set. `access`: ACCESS bits. */
  translate(address: bigint, access: number): bigint;
  loadSystem(address: bigint, bytes: number): bigint;
  storeSystem(address: bigint, bytes: number, value: bigint): void;
  /** The record of the trace at a linear address, 0 where none is decoded or the fetch faults. */
  lookup(rip: bigint): number;
  flushAll(): void;
  flushPage(address: bigint): void;
  repMovs(elementBytes: number, count: bigint, dst: bigint, src: bigint): bigint;
  repStos(elementBytes: number, count: bigint, dst: bigint, value: bigint): bigint;
}

/** What the core asks of TypeScript. Physical addresses come as i64. */
export interface MemoryCoreImports {
  mmioRead(address: bigint, bytes: number): number;
  mmioWrite(address: bigint, bytes: number, value: number): void;
  /** A store is about to change a page with decoded code. 1 where the page holds none afterwards. */
  codeWrite(place: number, bytes: number): number;
}

class CoreWriter {
  readonly #module = new ModuleBuilder();
  readonly #memory: GuestMemory;
  readonly #mmioRead: number;
  readonly #mmioWrite: number;
  readonly #codeWrite: number;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
    const m = this.#module;
    this.#mmioRead = m.importFunction("env", "mmioRead", ["i64", "i32"], ["i32"]);
    this.#mmioWrite = m.importFunction("env", "mmioWrite", ["i64", "i32", "i32"], []);
    this.#codeWrite = m.importFunction("env", "codeWrite", ["i32", "i32"], ["i32"]);
    const pages = memory.memory.buffer.byteLength / 65536;
    m.importMemory("env", "memory", pages, pages);
  }

  build(): Uint8Array<ArrayBuffer> {
    const place = this.#place();
    const translate = this.#translate(place);
    const fill = this.#fill();
    this.#load("load", translate, place, fill, 0, true);
    this.#load("loadSystem", translate, place, fill, ACCESS.system, false);
    this.#load("loadForWrite", translate, place, fill, ACCESS.write, true);
    const probe = this.#probeWrite(translate);
    this.#store("store", translate, place, fill, probe, 0, true);
    this.#store("storeSystem", translate, place, fill, probe, ACCESS.system, false);
    const fetch = this.#fetch(translate);
    this.#lookup(fetch);
    this.#flushPage(this.#flushAll());
    this.#bulk("repMovs", true);
    this.#bulk("repStos", false);
    return this.#module.finish();
  }

  #field(code: CodeWriter, name: StateName): void {
    code.i32(0);
    code.memory(STATE[name].type === "i64" ? "i64.load" : "i32.load", STATE_BASE + STATE[name].offset);
  }
  #raise(code: CodeWriter, vector: number, pushError: () => void): void {
    code.i32(0);
    code.i32(vector + 1);
    code.memory("i32.store", STATE_BASE + STATE.fault.offset);
    code.i32(0);
    pushError();
    code.memory("i32.store", STATE_BASE + STATE.faultError.offset);
  }

  /** (physical i64) -> i32: place in the memory, 0 where it is not RAM. */
  #place(): number {
    const { index, code } = this.#module.function(["i64"], ["i32"]);
    const [low, high] = this.#memory.regions;
    if (low === undefined) throw new Error("a VM has RAM");
    const inRange = (start: number, size: number) => {
      code.get(0);
      code.i64(BigInt(start));
      code.op("i64.sub");
      code.i64(BigInt(size));
      code.op("i64.lt_u");
    };
    const placed = (start: number, offset: number) => {
      code.get(0);
      code.op("i32.wrap_i64");
      code.i32((offset - start) | 0);
      code.op("i32.add");
    };
    inRange(low.start, low.size);
    code.if();
    inRange(VGA_WINDOW.start, VGA_WINDOW.end - VGA_WINDOW.start);
    code.if();
    code.i32(0);
    code.return();
    code.end();
    placed(low.start, low.offset);
    code.return();
    code.end();
    if (high !== undefined) {
      inRange(HIGH_RAM_START, high.size);
      code.if();
      // 4 GiB is 0 in 32-bit arithmetic, so the sum is right modulo 2^32.
      placed(0, high.offset);
      code.return();
      code.end();
    }
    code.i32(0);
    return index;
  }

  /** (linear i64, access i32) -> i64: walks the tables, sets A and D, checks rights [SDM 3 §4.5, §4.6]. */
  #translate(place: number): number {
    const { index, code } = this.#module.function(["i64", "i32"], ["i64"], "translate");
    const shift = code.local("i64");
    const table = code.local("i64");
    const entry = code.local("i64");
    const at = code.local("i32");
    const rights = code.local("i64"); // AND of R/W and U/S over the levels; NX in bit 63 (ORed, kept apart).
    const noExecute = code.local("i64");
    const user = code.local("i32");
    const entryBytes = code.local("i32");
    const mode = code.local("i32");
    const canWrite = code.local("i32");

    /** Sets #PF with `present`/reserved bits given, W, U and I/D by the access, and returns -1. */
    const pageFault = (bits: number) => {
      code.i32(0);
      code.get(0);
      code.memory("i64.store", STATE_BASE + STATE.cr2.offset);
      this.#raise(code, EXCEPTION.PF, () => {
        code.i32(bits);
        code.get(1);
        code.i32(ACCESS.write);
        code.op("i32.and");
        code.i32(1);
        code.op("i32.shl");
        code.op("i32.or");
        code.get(user);
        code.i32(2);
        code.op("i32.shl");
        code.op("i32.or");
        // I/D is reported only where NX or SMEP exists to make a difference [SDM 3 §4.7].
        code.get(1);
        code.i32(ACCESS.fetch);
        code.op("i32.and");
        code.i32(3);
        code.op("i32.shl");
        code.op("i32.or");
      });
      code.i64(-1n);
      code.return();
    };
    const has = (local: number, bits: bigint) => {
      code.get(local);
      code.i64(bits);
      code.op("i64.and");
      code.i64(0n);
      code.op("i64.ne");
    };
    const access = (bits: number) => {
      code.get(1);
      code.i32(bits);
      code.op("i32.and");
    };

    this.#field(code, "pagingMode");
    code.tee(mode);
    code.op("i32.eqz");
    code.if();
    code.get(0);
    code.i64(0xffff_ffffn);
    code.op("i64.and");
    code.return();
    code.end();

    // user = CPL 3 and not an implicit supervisor access.
    this.#field(code, "cpl");
    code.i32(3);
    code.op("i32.eq");
    access(ACCESS.system);
    code.op("i32.eqz");
    code.op("i32.and");
    code.set(user);

    code.get(mode);
    code.i32(PAGING.fourLevel);
    code.op("i32.eq");
    code.if();
    {
      // Canonical: bits 63:47 equal [SDM 1 §3.3.7.1].
      code.get(0);
      code.i64(16n);
      code.op("i64.shl");
      code.i64(16n);
      code.op("i64.shr_s");
      code.get(0);
      code.op("i64.ne");
      code.if();
      this.#raise(code, EXCEPTION.GP, () => code.i32(NON_CANONICAL_ERROR));
      code.i64(-1n);
      code.return();
      code.end();
      code.i64(39n);
      code.set(shift);
    }
    code.else();
    {
      code.get(0);
      code.i64(0xffff_ffffn);
      code.op("i64.and");
      code.set(0);
      code.i64(30n);
      code.i64(22n);
      code.get(mode);
      code.i32(PAGING.pae);
      code.op("i32.eq");
      code.select();
      code.set(shift);
    }
    code.end();
    code.i32(8);
    code.i32(4);
    code.get(mode);
    code.i32(PAGING.twoLevel);
    code.op("i32.ne");
    code.select();
    code.set(entryBytes);
    this.#field(code, "cr3");
    code.i64(ADDRESS_MASK);
    code.i64(0xffff_ffe0n);
    code.get(mode);
    code.i32(PAGING.pae);
    code.op("i32.ne");
    code.select();
    code.op("i64.and");
    code.set(table);
    code.i64(PTE.writable | PTE.user);
    code.set(rights);

    code.loop();
    const walk = code.depth;
    {
      // place of the entry: table + index * entryBytes
      code.get(table);
      code.get(0);
      code.get(shift);
      code.op("i64.shr_u");
      code.i64(0x1ffn);
      code.i64(0x3ffn);
      code.get(entryBytes);
      code.i32(8);
      code.op("i32.eq");
      code.select();
      code.op("i64.and");
      code.get(entryBytes);
      code.op("i64.extend_i32_u");
      code.op("i64.mul");
      code.op("i64.add");
      code.call(place);
      code.tee(at);
      code.op("i32.eqz");
      code.if();
      pageFault(0);
      code.end();
      code.get(at);
      code.memory("i64.load32_u", 0);
      code.set(entry);
      code.get(entryBytes);
      code.i32(8);
      code.op("i32.eq");
      code.if();
      code.get(at);
      code.memory("i64.load", 0);
      code.set(entry);
      code.end();

      code.get(entry);
      code.i64(PTE.present);
      code.op("i64.and");
      code.op("i64.eqz");
      code.if();
      pageFault(0);
      code.end();

      // Reserved bits: physical address width, NX without EFER.NXE, PS at level 4 [SDM 3 §4.7].
      code.get(mode);
      code.i32(PAGING.twoLevel);
      code.op("i32.ne");
      code.if();
      {
        code.get(entry);
        code.i64(RESERVED);
        this.#field(code, "efer");
        code.i64(1n << 11n);
        code.op("i64.and");
        code.op("i64.eqz");
        code.op("i64.extend_i32_u");
        code.i64(63n);
        code.op("i64.shl");
        code.op("i64.or");
        code.get(shift);
        code.i64(39n);
        code.op("i64.eq");
        code.op("i64.extend_i32_u");
        code.i64(7n);
        code.op("i64.shl");
        code.op("i64.or");
        code.op("i64.and");
        code.op("i64.eqz");
        code.op("i32.eqz");
        code.if();
        pageFault(0x9);
        code.end();
        code.get(noExecute);
        code.get(entry);
        code.op("i64.or");
        code.set(noExecute);
      }
      code.end();
      // PDPTEs of PAE have no R/W and U/S [SDM 3 §4.4.1].
      code.get(mode);
      code.i32(PAGING.pae);
      code.op("i32.eq");
      code.get(shift);
      code.i64(30n);
      code.op("i64.eq");
      code.op("i32.and");
      code.op("i32.eqz");
      code.if();
      code.get(rights);
      code.get(entry);
      code.op("i64.and");
      code.set(rights);
      code.end();

      // Not the last level: go on down.
      code.block();
      const leaf = code.depth;
      code.get(shift);
      code.i64(12n);
      code.op("i64.eq");
      code.brIf(leaf);
      has(entry, PTE.large);
      // PS counts at the 1 GiB level of four-level paging, and at 2 MiB; in 2-level mode with CR4.PSE.
      code.get(shift);
      code.i64(39n);
      code.op("i64.ne");
      code.op("i32.and");
      code.get(mode);
      code.i32(PAGING.pae);
      code.op("i32.eq");
      code.get(shift);
      code.i64(30n);
      code.op("i64.eq");
      code.op("i32.and");
      code.op("i32.eqz");
      code.op("i32.and");
      code.get(mode);
      code.i32(PAGING.twoLevel);
      code.op("i32.ne");
      this.#field(code, "cr4");
      code.i64(1n << 4n);
      code.op("i64.and");
      code.op("i64.eqz");
      code.op("i32.eqz");
      code.op("i32.or");
      code.op("i32.and");
      code.brIf(leaf);
      {
        this.#setBits(code, at, entry, PTE.accessed, mode);
        code.get(entry);
        code.i64(ADDRESS_MASK);
        code.op("i64.and");
        code.set(table);
        code.get(shift);
        code.i64(9n);
        code.i64(10n);
        code.get(entryBytes);
        code.i32(8);
        code.op("i32.eq");
        code.select();
        code.op("i64.sub");
        code.set(shift);
        code.br(walk);
      }
      code.end();

      // Reserved address bits of large pages [SDM 3 table 4-16, 4-18].
      code.get(shift);
      code.i64(12n);
      code.op("i64.ne");
      code.get(mode);
      code.i32(PAGING.twoLevel);
      code.op("i32.ne");
      code.op("i32.and");
      code.if();
      code.get(entry);
      code.i64(1n);
      code.get(shift);
      code.op("i64.shl");
      code.i64(1n << 13n);
      code.op("i64.sub");
      code.op("i64.and");
      code.op("i64.eqz");
      code.op("i32.eqz");
      code.if();
      pageFault(0x9);
      code.end();
      code.end();

      // Rights. canWrite: by R/W, or a supervisor without CR0.WP.
      code.get(rights);
      code.i64(PTE.writable);
      code.op("i64.and");
      code.op("i64.eqz");
      code.op("i32.eqz");
      code.get(user);
      code.op("i32.eqz");
      this.#field(code, "cr0");
      code.i64(1n << 16n);
      code.op("i64.and");
      code.op("i64.eqz");
      code.op("i32.and");
      code.op("i32.or");
      code.set(canWrite);
      access(ACCESS.write);
      code.get(canWrite);
      code.op("i32.eqz");
      code.op("i32.and");
      code.if();
      pageFault(1);
      code.end();
      access(ACCESS.fetch);
      code.i32(0);
      code.op("i32.ne");
      code.get(noExecute);
      code.i64(63n);
      code.op("i64.shr_u");
      code.op("i32.wrap_i64");
      code.op("i32.and");
      code.if();
      pageFault(1);
      code.end();
      code.get(user);
      code.if();
      {
        has(rights, PTE.user);
        code.op("i32.eqz");
        code.if();
        pageFault(1);
        code.end();
      }
      code.else();
      {
        has(rights, PTE.user);
        code.if();
        // A supervisor on a user page: SMEP for fetches, SMAP for data unless AC lifts it [SDM 3 §4.6.1].
        this.#field(code, "cr4");
        code.i64(20n);
        code.op("i64.shr_u");
        code.op("i32.wrap_i64");
        code.i32(1);
        code.op("i32.and");
        access(ACCESS.fetch);
        code.i32(0);
        code.op("i32.ne");
        code.op("i32.and");
        this.#field(code, "cr4");
        code.i64(21n);
        code.op("i64.shr_u");
        code.op("i32.wrap_i64");
        code.i32(1);
        code.op("i32.and");
        access(ACCESS.fetch);
        code.op("i32.eqz");
        code.op("i32.and");
        this.#field(code, "flagsSystem");
        code.i32(18);
        code.op("i32.shr_u");
        code.i32(1);
        code.op("i32.and");
        code.op("i32.eqz");
        this.#field(code, "cpl");
        code.i32(3);
        code.op("i32.eq");
        code.op("i32.or");
        code.op("i32.and");
        code.op("i32.or");
        code.if();
        pageFault(1);
        code.end();
        code.end();
      }
      code.end();

      // Accessed, and dirty for a write.
      code.i64(PTE.accessed | PTE.dirty);
      code.i64(PTE.accessed);
      access(ACCESS.write);
      code.select();
      code.set(table);
      code.get(entry);
      code.get(table);
      code.op("i64.and");
      code.get(table);
      code.op("i64.ne");
      code.if();
      code.get(at);
      code.get(entry);
      code.get(table);
      code.op("i64.or");
      code.tee(entry);
      code.memory("i64.store32", 0);
      code.end();

      // What the TLB may remember: whether the page is large, and writable without another walk.
      code.i32(0);
      code.get(shift);
      code.op("i32.wrap_i64");
      code.memory("i32.store", STATE_BASE + STATE.walkShift.offset);
      code.i32(0);
      code.get(canWrite);
      has(entry, PTE.dirty);
      code.op("i32.and");
      code.memory("i32.store", STATE_BASE + STATE.walkWritable.offset);

      // (entry & address & ~(1<<shift - 1)) | (linear & (1<<shift - 1)); PSE-36 is not offered.
      code.get(entry);
      code.i64(ADDRESS_MASK);
      code.op("i64.and");
      code.i64(-1n);
      code.get(shift);
      code.op("i64.shl");
      code.op("i64.and");
      code.get(0);
      code.i64(-1n);
      code.get(shift);
      code.op("i64.shl");
      code.i64(-1n);
      code.op("i64.xor");
      code.op("i64.and");
      code.op("i64.or");
      code.return();
    }
    code.end();
    code.i64(-1n);
    return index;
  }

  /** Sets bits of a table entry in memory where they are not set yet. PAE's PDPTEs have no A bit. */
  #setBits(code: CodeWriter, at: number, entry: number, bits: bigint, mode: number): void {
    code.get(entry);
    code.i64(bits);
    code.op("i64.and");
    code.op("i64.eqz");
    code.get(mode);
    code.i32(PAGING.pae);
    code.op("i32.ne");
    code.op("i32.and");
    code.if();
    code.get(at);
    code.get(entry);
    code.i64(bits);
    code.op("i64.or");
    code.memory("i64.store32", 0);
    code.end();
  }

  /** (linear i64, place i32): enters the page into the current view, for writing too where the walk allowed it. */
  #fill(): number {
    const { index, code } = this.#module.function(["i64", "i32"], []);
    const entry = code.local("i32");
    const page = code.local("i64");
    const count = code.local("i32");
    code.get(0);
    code.i64(~0xfffn);
    code.op("i64.and");
    code.set(page);
    this.#field(code, "tlbBase");
    code.get(0);
    code.op("i32.wrap_i64");
    code.i32(8);
    code.op("i32.shr_u");
    code.i32((TLB.entries - 1) * TLB.entryBytes);
    code.op("i32.and");
    code.op("i32.add");
    code.set(entry);
    const put = (table: number) => {
      code.get(entry);
      code.get(page);
      code.memory("i64.store", table);
      code.get(entry);
      code.get(1);
      code.get(0);
      code.op("i32.wrap_i64");
      code.op("i32.sub");
      code.memory("i32.store", table + 8);
    };
    put(0);
    this.#field(code, "walkWritable");
    code.get(1);
    code.i32(this.#memory.regions[0]?.offset ?? 0);
    code.op("i32.sub");
    code.i32(12);
    code.op("i32.shr_u");
    code.memory("i32.load8_u", CODE_MAP);
    code.op("i32.eqz");
    code.op("i32.and");
    code.if();
    put(TLB.writeDelta);
    code.end();
    // Log the entry for a cheap flush.
    code.i32(0);
    code.memory("i32.load", TLB_LOG.count);
    code.tee(count);
    code.i32(TLB_LOG.capacity);
    code.op("i32.lt_u");
    code.if();
    code.get(count);
    code.i32(2);
    code.op("i32.shl");
    code.get(entry);
    code.memory("i32.store", TLB_LOG.base);
    code.end();
    code.i32(0);
    code.get(count);
    code.i32(1);
    code.op("i32.add");
    code.memory("i32.store", TLB_LOG.count);
    // Remember where large pages were filled from.
    this.#field(code, "walkShift");
    code.i32(12);
    code.op("i32.gt_u");
    code.if();
    this.#largeByte(code, 0, 21n);
    code.i32(1);
    code.memory("i32.store8", LARGE_PAGES.base);
    this.#field(code, "walkShift");
    code.i32(29);
    code.op("i32.gt_u");
    code.if();
    this.#largeByte(code, 0, 30n);
    code.i32(1);
    code.memory("i32.store8", LARGE_PAGES.base);
    code.end();
    code.end();
    return index;
  }

  /** Pushes the index of the large-page byte for a region of `1 << shift`. */
  #largeByte(code: CodeWriter, address: number, shift: bigint): void {
    code.get(address);
    code.i64(shift);
    code.op("i64.shr_u");
    code.op("i32.wrap_i64");
    code.i32(shift === 21n ? 0x9e3779b1 | 0 : 0x85ebca6b | 0);
    code.op("i32.mul");
    code.i32(20);
    code.op("i32.shr_u");
  }

  /** Whether [address, address + bytes) leaves its page. */
  #crosses(code: CodeWriter, address: number, bytes: number): void {
    code.get(address);
    code.op("i32.wrap_i64");
    code.i32(0xfff);
    code.op("i32.and");
    code.get(bytes);
    code.op("i32.add");
    code.i32(0x1000);
    code.op("i32.gt_u");
  }

  /** translate(address) into `physical`; returns `0` from the function on a fault. */
  #translated(code: CodeWriter, translate: number, pushAddress: () => void, access: number, physical: number, result: boolean) {
    pushAddress();
    code.i32(access);
    code.call(translate);
    code.tee(physical);
    code.i64(-1n);
    code.op("i64.eq");
    code.if();
    if (result) code.i64(0n);
    code.return();
    code.end();
  }

  #load(name: string, translate: number, place: number, fill: number, access: number, fills: boolean): number {
    const { index, code } = this.#module.function(["i64", "i32"], ["i64"], name);
    const physical = code.local("i64");
    const at = code.local("i32");
    const i = code.local("i64");
    const value = code.local("i64");
    this.#crosses(code, 0, 1);
    code.if();
    {
      this.#translated(code, translate, () => code.get(0), access, physical, true);
      this.#translated(
        code,
        translate,
        () => {
          code.get(0);
          code.get(1);
          code.op("i64.extend_i32_u");
          code.op("i64.add");
          code.i64(-1n);
          code.op("i64.add");
          code.i64(~0xfffn);
          code.op("i64.and");
        },
        access,
        physical,
        true,
      );
      code.loop();
      const again = code.depth;
      code.get(value);
      code.get(0);
      code.get(i);
      code.op("i64.add");
      code.i32(1);
      code.call(index);
      code.get(i);
      code.i64(3n);
      code.op("i64.shl");
      code.op("i64.shl");
      code.op("i64.or");
      code.set(value);
      code.get(i);
      code.i64(1n);
      code.op("i64.add");
      code.tee(i);
      code.get(1);
      code.op("i64.extend_i32_u");
      code.op("i64.lt_u");
      code.brIf(again);
      code.end();
      code.get(value);
      code.return();
    }
    code.end();
    this.#translated(code, translate, () => code.get(0), access, physical, true);
    code.get(physical);
    code.call(place);
    code.tee(at);
    code.if();
    if (fills) {
      code.get(0);
      code.get(at);
      code.call(fill);
    }
    this.#bySize(code, 1, (size) => {
      code.get(at);
      code.memory(size === 8 ? "i64.load" : `i64.load${size * 8}_u`, 0);
      code.return();
    });
    code.end();
    // Memory-mapped devices: 8 bytes as two accesses of 4.
    code.get(1);
    code.i32(8);
    code.op("i32.eq");
    code.if();
    code.get(physical);
    code.i32(4);
    code.call(this.#mmioRead);
    code.op("i64.extend_i32_u");
    code.get(physical);
    code.i64(4n);
    code.op("i64.add");
    code.i32(4);
    code.call(this.#mmioRead);
    code.op("i64.extend_i32_u");
    code.i64(32n);
    code.op("i64.shl");
    code.op("i64.or");
    code.return();
    code.end();
    code.get(physical);
    code.get(1);
    code.call(this.#mmioRead);
    code.op("i64.extend_i32_u");
    return index;
  }

  /** Runs `emit` for the size in local `bytes`: 1, 2, 4 or 8. */
  #bySize(code: CodeWriter, bytes: number, emit: (size: 1 | 2 | 4 | 8) => void): void {
    for (const size of [8, 4, 2, 1] as const) {
      code.get(bytes);
      code.i32(size);
      code.op("i32.eq");
      code.if();
      emit(size);
      code.end();
    }
  }

  /** (linear i64, bytes i32): faults as a store there would; bytes up to 16. */
  #probeWrite(translate: number): number {
    const { index, code } = this.#module.function(["i64", "i32"], [], "probeWrite");
    const physical = code.local("i64");
    this.#translated(code, translate, () => code.get(0), ACCESS.write, physical, false);
    this.#crosses(code, 0, 1);
    code.if();
    this.#translated(
      code,
      translate,
      () => {
        code.get(0);
        code.i64(0x1000n);
        code.op("i64.add");
        code.i64(~0xfffn);
        code.op("i64.and");
      },
      ACCESS.write,
      physical,
      false,
    );
    code.end();
    return index;
  }

  #store(name: string, translate: number, place: number, fill: number, probe: number, access: number, fills: boolean): number {
    const { index, code } = this.#module.function(["i64", "i32", "i64"], [], name);
    const physical = code.local("i64");
    const at = code.local("i32");
    const i = code.local("i64");
    this.#crosses(code, 0, 1);
    code.if();
    {
      if (access === 0) {
        code.get(0);
        code.get(1);
        code.call(probe);
        this.#field(code, "fault");
        code.if();
        code.return();
        code.end();
      }
      code.loop();
      const again = code.depth;
      code.get(0);
      code.get(i);
      code.op("i64.add");
      code.i32(1);
      code.get(2);
      code.get(i);
      code.i64(3n);
      code.op("i64.shl");
      code.op("i64.shr_u");
      code.call(index);
      code.get(i);
      code.i64(1n);
      code.op("i64.add");
      code.tee(i);
      code.get(1);
      code.op("i64.extend_i32_u");
      code.op("i64.lt_u");
      code.brIf(again);
      code.end();
      code.return();
    }
    code.end();
    this.#translated(code, translate, () => code.get(0), access | ACCESS.write, physical, false);
    code.get(physical);
    code.call(place);
    code.tee(at);
    code.if();
    {
      this.#ifCode(code, at, () => {
        code.get(at);
        code.get(1);
        code.call(this.#codeWrite);
        code.drop();
      });
      if (fills) {
        code.get(0);
        code.get(at);
        code.call(fill);
      }
      this.#bySize(code, 1, (size) => {
        code.get(at);
        code.get(2);
        code.memory(size === 8 ? "i64.store" : `i64.store${size * 8}`, 0);
        code.return();
      });
      code.return();
    }
    code.end();
    const write = (at0: bigint, bytes: () => void, shift: bigint) => {
      code.get(physical);
      code.i64(at0);
      code.op("i64.add");
      bytes();
      code.get(2);
      code.i64(shift);
      code.op("i64.shr_u");
      code.op("i32.wrap_i64");
      code.call(this.#mmioWrite);
    };
    code.get(1);
    code.i32(8);
    code.op("i32.eq");
    code.if();
    write(0n, () => code.i32(4), 0n);
    write(4n, () => code.i32(4), 32n);
    code.return();
    code.end();
    write(0n, () => code.get(1), 0n);
    return index;
  }

  /** Runs `emit` where the RAM page at place `at` holds decoded code. */
  #ifCode(code: CodeWriter, at: number, emit: () => void): void {
    code.get(at);
    code.i32(this.#memory.regions[0]?.offset ?? 0);
    code.op("i32.sub");
    code.i32(12);
    code.op("i32.shr_u");
    code.memory("i32.load8_u", CODE_MAP);
    code.if();
    emit();
    code.end();
  }

  /** (linear i64) -> i64: physical address of code, by the fetch TLB; -1 on a fault. The tag holds the user bit. */
  #fetch(translate: number): number {
    const { index, code } = this.#module.function(["i64"], ["i64"], "fetch");
    const entry = code.local("i32");
    const tag = code.local("i64");
    const physical = code.local("i64");
    code.get(0);
    code.i64(~0xfffn);
    code.op("i64.and");
    this.#field(code, "cpl");
    code.i32(3);
    code.op("i32.eq");
    code.op("i64.extend_i32_u");
    code.op("i64.or");
    code.set(tag);
    code.get(0);
    code.op("i32.wrap_i64");
    code.i32(8);
    code.op("i32.shr_u");
    code.i32((FETCH_TLB.entries - 1) * 16);
    code.op("i32.and");
    code.tee(entry);
    code.memory("i64.load", FETCH_TLB.base);
    code.get(tag);
    code.op("i64.eq");
    code.if();
    code.get(entry);
    code.memory("i64.load", FETCH_TLB.base + 8);
    code.get(0);
    code.i64(0xfffn);
    code.op("i64.and");
    code.op("i64.or");
    code.return();
    code.end();
    this.#translatedFetch(code, translate, physical);
    code.get(entry);
    code.get(tag);
    code.memory("i64.store", FETCH_TLB.base);
    code.get(entry);
    code.get(physical);
    code.i64(~0xfffn);
    code.op("i64.and");
    code.memory("i64.store", FETCH_TLB.base + 8);
    code.get(physical);
    return index;
  }
  #translatedFetch(code: CodeWriter, translate: number, physical: number): void {
    code.get(0);
    code.i32(ACCESS.fetch);
    code.call(translate);
    code.tee(physical);
    code.i64(-1n);
    code.op("i64.eq");
    code.if();
    code.i64(-1n);
    code.return();
    code.end();
  }

  /** (rip i64) -> i32: finds the trace by physical address and enters it into the jump cache. */
  #lookup(fetch: number): number {
    const { index, code } = this.#module.function(["i64"], ["i32"], "lookup");
    const key = code.local("i64");
    const slot = code.local("i32");
    const tries = code.local("i32");
    const record = code.local("i32");
    const found = code.local("i64");
    code.get(0);
    code.call(fetch);
    code.tee(key);
    code.i64(-1n);
    code.op("i64.eq");
    code.if();
    code.i32(0);
    code.return();
    code.end();
    code.get(key);
    this.#field(code, "decodeContext");
    code.op("i64.extend_i32_u");
    code.i64(48n);
    code.op("i64.shl");
    code.op("i64.or");
    code.i64(1n << 60n);
    code.op("i64.or");
    code.set(key);
    code.get(key);
    code.op("i32.wrap_i64");
    code.i32(0x9e3779b1 | 0);
    code.op("i32.mul");
    code.i32(32 - Math.log2(TRACE_HASH.entries));
    code.op("i32.shr_u");
    code.set(slot);
    code.loop();
    const probe = code.depth;
    code.get(slot);
    code.i32(TRACE_HASH.entries - 1);
    code.op("i32.and");
    code.i32(4);
    code.op("i32.shl");
    code.tee(record);
    code.memory("i64.load", TRACE_HASH.base);
    code.tee(found);
    code.get(key);
    code.op("i64.eq");
    code.if();
    {
      code.get(record);
      code.memory("i32.load", TRACE_HASH.base + 8);
      code.set(record);
      pushJumpSlot(code, 0);
      code.tee(slot);
      code.get(0);
      code.memory("i64.store", JUMP_CACHE.base);
      code.get(slot);
      code.get(record);
      code.memory("i32.store", JUMP_CACHE.base + 8);
      code.get(slot);
      this.#field(code, "jumpContext");
      code.memory("i32.store", JUMP_CACHE.base + 12);
      code.get(record);
      code.return();
    }
    code.end();
    code.get(slot);
    code.i32(1);
    code.op("i32.add");
    code.set(slot);
    code.get(tries);
    code.i32(1);
    code.op("i32.add");
    code.tee(tries);
    code.i32(TRACE_HASH.probes);
    code.op("i32.lt_u");
    code.get(found);
    code.op("i64.eqz");
    code.op("i32.eqz");
    code.op("i32.and");
    code.brIf(probe);
    code.end();
    code.i32(0);
    return index;
  }

  /** Forgets every translation. */
  #flushAll(): number {
    const { index, code } = this.#module.function([], [], "flushAll");
    const count = code.local("i32");
    const entry = code.local("i32");
    code.i32(0);
    code.memory("i32.load", TLB_LOG.count);
    code.tee(count);
    code.i32(TLB_LOG.capacity);
    code.op("i32.gt_u");
    code.if();
    {
      // Tags of all ones bytes: 0x0101... is no page address.
      code.i32(TLB.base);
      code.i32(1);
      code.i32(TLB.views * TLB.viewBytes);
      code.memoryFill();
    }
    code.else();
    code.block();
    const done = code.depth;
    code.loop();
    const again = code.depth;
    code.get(count);
    code.op("i32.eqz");
    code.brIf(done);
    code.get(count);
    code.i32(1);
    code.op("i32.sub");
    code.tee(count);
    code.i32(2);
    code.op("i32.shl");
    code.memory("i32.load", TLB_LOG.base);
    code.tee(entry);
    code.i64(1n);
    code.memory("i64.store", 0);
    code.get(entry);
    code.i64(1n);
    code.memory("i64.store", TLB.writeDelta);
    code.br(again);
    code.end();
    code.end();
    code.end();
    code.i32(0);
    code.i32(0);
    code.memory("i32.store", TLB_LOG.count);
    code.i32(LARGE_PAGES.base);
    code.i32(0);
    code.i32(LARGE_PAGES.bytes);
    code.memoryFill();
    code.i32(FETCH_TLB.base);
    code.i32(0xee);
    code.i32(FETCH_TLB.entries * 16);
    code.memoryFill();
    return index;
  }

  /** (linear i64): forgets one page in every view, or all where it may lie in a large page. */
  #flushPage(flushAll: number): void {
    const { code } = this.#module.function(["i64"], [], "flushPage");
    const entry = code.local("i32");
    this.#largeByte(code, 0, 21n);
    code.memory("i32.load8_u", LARGE_PAGES.base);
    this.#largeByte(code, 0, 30n);
    code.memory("i32.load8_u", LARGE_PAGES.base);
    code.op("i32.or");
    code.if();
    code.call(flushAll);
    code.return();
    code.end();
    code.get(0);
    code.op("i32.wrap_i64");
    code.i32(8);
    code.op("i32.shr_u");
    code.i32((TLB.entries - 1) * TLB.entryBytes);
    code.op("i32.and");
    code.set(entry);
    for (let view = 0; view < TLB.views; view++) {
      for (const table of [0, TLB.writeDelta]) {
        code.get(entry);
        code.i64(1n);
        code.memory("i64.store", TLB.base + view * TLB.viewBytes + table);
      }
    }
    code.get(0);
    code.op("i32.wrap_i64");
    code.i32(8);
    code.op("i32.shr_u");
    code.i32((FETCH_TLB.entries - 1) * 16);
    code.op("i32.and");
    code.i64(-1n);
    code.memory("i64.store", FETCH_TLB.base);
  }

  /**
   * (element bytes, count, destination, source or value) -> elements done: as much of REP MOVS or STOS as lies in one
   * page on each side, hits the TLB, and does not overlap forwards; 0 leaves the rest to single steps.
   */
  #bulk(name: string, copies: boolean): void {
    const { code } = this.#module.function(["i32", "i64", "i64", "i64"], ["i64"], name);
    const entry = code.local("i32");
    const to = code.local("i32");
    const from = code.local("i32");
    const bytes = code.local("i32");
    const count = code.local("i32");
    const i = code.local("i32");
    const hit = (address: number, table: number, place: number) => {
      this.#field(code, "tlbBase");
      code.get(address);
      code.op("i32.wrap_i64");
      code.i32(8);
      code.op("i32.shr_u");
      code.i32((TLB.entries - 1) * TLB.entryBytes);
      code.op("i32.and");
      code.op("i32.add");
      code.tee(entry);
      code.memory("i64.load", table);
      code.get(address);
      code.i64(~0xfffn);
      code.op("i64.and");
      code.op("i64.ne");
      code.if();
      code.i64(0n);
      code.return();
      code.end();
      code.get(address);
      code.op("i32.wrap_i64");
      code.get(entry);
      code.memory("i32.load", table + 8);
      code.op("i32.add");
      code.set(place);
    };
    hit(2, TLB.writeDelta, to);
    if (copies) hit(3, 0, from);
    // count = min(count, elements left in either page)
    const room = (address: number) => {
      code.i32(0x1000);
      code.get(address);
      code.op("i32.wrap_i64");
      code.i32(0xfff);
      code.op("i32.and");
      code.op("i32.sub");
      code.get(0);
      code.op("i32.div_u");
      code.set(i);
      code.get(i);
      code.get(count);
      code.get(i);
      code.get(count);
      code.op("i32.lt_u");
      code.select();
      code.set(count);
    };
    code.get(1);
    code.i64(0x1000n);
    code.get(1);
    code.i64(0x1000n);
    code.op("i64.lt_u");
    code.select();
    code.op("i32.wrap_i64");
    code.set(count);
    room(2);
    if (copies) room(3);
    code.get(count);
    code.get(0);
    code.op("i32.mul");
    code.tee(bytes);
    code.op("i32.eqz");
    code.if();
    code.i64(0n);
    code.return();
    code.end();
    if (copies) {
      // Forward overlap repeats a pattern, which memory.copy would not: to - from within (0, bytes).
      code.get(to);
      code.get(from);
      code.op("i32.sub");
      code.get(bytes);
      code.op("i32.lt_u");
      code.get(to);
      code.get(from);
      code.op("i32.ne");
      code.op("i32.and");
      code.if();
      code.i64(0n);
      code.return();
      code.end();
      code.get(to);
      code.get(from);
      code.get(bytes);
      code.memoryCopy();
    } else {
      code.get(0);
      code.i32(1);
      code.op("i32.eq");
      code.if();
      code.get(to);
      code.get(3);
      code.op("i32.wrap_i64");
      code.get(bytes);
      code.memoryFill();
      code.else();
      code.get(to);
      code.get(bytes);
      code.op("i32.add");
      code.set(from);
      this.#bySize(code, 0, (size) => {
        if (size === 1) return;
        code.loop();
        const again = code.depth;
        code.get(to);
        code.get(3);
        code.memory(size === 8 ? "i64.store" : `i64.store${size * 8}`, 0);
        code.get(to);
        code.i32(size);
        code.op("i32.add");
        code.tee(to);
        code.get(from);
        code.op("i32.lt_u");
        code.brIf(again);
        code.end();
      });
      code.end();
    }
    code.get(count);
    code.op("i64.extend_i32_u");
  }
}

/** Pushes the jump cache's slot (byte offset) of the RIP in a local. */
export function pushJumpSlot(code: CodeWriter, rip: number): void {
  code.get(rip);
  code.op("i32.wrap_i64");
  code.get(rip);
  code.i64(12n);
  code.op("i64.shr_u");
  code.op("i32.wrap_i64");
  code.op("i32.xor");
  code.i32(JUMP_CACHE.entries - 1);
  code.op("i32.and");
  code.i32(4);
  code.op("i32.shl");
}

/** Builds and instantiates the core for one memory. */
export function createMemoryCore(memory: GuestMemory, imports: MemoryCoreImports): MemoryCore {
  const bytes = new CoreWriter(memory).build();
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
    env: { ...imports, memory: memory.memory },
  });
  return instance.exports as unknown as MemoryCore;
}
