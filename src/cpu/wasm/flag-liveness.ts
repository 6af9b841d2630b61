/**
 * Flags that nobody sees. Most instructions overwrite the arithmetic flags of the one before; where no instruction
 * between can read them, fault or leave the trace, the earlier one runs in a form that does not compute them.
 */

import type { Statement, Value } from "../../isa/ir.ts";
import { STATE } from "../../isa/state.ts";

export interface FlagUse {
  /** Some way through it looks at the flags before it has set them. */
  readonly reads: boolean;
  /** It sets all of them whatever happens. */
  readonly writes: boolean;
  /** It may fault or end the trace, where the flags become visible. */
  readonly leaves: boolean;
  /** The trace may not go on as it was decoded after it has set them: POPF, or a store into the trace's own code. */
  readonly shows: boolean;
}

function isFlags(offset: number): boolean {
  return offset === STATE.flagsResult.offset || offset === STATE.flagsAux.offset;
}

export function flagUse(statements: readonly Statement[]): FlagUse {
  let reads = false;
  let leaves = false;
  let shows = false;
  const set = new Set<number>();
  const visit = (list: readonly Statement[], certain: boolean) => {
    for (const s of list) {
      switch (s.kind) {
        case "evaluate": {
          const { source } = s.value;
          if (source.kind === "state" && isFlags(source.offset) && !set.has(source.offset) && s.value.uses > 0)
            reads = true;
          if (source.kind === "load" || source.kind === "helper") leaves = true;
          break;
        }
        case "setState":
          if (certain && isFlags(s.offset)) set.add(s.offset);
          break;
        case "if":
          visit(s.then, false);
          visit(s.else, false);
          break;
        case "setOperand":
        case "assign":
          break;
        // A store may overwrite the very instruction that was to overwrite the flags.
        case "store":
        case "endTrace":
        case "repeat":
        case "jump":
        case "jumpRelative":
          leaves = true;
          shows = true;
          break;
        default:
          leaves = true;
      }
    }
  };
  visit(statements, true);
  return { reads, writes: set.size === 2, leaves, shows };
}

/**
 * Going backwards over a trace: whether flags that hold before an instruction are overwritten before anything sees
 * them, given the same of the flags that hold after it. An instruction whose own flags are overwritten does without,
 * unless it may end the trace itself.
 */
export function flagsOverwritten(use: FlagUse, after: boolean): boolean {
  if (use.reads || use.leaves) return false;
  return use.writes || after;
}

/** A handler's statements without those that set flags, uses counted anew. The statements must be its own. `kept` are
 * values that stay needed nevertheless. */
export function withoutFlags(statements: readonly Statement[], kept: readonly Value[] = []): Statement[] {
  const strip = (list: readonly Statement[]): Statement[] =>
    list
      .filter((s) => !(s.kind === "setState" && isFlags(s.offset)))
      .map((s) => (s.kind === "if" ? { ...s, then: strip(s.then), else: strip(s.else) } : s));
  const rest = strip(statements);
  countUses(rest, kept);
  return rest;
}

/** Counts how often each value is used by statements that have an effect. */
function countUses(statements: readonly Statement[], kept: readonly Value[]): void {
  const seen = new Set<Value>();
  const inputs = (value: Value): readonly Value[] =>
    value.source.kind === "helper" ? [...value.args, ...value.source.call.args] : value.args;
  const reset = (value: Value) => {
    if (seen.has(value)) return;
    seen.add(value);
    value.uses = 0;
    inputs(value).forEach(reset);
  };
  const done = new Set<Value>();
  const touch = (value: Value) => {
    if (done.has(value)) return;
    done.add(value);
    for (const input of inputs(value)) use(input);
  };
  const use = (value: Value) => {
    value.uses++;
    touch(value);
  };
  const operands = (s: Statement): readonly Value[] => {
    switch (s.kind) {
      case "setOperand":
      case "setState":
      case "assign":
        return [s.value];
      case "store":
        return s.through === undefined ? [s.address, s.value] : [s.address, s.value, s.through];
      case "if":
        return [s.condition];
      case "call":
        return s.call.args;
      case "fault":
        return s.error === undefined ? [] : [s.error];
      case "jump":
        return [s.target];
      default:
        return [];
    }
  };
  const each = (list: readonly Statement[], visit: (s: Statement) => void) => {
    for (const s of list) {
      visit(s);
      if (s.kind === "if") {
        each(s.then, visit);
        each(s.else, visit);
      }
    }
  };
  each(statements, (s) => {
    if (s.kind === "evaluate") reset(s.value);
    else operands(s).forEach(reset);
  });
  each(statements, (s) => {
    if (s.kind === "evaluate") {
      // Loads and helpers happen whether their value is used or not.
      if (s.value.source.kind === "load" || s.value.source.kind === "helper") touch(s.value);
    } else for (const value of operands(s)) use(value);
  });
  kept.forEach(use);
}
