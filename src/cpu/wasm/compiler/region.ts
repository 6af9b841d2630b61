/**
 * Regions: the blocks that direct jumps lead to from a hot address, found in the guest's memory before they are compiled
 * to one function. Addresses are counted in bytes from the start of the page of the region's head.
 */

import type { Decoded, Decoder } from "../../../isa/decode.ts";
import type { Statement, Value } from "../../../isa/ir.ts";
import { type FlagUse, flagUse } from "../flag-liveness.ts";
import { buildStatements } from "../handlers.ts";
import { straighten } from "./fast-path.ts";

export const PAGE_BYTES = 4096;
const LONGEST = 15;
/** A region's size at most. Larger ones take V8 too long to optimise. */
const MAX_INSTRUCTIONS = 300;
const MAX_PAGES = 4;
/** How far from its head a region may reach, in pages. */
const REACH = 64;

/** Functions that are called within a region have so many instructions at most, unless they are the region itself. */
const SMALL_FUNCTION = 48;
/** Calls that a region follows at most: more would have overlapping regions grow along a list of calls. */
const MAX_CALLS = 6;
/** A RET compares its target with so many places at most. */
const MAX_RETURNS = 4;

/** Helpers that neither touch general registers or flags, nor store to guest memory or change how code is found. */
const HARMLESS_HELPERS: ReadonlySet<string> = new Set([
  "sseExact",
  "sseCompare",
  "sseStrings",
  "crc32c",
  "x87",
  "random",
  "readTimestamp",
  "viewChanged",
]);

export interface RegionInstruction {
  readonly at: number;
  readonly decoded: Decoded;
  readonly statements: readonly Statement[];
  readonly use: FlagUse;
}

export interface RegionBlock {
  readonly at: number;
  readonly instructions: readonly RegionInstruction[];
  /** Where control goes by the last instruction's relative operand; undefined where it has none. */
  readonly taken: number | undefined;
  /** Where it goes by itself; undefined where the last instruction always jumps. */
  readonly next: number | undefined;
  /** The interpreter must do what lies at `next`. */
  readonly stops: boolean;
  /** For a RET: where the region's calls of its function go on; for an indirect jump: where it was seen to lead. It may lead
   * elsewhere too. */
  readonly returns: readonly number[];
}

export interface Region {
  /** By address; the head is the first. */
  readonly blocks: ReadonlyMap<number, RegionBlock>;
  readonly head: number;
  /** Physical addresses of the pages by their number relative to the head's, which is 0. */
  readonly pages: ReadonlyMap<number, number>;
  readonly instructions: number;
  /** Calls that go on within it. */
  readonly calls: number;
}

/** What a region is read from. */
export interface RegionSource {
  readonly decoder: Decoder;
  readonly mode: number;
  /** Physical address of a page by its number relative to the head's; undefined where it is not mapped for fetches. */
  page(number: number): number | undefined;
  /** RAM at a physical page address. */
  bytes(page: number): Uint8Array | undefined;
  /** Whether the interpreter was ever led to a physical address. */
  met(physical: number): boolean;
}

/** Whether a compiled region can hold an instruction; else the interpreter runs it. */
function isCompilable(decoded: Decoded, statements: readonly Statement[]): boolean {
  if (decoded.form.instruction.shadow !== undefined) return false;
  return statements.every(isSupported);
}

function isSupported(s: Statement): boolean {
  switch (s.kind) {
    case "evaluate":
      return isSupportedValue(s.value);
    case "call":
      return HARMLESS_HELPERS.has(s.call.name);
    case "if":
      return s.then.every(isSupported) && s.else.every(isSupported);
    case "repeat":
      return false;
    default:
      return true;
  }
}

function isSupportedValue({ source }: Value): boolean {
  if (source.kind === "helper") return HARMLESS_HELPERS.has(source.call.name);
  return source.kind !== "load" || !source.system;
}

/** Whether an instruction always ends its block, by a jump of any kind. */
function endsBlock(statements: readonly Statement[]): boolean {
  const last = statements.at(-1);
  return last?.kind === "jump" || last?.kind === "jumpRelative" || last?.kind === "fault" || last?.kind === "endTrace";
}

/** By the address of an indirect jump or RET: where it was seen to lead. */
export type Targets = ReadonlyMap<number, readonly number[]>;
const NO_TARGETS: Targets = new Map();

