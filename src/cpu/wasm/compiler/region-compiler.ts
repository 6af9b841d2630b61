/**
 * The compiler tier: turns hot trace heads into compiled regions, in batches of one WebAssembly module, keeps them up to
 * a cap, and forgets those whose code is written.
 */

import type { Decoder } from "../../../isa/decode.ts";
import { DECODE } from "../../../isa/decode.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { HANDLER, NEVER, RECORD, REGION_ACCOUNT, REGION_STAMP } from "../layout.ts";
import type { CodeOwner } from "../code-pages.ts";
import type { TraceHeads } from "../traces.ts";
import type { MemoryCore } from "../memory/memory-core.ts";
import {
  type CompiledBatch,
  type CompiledJob,
  type CompileJob,
  type CodePart,
  type CompileService,
} from "./compile-job.ts";
import { IndirectSites } from "./indirect-sites.ts";
import { codeOf, findRegion, isWorthwhile, PAGE_BYTES, type Region, type Targets } from "./region.ts";
import { buildRegionModule, REGION_IMPORTS } from "./region-module.ts";
import { hasTrace } from "../trace-hash.ts";

export interface CompilerOptions {
  /** Executions of a trace's head before it is compiled; at least 1. */
  readonly threshold: number;
  /** WebAssembly bytes of live regions at most, before the older half is dropped. */
  readonly maxBytes: number;
  /** Compiles beside the guest; absent, or where it is not wanted: the guest waits while its code is compiled. */
  readonly service?: CompileService;
}

/** What the compiler needs of the engine. */
export interface CompilerHost {
  /** Physical address of code at a linear one; undefined where the fetch would fault. */
  fetch(linear: bigint): number | undefined;
  /** From now on a write to the RAM page at `page` is noticed, also one by a device. */
  claim(page: number): void;
  /** Has `owner` told when a byte of [from, to) of the RAM page at `page` is written. */
  own(page: number, from: number, to: number, owner: CodeOwner): void;
}

export interface CompilerStats {
  /** Regions compiled so far, those that live, and those that were forgotten because their code was written. */
  compiled: number;
  live: number;
  written: number;
  evicted: number;
  /** Regions made again with what their indirect jumps lead to. */
  refined: number;
  /** Guest instructions compiled, WebAssembly bytes made, milliseconds spent. */
  instructions: number;
  bytes: number;
  milliseconds: number;
  /** Milliseconds spent beside the guest. */
  backgroundMilliseconds: number;
}

interface Compiled extends CodeOwner {
  /** Until it is compiled: what it was decoded to is much larger than it. */
  region: Region | undefined;
  readonly key: number;
  /** Its head's physical address and that of its page, and the decode context. */
  readonly physical: number;
  readonly page: number;
  readonly mode: number;
  /** Where its indirect jumps lead, by their addresses, and where that is noted. */
  readonly targets: Map<number, readonly number[]>;
  readonly sites: Map<number, number>;
  /** How often it was made again for that. */
  refinements: number;
  index: number;
  bytes: number;
  /** Head records that enter it. */
  readonly records: Set<number>;
  live: boolean;
}

/** Each time a page's compiled code was written, its heads must be this many times as hot. */
const PATIENCE = 4;
const MAX_BATCH = 16;
/** What a job may note targets at, and how many pages in a row before and after its head's it is told of. */
const SITES_OF_JOB = 4;
const PAGES_OF_JOB = 32;
/** A region is made again so often at most: first when as many executions as the threshold left it by one indirect jump,
 * then after many times that. */
const MAX_REFINEMENTS = 2;
const REFINEMENT_GROWTH = 8;

