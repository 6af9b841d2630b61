/**
 * The memory side of the portable engine, one generated WebAssembly module: page walker, TLB refill, slow loads and
 * stores, look-up of decoded code, bulk string moves [SDM 3 §4].
 *
 * Every function leaves `fault` in the state, and returns 0 or -1, where the access faults; `fault` must be 0 before.
 */

import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { TLB_LOGS } from "../layout.ts";
import { defineAccesses } from "./access.ts";
import { defineBulkStrings } from "./bulk-strings.ts";
import { defineCodeLookup } from "./code-lookup.ts";
import { CoreModule } from "./core-module.ts";
import { defineLiftedRights } from "./lifted-rights.ts";
import { defineTranslate } from "./page-walk.ts";
import { defineTlb } from "./tlb.ts";

/** Functions that the core exports. Addresses are signed 64-bit; `bytes` is 1, 2, 4 or 8 unless it says otherwise. */
export interface MemoryCore {
  load(address: bigint, bytes: number): bigint;
  store(address: bigint, bytes: number, value: bigint): void;
  /** A load that faults as a store there would: the first half of a read-modify-write. */
  loadForWrite(address: bigint, bytes: number): bigint;
  /** Faults as a store would; 1 to 4096 bytes. */
  probeWrite(address: bigint, bytes: number): void;
  /** Faults as a load would. */
  probeRead(address: bigint, bytes: number): void;
  /** Guest-physical address of a linear one, or -1 with `fault` set. `access`: ACCESS bits. */
  translate(address: bigint, access: number): bigint;
  /** By the supervisor's rights, as an implicit access [SDM 3 §4.6.1]. */
  loadSystem(address: bigint, bytes: number): bigint;
  storeSystem(address: bigint, bytes: number, value: bigint): void;
  /** Guest-physical address of code, or -1 with `fault` set. */
  fetch(address: bigint): bigint;
  /** The record of the trace at a linear address, 0 where none is decoded or the fetch faults. */
  lookup(rip: bigint): number;
  flushAll(): void;
  /** All but global translations; gives FETCH_RIGHTS: whose jumps [jump-contexts.ts] hold no longer. */
  flushNonGlobal(): number;
  /** The page at a place in the memory, for writing, by whatever address. */
  forgetWritable(place: number): void;
  /** One page; gives the same. */
  flushPage(address: bigint): number;
  /** Elements moved, upwards; 0 where the first one needs a single step. */
  repMovs(elementBytes: number, count: bigint, dst: bigint, src: bigint): bigint;
  repStos(elementBytes: number, count: bigint, dst: bigint, value: bigint): bigint;
  /** RFLAGS.AC was changed by an instruction. */
  viewChanged(): void;
}

/** What the core asks of TypeScript. Physical addresses come as i64. */
export interface MemoryCoreImports {
  /** An unsigned number of `bytes` (1, 2 or 4). */
  mmioRead(address: bigint, bytes: number): number;
  /** `value` may have bits above `bytes`. */
  mmioWrite(address: bigint, bytes: number, value: number): void;
  /** A store is about to change a page with decoded code. 1 where the page holds none afterwards. */
  codeWrite(place: number, bytes: number): number;
  /** Whatever follows from the state that is not guest memory's may have changed. */
  viewChanged(): void;
  /** While `watching` is set: an instruction's access that did not fault. `access`: ACCESS bits. */
  watched(address: bigint, bytes: number, access: number): void;
}

/** Builds and instantiates the core for one memory, with empty TLBs. `gigabytePages`: whether pages of 1 GiB exist. */
export function createMemoryCore(
  memory: GuestMemory,
  imports: MemoryCoreImports,
  { gigabytePages = true }: { readonly gigabytePages?: boolean } = {},
): MemoryCore {
  const core = new CoreModule(memory);
  const translate = defineTranslate(core, gigabytePages);
  const tlb = defineTlb(core);
  defineAccesses(core, translate, tlb.fill);
  defineCodeLookup(core, translate, tlb);
  defineBulkStrings(core);
  defineLiftedRights(core);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(core.builder.finish()), {
    env: { ...imports, memory: memory.memory },
  });
  const exports = instance.exports as unknown as MemoryCore;
  // A log that ran over makes the flush wipe the tables whole.
  memory.view.setInt32(TLB_LOGS.local.count, TLB_LOGS.local.capacity + 1, true);
  exports.flushAll();
  return exports;
}