/** Finds the region at `head`, an offset in page 0. Undefined where nothing there can be compiled. */
export function findRegion(source: RegionSource, head: number, targets: Targets = NO_TARGETS): Region | undefined {
  const pages = new Map<number, number>();
  const contents = new Map<number, Uint8Array>();
  const asked = new Map<number, number | undefined>();
  /** A page's translation is asked for once. */
  const pageOf = (number: number): number | undefined => {
    if (Math.abs(number) > REACH) return undefined;
    if (!asked.has(number)) asked.set(number, source.page(number));
    return asked.get(number);
  };
  const content = (number: number): Uint8Array | undefined => {
    const known = contents.get(number);
    if (known !== undefined) return known;
    if (contents.size >= MAX_PAGES) return undefined;
    const page = pageOf(number);
    const bytes = page === undefined ? undefined : source.bytes(page);
    if (page === undefined || bytes === undefined) return undefined;
    pages.set(number, page);
    contents.set(number, bytes);
    return bytes;
  };
  const found = new Map<number, RegionInstruction>();
  const heads = new Set<number>([head]);
  /** Where reading stopped although control goes on: in the interpreter. */
  const stops = new Set<number>();

  const read = (at: number): RegionInstruction | undefined => {
    const number = Math.floor(at / PAGE_BYTES);
    const bytes = content(number);
    if (bytes === undefined) return undefined;
    const start = at - number * PAGE_BYTES;
    let decoded = source.decoder.decode(bytes.subarray(start, Math.min(start + LONGEST, PAGE_BYTES)), source.mode);
    if (decoded === "short") {
      const following = content(number + 1);
      if (following === undefined) return undefined;
      const joined = new Uint8Array(LONGEST);
      const first = bytes.subarray(start);
      joined.set(first);
      joined.set(following.subarray(0, LONGEST - first.length), first.length);
      decoded = source.decoder.decode(joined, source.mode);
    }
    if (typeof decoded === "string") return undefined;
    const statements = straighten(buildStatements(decoded));
    if (!isCompilable(decoded, statements)) return undefined;
    return { at, decoded, statements, use: flagUse(statements) };
  };

  /** Instructions of a function, if it is small and calls nothing but itself and the region. */
  const smallFunction = (entry: number): Map<number, RegionInstruction> | undefined => {
    const inside = new Map<number, RegionInstruction>();
    const open = [entry];
    for (let start = open.pop(); start !== undefined; start = open.pop()) {
      for (let at = start; !inside.has(at); ) {
        const instruction = inside.size < SMALL_FUNCTION ? (found.get(at) ?? read(at)) : undefined;
        if (instruction === undefined) return undefined;
        inside.set(at, instruction);
        const { decoded } = instruction;
        const taken = targetOf(instruction);
        const isCall = isNearCall(decoded);
        if (isCall && taken !== entry && taken !== head) return undefined;
        if (taken !== undefined && !isCall) open.push(taken);
        if (endsBlock(instruction.statements) && !isCall) break;
        at += decoded.length;
      }
    }
    return inside;
  };
  /** Functions that the region calls within itself, and where their calls go on. */
  const functions = new Map<number, Set<number>>();
  let calls = 0;
  const callsWithin = (instruction: RegionInstruction, entry: number): boolean => {
    const next = instruction.at + instruction.decoded.length;
    const returns = functions.get(entry) ?? new Set();
    if (calls >= MAX_CALLS) return false;
    if (entry !== head && !functions.has(entry) && smallFunction(entry) === undefined) return false;
    functions.set(entry, returns);
    if (returns.size >= MAX_RETURNS) return false;
    returns.add(next);
    calls++;
    return true;
  };

  // What was never jumped to is seldom worth its compilation: errors, mostly.
  const isMet = (at: number): boolean => {
    if (heads.has(at)) return true;
    const number = Math.floor(at / PAGE_BYTES);
    const page = pageOf(number);
    return page !== undefined && source.met(page + at - number * PAGE_BYTES);
  };
  const waiting = [head];
  for (let start = waiting.shift(); start !== undefined; start = waiting.shift()) {
    for (let at = start; ; ) {
      if (found.has(at)) break;
      if (found.size >= MAX_INSTRUCTIONS) break;
      const instruction = read(at);
      if (instruction === undefined) {
        stops.add(at);
        break;
      }
      found.set(at, instruction);
      const { decoded } = instruction;
      const next = at + decoded.length;
      const taken = targetOf(instruction);
      const isCall = isNearCall(decoded);
      if (taken !== undefined && (isCall ? callsWithin(instruction, taken) : isMet(taken))) {
        for (const to of isCall ? [taken, next] : [taken]) {
          if (heads.has(to)) continue;
          heads.add(to);
          waiting.push(to);
        }
      }
      for (const to of targets.get(at) ?? []) {
        if (heads.has(to)) continue;
        heads.add(to);
        waiting.push(to);
      }
      if (endsBlock(instruction.statements)) break;
      if (isRelative(decoded)) heads.add(next);
      at = next;
    }
  }
  if (!found.has(head)) return undefined;

  const returnsOf = returnPlaces(found, functions);
  const blocks = new Map<number, RegionBlock>();
  for (const start of heads) {
    const instructions: RegionInstruction[] = [];
    let at = start;
    let last: RegionInstruction | undefined;
    for (;;) {
      const instruction = found.get(at);
      if (instruction === undefined) break;
      instructions.push(instruction);
      last = instruction;
      at += instruction.decoded.length;
      if (isRelative(instruction.decoded) || endsBlock(instruction.statements) || heads.has(at)) break;
    }
    if (last === undefined) continue;
    const ends = endsBlock(last.statements);
    blocks.set(start, {
      at: start,
      instructions,
      taken: isNearCall(last.decoded) && !isFollowed(last, functions) ? undefined : targetOf(last),
      next: ends ? undefined : at,
      stops: !ends && stops.has(at),
      returns: [...new Set([...(returnsOf.get(last.at) ?? []), ...(targets.get(last.at) ?? [])])],
    });
  }
  return { blocks, head, pages, instructions: found.size, calls };
}