export class RegionCompiler implements TraceHeads {
  readonly #memory: GuestMemory;
  readonly #words: Int32Array;
  /** What modules of regions import. */
  readonly #imports: WebAssembly.ModuleImports;
  readonly #table: WebAssembly.Table;
  readonly #decoder: Decoder;
  readonly #host: CompilerHost;
  readonly #options: CompilerOptions;
  readonly #regions = new Map<number, Compiled>();
  readonly #sites: IndirectSites;
  readonly #byIndex: (Compiled | undefined)[] = [];
  /** Heads that nothing can be compiled at, until their page is written. */
  #waiting: Compiled[] = [];
  /** What is being compiled beside the guest, by the job's number. */
  readonly #posted = new Map<number, { readonly compiled: Compiled; readonly job: CompileJob }>();
  #jobs = 0;
  /** Oldest first. */
  #living: Compiled[] = [];
  #liveBytes = 0;
  /** How often compiled code of a page was written, by the page's physical address, and the last of those writes. */
  readonly #rewrites = new Map<number, { readonly count: number; readonly last: number }>();
  readonly #free: number[] = [];
  #next = 0;
  readonly stats: CompilerStats = {
    compiled: 0,
    live: 0,
    written: 0,
    evicted: 0,
    refined: 0,
    instructions: 0,
    bytes: 0,
    milliseconds: 0,
    backgroundMilliseconds: 0,
  };

