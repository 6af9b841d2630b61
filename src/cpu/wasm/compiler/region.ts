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
}

export interface Region {
  /** By address; the head is the first. */
  readonly blocks: ReadonlyMap<number, RegionBlock>;
  readonly head: number;
  /** Physical addresses of the pages by their number relative to the head's, which is 0. */
  readonly pages: ReadonlyMap<number, number>;
  readonly instructions: number;
}

/** What a region is read from. */
export interface RegionSource {
  readonly decoder: Decoder;
  readonly mode: number;
  /** Physical address of a page by its number relative to the head's; undefined where it is not mapped for fetches. */
  page(number: number): number | undefined;
  /** RAM at a physical page address. */
  bytes(page: number): Uint8Array | undefined;
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

/** Finds the region at `head`, an offset in page 0. Undefined where nothing there can be compiled. */
export function findRegion(source: RegionSource, head: number): Region | undefined {
  const pages = new Map<number, number>();
  const contents = new Map<number, Uint8Array>();
  const content = (number: number): Uint8Array | undefined => {
    const known = contents.get(number);
    if (known !== undefined) return known;
    if (contents.size >= MAX_PAGES || Math.abs(number) > REACH) return undefined;
    const page = source.page(number);
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
      if (taken !== undefined && !heads.has(taken)) {
        heads.add(taken);
        waiting.push(taken);
      }
      if (endsBlock(instruction.statements)) break;
      if (isRelative(decoded)) heads.add(next);
      at = next;
    }
  }
  if (!found.has(head)) return undefined;

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
      taken: targetOf(last),
      next: ends ? undefined : at,
      stops: !ends && stops.has(at),
    });
  }
  return { blocks, head, pages, instructions: found.size };
}

function isRelative({ operands }: Decoded): boolean {
  return operands.some(({ kind }) => kind === "rel");
}

/** Where a relative jump leads that is followed. One of 16 bits wraps in its segment: the interpreter knows how; a
 * call's target makes a region of its own. */
function targetOf({ at, decoded }: RegionInstruction): number | undefined {
  const { context, form } = decoded;
  if (!isRelative(decoded) || form.instruction.name === "CALL") return undefined;
  if (!context.long && context.operandSize === 16) return undefined;
  return at + decoded.length + decoded.immediateLow;
}
