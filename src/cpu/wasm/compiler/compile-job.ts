/**
 * Compiling beside the guest: a job says what is to be compiled, and another thread that sees the engine's memory makes
 * a module of it. The guest goes on meanwhile, so the bytes that were read come back with it: they are compared when it
 * is installed.
 */

import type { Decoder } from "../../../isa/decode.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { hasTrace } from "../trace-hash.ts";
import { codeOf, findRegion, isWorthwhile, PAGE_BYTES, type Region, type Targets } from "./region.ts";
import { buildRegionModule } from "./region-module.ts";

export interface CompileJob {
  readonly id: number;
  /** The region's place; its function is exported as `r` and that number. */
  readonly index: number;
  /** Offset of its head in page 0, and the decode context. */
  readonly head: number;
  readonly mode: number;
  /** Physical addresses of pages by their number relative to the head's. */
  readonly pages: ReadonlyMap<number, number>;
  /** Where its indirect jumps were seen to lead. */
  readonly targets: Targets;
  /** Places where further ones may be noted. */
  readonly sites: readonly number[];
}

/** Bytes of a RAM page from an offset on, as they were read. */
export interface CodePart {
  readonly page: number;
  readonly from: number;
  readonly bytes: Uint8Array;
}

export interface CompiledJob {
  readonly id: number;
  /** Guest instructions; 0: nothing there is worth it. */
  readonly instructions: number;
  readonly parts: readonly CodePart[];
  /** Indirect jumps by their addresses, and which place each took. */
  readonly sites: ReadonlyMap<number, number>;
}

export interface CompiledBatch {
  /** Undefined where no job has a region. */
  readonly module: WebAssembly.Module | undefined;
  /** Size of it in bytes. */
  readonly bytes: number;
  readonly jobs: readonly CompiledJob[];
  /** ms that it took. */
  readonly milliseconds: number;
}

/** Compiles on another thread. */
export interface CompileService {
  /** Whether to post what is hot now: a thread of its own is not worth it for a region now and then. */
  wanted(): boolean;
  post(job: CompileJob): void;
  /** What was finished since; undefined: nothing. It never waits. */
  take(): CompiledBatch | undefined;
}

/** Finds and compiles. Runs on the other thread. */
export function compileJobs(memory: GuestMemory, decoder: Decoder, jobs: readonly CompileJob[]): CompiledBatch {
  const began = performance.now();
  const words = new Int32Array(memory.memory.buffer);
  const found = jobs.map((job) => ({ job, ...findJob(memory, words, decoder, job) }));
  const sitesOf = new Map<CompileJob, Map<number, number>>();
  const made = found.flatMap(({ job, region }) => {
    if (region === undefined) return [];
    const free = [...job.sites];
    const sites = new Map<number, number>();
    sitesOf.set(job, sites);
    const site = (at: number): number | undefined => {
      const known = sites.get(at) ?? free.pop();
      if (known !== undefined) sites.set(at, known);
      return known;
    };
    return [{ region, index: job.index, site }];
  });
  const binary = made.length === 0 ? undefined : buildRegionModule(memory.memory.buffer.byteLength, made);
  return {
    module: binary && new WebAssembly.Module(binary),
    bytes: binary?.length ?? 0,
    jobs: found.map(({ job, region, contents }) => ({
      id: job.id,
      instructions: region?.instructions ?? 0,
      parts: region === undefined ? [] : partsOf(region, contents),
      sites: sitesOf.get(job) ?? new Map(),
    })),
    milliseconds: performance.now() - began,
  };
}

/** A region, and copies of the pages that it was read from: the guest may write them at any moment. */
function findJob(
  memory: GuestMemory,
  words: Int32Array,
  decoder: Decoder,
  { head, mode, pages, targets }: CompileJob,
): { region: Region | undefined; contents: Map<number, Uint8Array> } {
  const contents = new Map<number, Uint8Array>();
  const region = findRegion(
    {
      decoder,
      mode,
      page: (number) => pages.get(number),
      bytes: (page) => {
        const bytes = memory.slice(page, PAGE_BYTES)?.slice();
        if (bytes !== undefined) contents.set(page, bytes);
        return bytes;
      },
      met: (physical) => hasTrace(words, physical, mode),
    },
    head,
    targets,
  );
  return { region: region !== undefined && isWorthwhile(region) ? region : undefined, contents };
}

function partsOf(region: Region, contents: ReadonlyMap<number, Uint8Array>): CodePart[] {
  const parts: CodePart[] = [];
  for (const { page, from, to } of codeOf(region)) {
    const bytes = contents.get(page)?.slice(from, to);
    if (bytes !== undefined) parts.push({ page, from, bytes });
  }
  return parts;
}