  constructor(
    memory: GuestMemory,
    core: MemoryCore,
    helpers: Record<string, unknown>,
    table: WebAssembly.Table,
    decoder: Decoder,
    host: CompilerHost,
    options: CompilerOptions,
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.memory.buffer);
    this.#imports = {
      ...(helpers as WebAssembly.ModuleImports),
      ...core,
      [REGION_IMPORTS.memory]: memory.memory,
      [REGION_IMPORTS.refine]: (index: number, linear: bigint) => this.#refine(index, linear),
    };
    this.#table = table;
    this.#decoder = decoder;
    this.#host = host;
    this.#options = options;
    this.#sites = new IndirectSites(memory);
  }

  /** Writes the head record of a new trace, which either counts or enters the region that there is. */
  writeHead(record: number, physical: number, mode: number): void {
    const known = this.#regions.get(keyOf(physical, mode));
    if (known !== undefined && known.index >= 0) this.#enter(known, record);
    else this.#count(record, this.#thresholdOf(physical, mode));
  }

  /** Whether traces of a mode get head records. */
  compiles(mode: number): boolean {
    return (mode & (DECODE.singleStep | DECODE.alignment | DECODE.debug | DECODE.limited)) === 0;
  }

  /** A head has become hot: its region is found now and compiled with the next batch. */
  request(linear: bigint, record: number, physical: number, mode: number): void {
    this.#count(record, NEVER);
    const known = this.#regions.get(keyOf(physical, mode));
    if (known !== undefined) {
      if (known.index >= 0) this.#enter(known, record);
      else known.records.add(record);
      return;
    }
    const started = performance.now();
    this.#begin(linear, record, physical, mode);
    this.stats.milliseconds += performance.now() - started;
    if (this.#options.threshold <= 1 || this.#waiting.length >= MAX_BATCH) this.flush();
  }

  /** Finds a head's region, or posts it, where there is one worth it. */
  #begin(linear: bigint, record: number, physical: number, mode: number): void {
    const service = this.#service();
    const region = service === undefined ? this.#find(linear, physical, mode) : undefined;
    if (service !== undefined) {
      if (!this.#hasPlace()) return;
    } else if (region === undefined || (this.#options.threshold > 1 && !isWorthwhile(region))) return;
    const key = keyOf(physical, mode);
    const compiled: Compiled = {
      region,
      key,
      physical,
      page: physical - (physical % PAGE_BYTES),
      mode,
      targets: new Map(),
      sites: new Map(),
      refinements: 0,
      index: -1,
      bytes: 0,
      records: new Set([record]),
      live: true,
      forget: (write) => this.#written(compiled, write),
    };
    this.#regions.set(key, compiled);
    if (service !== undefined) this.#post(service, compiled, linear);
    if (region !== undefined) {
      this.#waiting.push(compiled);
      this.#ownCode(compiled, region);
    }
  }

  /** Where to compile now; undefined: here. */
  #service(): CompileService | undefined {
    const { service } = this.#options;
    return service?.wanted() === true ? service : undefined;
  }

  #hasPlace(): boolean {
    return this.#free.length > 0 || this.#next < REGION_STAMP.regions;
  }

  /** Has a region made, or made again, beside the guest. */
  #post(service: CompileService, compiled: Compiled, linear: bigint): void {
    const { physical, page, mode, targets } = compiled;
    const exits = this.#options.threshold * REFINEMENT_GROWTH ** compiled.refinements;
    const sites: number[] = [];
    for (let i = 0; i < SITES_OF_JOB && compiled.refinements < MAX_REFINEMENTS; i++) {
      const site = this.#sites.take(exits);
      if (site !== undefined) sites.push(site);
    }
    const index = compiled.index >= 0 ? compiled.index : (this.#free.pop() ?? this.#next++);
    const head = physical - page;
    const job = { id: this.#jobs++, index, head, mode, pages: this.#pagesAround(linear, page, mode), targets, sites };
    this.#posted.set(job.id, { compiled, job });
    service.post(job);
  }

  /** Physical pages in a row around one, by their distance. */
  #pagesAround(linear: bigint, page: number, mode: number): Map<number, number> {
    const pages = new Map([[0, page]]);
    for (const step of [1, -1]) {
      for (let number = step; Math.abs(number) <= PAGES_OF_JOB; number += step) {
        const physical = this.#pageOf(linear, number, mode);
        if (physical === undefined) break;
        pages.set(number, physical);
      }
    }
    return pages;
  }

  /** Physical address of a page by its distance from that of a linear address; undefined where it is not mapped. */
  #pageOf(linear: bigint, number: number, mode: number): number | undefined {
    const at = (linear & ~0xfffn) + BigInt(number * PAGE_BYTES);
    return this.#host.fetch((mode & DECODE.long) !== 0 ? BigInt.asUintN(64, at) : at & 0xffff_ffffn);
  }

  /** Installs what was compiled beside the guest, unless its code was written meanwhile. */
  #install({ module, bytes, jobs, milliseconds }: CompiledBatch): void {
    const exports = module && new WebAssembly.Instance(module, { engine: this.#imports }).exports;
    const made = jobs.filter(({ instructions }) => instructions > 0).length;
    this.stats.backgroundMilliseconds += milliseconds;
    for (const result of jobs) {
      const posted = this.#posted.get(result.id);
      this.#posted.delete(result.id);
      if (posted !== undefined) this.#installJob(posted.compiled, posted.job, result, exports, bytes / made);
    }
  }

  #installJob(
    compiled: Compiled,
    { index, sites }: CompileJob,
    { instructions, parts, sites: used }: CompiledJob,
    exports: WebAssembly.Exports | undefined,
    bytes: number,
  ): void {
    const isFirst = compiled.index < 0;
    const taken = new Set(used.values());
    for (const site of sites) if (!taken.has(site)) this.#sites.give(site);
    const isGood = compiled.live && instructions > 0 && exports !== undefined;
    // From here on a write is told to the owner; what was written before shows in the bytes.
    if (isGood)
      for (const { page, from, bytes: code } of parts) this.#host.own(page, from, from + code.length, compiled);
    const isSame = isGood && parts.every((part) => this.#isAsRead(part));
    if (!isSame) {
      for (const site of taken) this.#sites.give(site);
      if (isFirst) {
        this.#free.push(index);
        // What is not worth it is not asked for again; what was written is, once it is hot again.
        if (isGood) this.#drop(compiled);
        else if (compiled.live) {
          compiled.live = false;
          this.#regions.delete(compiled.key);
        }
      }
      return;
    }
    this.#giveSites(compiled);
    for (const [at, site] of used) compiled.sites.set(at, site);
    compiled.index = index;
    if (isFirst) {
      this.#living.push(compiled);
      this.stats.compiled++;
      this.stats.live++;
    } else {
      this.#liveBytes -= compiled.bytes;
      this.stats.refined++;
    }
    this.stats.instructions += instructions;
    this.#put(compiled, exports, bytes);
    this.#liveBytes += bytes;
    this.stats.bytes += bytes;
  }

  #isAsRead({ page, from, bytes }: CodePart): boolean {
    const now = this.#memory.slice(page + from, bytes.length);
    return now !== undefined && bytes.every((byte, i) => byte === now[i]);
  }

  #find(linear: bigint, physical: number, mode: number, targets?: Targets): Region | undefined {
    const page = physical - (physical % PAGE_BYTES);
    const isEager = this.#options.threshold <= 1;
    return findRegion(
      {
        decoder: this.#decoder,
        mode,
        page: (number) => (number === 0 ? page : this.#pageOf(linear, number, mode)),
        met: (address) => isEager || hasTrace(this.#words, address, mode),
        bytes: (address) => {
          this.#host.claim(address);
          return this.#memory.slice(address, PAGE_BYTES);
        },
      },
      physical % PAGE_BYTES,
      targets,
    );
  }

  #ownCode(compiled: Compiled, region: Region): void {
    for (const { page, from, to } of codeOf(region)) this.#host.own(page, from, to, compiled);
  }

  /**
   * Makes a region again with the places that its indirect jumps and returns were seen to lead to. It is called by the
   * region, which leaves right afterwards.
   */
  #refine(index: number, linear: bigint): void {
    const compiled = this.#byIndex[index];
    if (compiled === undefined || !compiled.live || compiled.refinements >= MAX_REFINEMENTS) return;
    const started = performance.now();
    const { targets, physical, mode } = compiled;
    const before = new Map(targets);
    for (const [at, site] of compiled.sites) {
      targets.set(at, [...new Set([...(targets.get(at) ?? []), ...this.#sites.targets(site)])]);
    }
    const service = this.#service();
    if (service !== undefined) {
      compiled.refinements++;
      this.#post(service, compiled, linear + BigInt(physical - compiled.page));
      this.stats.milliseconds += performance.now() - started;
      return;
    }
    const region = this.#find(linear, physical, mode, targets);
    const leadsOn = (at: number) =>
      targets.get(at)?.some((to) => region?.blocks.has(to) && !before.get(at)?.includes(to));
    if (region !== undefined && [...targets.keys()].some(leadsOn)) {
      this.#giveSites(compiled);
      compiled.refinements++;
      compiled.region = region;
      this.#ownCode(compiled, region);
      this.#liveBytes -= compiled.bytes;
      this.#compile([compiled]);
      this.stats.refined++;
    }
    this.stats.milliseconds += performance.now() - started;
  }

  /** Where the targets of an indirect jump of a region are noted. */
  #siteOf(compiled: Compiled, at: number): number | undefined {
    const { refinements, sites } = compiled;
    if (refinements >= MAX_REFINEMENTS) return undefined;
    const exits = this.#options.threshold * REFINEMENT_GROWTH ** refinements;
    const site = sites.get(at) ?? this.#sites.take(exits);
    if (site !== undefined) sites.set(at, site);
    return site;
  }
  #giveSites({ sites }: Compiled): void {
    for (const site of sites.values()) this.#sites.give(site);
    sites.clear();
  }

  /** Compiles what waits. */
  flush(): void {
    const { service } = this.#options;
    if (service !== undefined && this.#posted.size > 0) this.#takeFrom(service);
    if (this.#waiting.length === 0) return;
    const started = performance.now();
    const batch = this.#waiting.filter(({ live }) => live);
    this.#waiting = [];
    for (const compiled of batch) compiled.index = this.#free.pop() ?? this.#next++;
    this.#compile(batch);
    this.#living.push(...batch);
    this.stats.compiled += batch.length;
    this.stats.live += batch.length;
    this.stats.milliseconds += performance.now() - started;
    this.#keepToCap();
  }

  #takeFrom(service: CompileService): void {
    const started = performance.now();
    for (let batch = service.take(); batch !== undefined; batch = service.take()) this.#install(batch);
    this.stats.milliseconds += performance.now() - started;
    this.#keepToCap();
  }

  #keepToCap(): void {
    if (this.#liveBytes > this.#options.maxBytes || this.#next >= REGION_STAMP.regions - MAX_BATCH) this.#evict();
  }

  #compile(batch: readonly Compiled[]): void {
    const { bytes, exports } = this.#instantiate(batch);
    for (const compiled of batch) {
      this.stats.instructions += compiled.region?.instructions ?? 0;
      this.#put(compiled, exports, bytes / batch.length);
      compiled.region = undefined;
    }
    this.#liveBytes += bytes;
    this.stats.bytes += bytes;
  }

  /** Has a region's records enter its function. */
  #put(compiled: Compiled, exports: WebAssembly.Exports, bytes: number): void {
    const { index } = compiled;
    compiled.bytes = bytes;
    this.#byIndex[index] = compiled;
    this.#words[(REGION_STAMP.base >> 2) + index] = -1;
    this.#table.set(index, exports[`r${index}`]);
    for (const record of compiled.records) this.#enter(compiled, record);
  }

  #instantiate(batch: readonly Compiled[]): { bytes: number; exports: WebAssembly.Exports } {
    const regions = batch.flatMap((compiled) => {
      const { region, index } = compiled;
      return region === undefined ? [] : [{ region, index, site: (at: number) => this.#siteOf(compiled, at) }];
    });
    const binary = buildRegionModule(this.#memory.memory.buffer.byteLength, regions);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), { engine: this.#imports });
    return { bytes: binary.length, exports };
  }

  #enter(compiled: Compiled, record: number): void {
    compiled.records.add(record);
    this.#setRecord(record, HANDLER.region, compiled.index);
    // Where everything is compiled, it stays so: an account above the most is left as it is.
    const account = this.#options.threshold > 1 ? REGION_ACCOUNT.first : REGION_ACCOUNT.most * 2;
    this.#memory.view.setInt32(record + RECORD.account, account, true);
  }

  #count(record: number, executions: number): void {
    this.#setRecord(record, HANDLER.head, executions);
  }

  #setRecord(record: number, handler: number, value: number): void {
    this.#memory.view.setUint16(record + RECORD.handler, handler, true);
    this.#memory.view.setInt32(record + RECORD.immediate, value, true);
  }

  #thresholdOf(physical: number, mode: number): number {
    if (!this.compiles(mode)) return NEVER;
    const rewrites = this.#rewrites.get(physical - (physical % PAGE_BYTES))?.count ?? 0;
    const { threshold } = this.#options;
    return rewrites === 0 ? threshold : Math.min(Math.max(threshold, 16) * PATIENCE ** rewrites, NEVER);
  }

  #written(compiled: Compiled, write: number): void {
    if (!compiled.live) return;
    const { count = 0, last = 0 } = this.#rewrites.get(compiled.page) ?? {};
    if (write !== last) this.#rewrites.set(compiled.page, { count: count + 1, last: write });
    this.stats.written++;
    this.#drop(compiled);
  }

  /** Has a region entered no more. */
  #drop(compiled: Compiled): void {
    if (!compiled.live) return;
    compiled.live = false;
    this.#regions.delete(compiled.key);
    const { index } = compiled;
    const { view } = this.#memory;
    for (const record of compiled.records) {
      const handler = view.getUint16(record + RECORD.handler, true);
      const value = view.getInt32(record + RECORD.immediate, true);
      const enters = handler === HANDLER.region && value === index;
      if (enters || (index < 0 && handler === HANDLER.head)) {
        this.#count(record, this.#thresholdOf(compiled.page, 0));
      }
    }
    if (index < 0) return;
    this.#table.set(index, null);
    this.#free.push(index);
    this.#giveSites(compiled);
    this.#liveBytes -= compiled.bytes;
    this.stats.live--;
  }

  /** Drops the older half. */
  #evict(): void {
    const living = this.#living.filter(({ live }) => live);
    const dropped = living.splice(0, Math.ceil(living.length / 2));
    for (const compiled of dropped) this.#drop(compiled);
    this.stats.evicted += dropped.length;
    this.#living = living;
  }

  /** Forgets everything, when all decoded code is forgotten. */
  clear(): void {
    for (const compiled of this.#regions.values()) {
      compiled.live = false;
      this.#giveSites(compiled);
      if (compiled.index < 0) continue;
      this.#table.set(compiled.index, null);
      this.#free.push(compiled.index);
    }
    this.#regions.clear();
    this.#waiting = [];
    this.#living = [];
    this.#liveBytes = 0;
    this.#rewrites.clear();
    this.stats.live = 0;
  }
}

/** Exact for all RAM; other addresses have no regions, and their keys are none of RAM's. */
function keyOf(physical: number, mode: number): number {
  return physical * 2 ** DECODE.bits + mode;
}
