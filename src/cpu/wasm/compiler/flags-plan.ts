/**
 * What is done with the flags of each instruction of a region: dropped where nothing sees them, put off as a rule, or
 * computed at once; and which flags a block needs at its start.
 */

import type { FlagRule, Statement, Value } from "../../../isa/ir.ts";
import { withoutFlags } from "../flag-liveness.ts";
import { isFlags } from "../lower.ts";
import { isFusable } from "./conditions.ts";
import type { RegionBlock, RegionInstruction } from "./region.ts";

export interface FlagsPlan {
  readonly statements: readonly Statement[];
  /** What the flags are after the instruction: by a rule, in their locals, or as they were. */
  readonly after: FlagRule | "locals" | "same";
  /** The flags must be in their locals before it: it sets them on some ways only, or leaves after it has set them. */
  readonly settled: boolean;
}

/** The rule that an instruction sets all flags by, whatever happens. */
export function ruleOf(statements: readonly Statement[]): FlagRule | undefined {
  for (const s of statements) if (s.kind === "setState" && s.rule !== undefined) return s.rule;
  return undefined;
}

export function setsFlags(statements: readonly Statement[]): boolean {
  return statements.some(
    (s) =>
      (s.kind === "setState" && isFlags(s.offset)) || (s.kind === "if" && (setsFlags(s.then) || setsFlags(s.else))),
  );
}

/** Whether an instruction may end by a jump or otherwise, with its flags set. */
function endsWithin(statements: readonly Statement[]): boolean {
  return statements.some(
    (s) =>
      s.kind === "jump" ||
      s.kind === "jumpRelative" ||
      s.kind === "endTrace" ||
      (s.kind === "if" && (endsWithin(s.then) || endsWithin(s.else))),
  );
}

/** `overwritten`: nothing sees the flags that the instruction sets. */
export function planFlags({ statements, use }: RegionInstruction, overwritten: boolean): FlagsPlan {
  if (!setsFlags(statements)) return { statements, after: "same", settled: false };
  const ends = endsWithin(statements);
  if (use.writes && overwritten && !ends)
    return { statements: withoutFlags(statements), after: "same", settled: false };
  const rule = use.writes && !ends ? ruleOf(statements) : undefined;
  if (rule === undefined) return { statements, after: "locals", settled: !use.writes || ends };
  const kept = [rule.a, rule.b, rule.result];
  // CF as it was must be taken before: used twice, it gets a local.
  if (rule.carry !== undefined) kept.push(rule.carry, rule.carry);
  return { statements: withoutFlags(statements, kept), after: rule, settled: false };
}

/** Whether an instruction needs flags in their locals that are still a rule; without one, by whatever it reads. */
export function needsFlags(plan: FlagsPlan, rule: FlagRule | undefined): boolean {
  if (plan.settled) return true;
  const seen = new Set<Value>();
  const reads = (value: Value): boolean => {
    if (seen.has(value)) return false;
    seen.add(value);
    if (rule !== undefined && value.condition !== undefined && isFusable(rule, value.condition)) return false;
    if (value.source.kind === "state" && isFlags(value.source.offset)) return true;
    const { source } = value;
    return value.args.some(reads) || (source.kind === "helper" && source.call.args.some(reads));
  };
  const visit = (s: Statement): boolean => {
    switch (s.kind) {
      case "evaluate":
        // Its users are visited; a load's address and a helper's arguments belong to it.
        return (s.value.source.kind === "load" || s.value.source.kind === "helper") && reads(s.value);
      case "setOperand":
      case "setState":
      case "assign":
        return reads(s.value);
      case "store":
        return reads(s.address) || reads(s.value);
      case "if":
        return reads(s.condition) || s.then.some(visit) || s.else.some(visit);
      case "call":
        return s.call.args.some(reads);
      case "jump":
        return reads(s.target);
      case "fault":
        return s.error !== undefined && reads(s.error);
      default:
        return false;
    }
  };
  const { after } = plan;
  if (typeof after === "object" && (reads(after.result) || (after.carry !== undefined && reads(after.carry))))
    return true;
  return plan.statements.some(visit);
}

/** Whether flags that hold before an instruction are seen by it or after it, given the latter. */
function seenBefore({ use }: RegionInstruction, after: boolean): boolean {
  if (use.reads || use.leaves) return true;
  return !use.writes && after;
}

/** For each block, whether flags that hold at its start are seen by anything: by an exit, at least. */
export function liveFlags(blocks: ReadonlyMap<number, RegionBlock>): (block: number) => boolean {
  const live = new Map<number, boolean>();
  const liveAt = (at: number | undefined) => at !== undefined && (!blocks.has(at) || live.get(at) === true);
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of blocks.values()) {
      let seen = seenAtEnd(block, liveAt);
      for (let i = block.instructions.length - 1; i >= 0; i--) {
        const instruction = block.instructions[i];
        if (instruction !== undefined)
          seen = isBranch(instruction) ? seenByBranch(instruction, seen) : seenBefore(instruction, seen);
      }
      if (seen !== (live.get(block.at) ?? false)) {
        live.set(block.at, seen);
        changed = true;
      }
    }
  }
  return (block) => live.get(block) ?? true;
}

/** Whether flags are seen after a block's last instruction. */
export function seenAtEnd(block: RegionBlock, liveAt: (at: number | undefined) => boolean): boolean {
  if (block.stops) return true;
  if (block.taken === undefined && block.next === undefined) return true;
  return liveAt(block.taken) || liveAt(block.next);
}

/** A conditional jump within the region leaves only by its edges. */
function isBranch({ decoded }: RegionInstruction): boolean {
  return decoded.form.instruction.branches === true;
}
function seenByBranch({ use }: RegionInstruction, after: boolean): boolean {
  return use.reads || after;
}

/** For each instruction of a block, whether flags set by it are overwritten before anything sees them. */
export function overwrittenFlags(block: RegionBlock, liveAt: (at: number | undefined) => boolean): boolean[] {
  const found: boolean[] = [];
  let seen = seenAtEnd(block, liveAt);
  for (let i = block.instructions.length - 1; i >= 0; i--) {
    const instruction = block.instructions[i];
    if (instruction === undefined) continue;
    found[i] = !seen;
    seen = isBranch(instruction) ? seenByBranch(instruction, seen) : seenBefore(instruction, seen);
  }
  return found;
}