/** Whether an instruction is an indirect jump, or a RET. */
export function isIndirect({ decoded }: RegionInstruction): boolean {
  return INDIRECT.has(decoded.form.instruction.name);
}
const INDIRECT: ReadonlySet<string> = new Set(["JMP indirect", "RET", "RET imm"]);

function isNearCall({ form }: Decoded): boolean {
  return form.instruction.name === "CALL";
}

/** Whether a call goes on within the region. */
function isFollowed(call: RegionInstruction, functions: ReadonlyMap<number, ReadonlySet<number>>): boolean {
  const entry = targetOf(call);
  return entry !== undefined && functions.get(entry)?.has(call.at + call.decoded.length) === true;
}

/** By the address of each RET: where the calls go on of the functions that it belongs to. */
function returnPlaces(
  found: ReadonlyMap<number, RegionInstruction>,
  functions: ReadonlyMap<number, ReadonlySet<number>>,
): Map<number, Set<number>> {
  const places = new Map<number, Set<number>>();
  for (const [entry, returns] of functions) {
    const seen = new Set<number>();
    const open = [entry];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const instruction = found.get(at);
      if (instruction === undefined || seen.has(at)) continue;
      seen.add(at);
      const { decoded, statements } = instruction;
      const next = at + decoded.length;
      const taken = targetOf(instruction);
      if (decoded.form.instruction.name === "RET") {
        const known = places.get(at) ?? new Set();
        places.set(at, known);
        for (const place of returns) if (known.size < MAX_RETURNS && found.has(place)) known.add(place);
      } else if (isNearCall(decoded)) {
        if (isFollowed(instruction, functions)) open.push(next);
      } else {
        if (taken !== undefined) open.push(taken);
        if (!endsBlock(statements)) open.push(next);
      }
    }
  }
  return places;
}

function isRelative({ operands }: Decoded): boolean {
  return operands.some(({ kind }) => kind === "rel");
}

/** Where a relative jump or call leads. One of 16 bits wraps in its segment: the interpreter knows how. */
function targetOf({ at, decoded }: RegionInstruction): number | undefined {
  const { context } = decoded;
  if (!isRelative(decoded)) return undefined;
  if (!context.long && context.operandSize === 16) return undefined;
  return at + decoded.length + decoded.immediateLow;
}

/** Entering a region costs as much as some interpreted instructions. */
export function isWorthwhile({ instructions, blocks, calls }: Region): boolean {
  // A call of next to nothing brings three instructions and two blocks.
  return calls === 0 ? instructions > 3 || blocks.size > 1 : instructions - 3 * calls > 2;
}

/** Where a region's code lies: physical pages, and bytes [from, to) of each. */
export function* codeOf(region: Region): Generator<{ page: number; from: number; to: number }> {
  for (const block of region.blocks.values()) {
    const last = block.instructions.at(-1);
    if (last === undefined) continue;
    const end = last.at + last.decoded.length;
    for (const [number, page] of region.pages) {
      const from = Math.max(block.at - number * PAGE_BYTES, 0);
      const to = Math.min(end - number * PAGE_BYTES, PAGE_BYTES);
      if (from < to) yield { page, from, to };
    }
  }
}
