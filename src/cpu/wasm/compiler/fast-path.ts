/**
 * Effects without their slow ways. In a region an instruction that would fault, or go the exact way, is left to the
 * interpreter, which does it from its beginning: what stands on such a way need not be compiled, and what follows the
 * condition is then certain to happen.
 */

import type { Statement, Value } from "../../../isa/ir.ts";
import { SCRATCH, STATE, X87_OPERAND } from "../../../isa/state.ts";

/** Helpers for the cases that the fast way is not for. They alone merge exceptions into MXCSR. */
export const EXACT_HELPERS: ReadonlySet<string> = new Set(["sseExact", "sseCompare"]);

/** Stands for a way out: the emitter leaves to the interpreter for any fault on a branch. */
const LEAVE: readonly Statement[] = [{ kind: "fault", vector: 0, error: undefined }];

/** Whether a branch ends at the interpreter, before it has changed anything. */
export function leavesAtOnce(statements: readonly Statement[]): boolean {
  for (const s of statements) {
    switch (s.kind) {
      case "fault":
        return true;
      case "call":
        return EXACT_HELPERS.has(s.call.name);
      case "evaluate":
        if (s.value.source.kind === "helper") return EXACT_HELPERS.has(s.value.source.call.name);
        break;
      case "setState":
        // Operands for the helper.
        if (s.offset < SCRATCH || s.offset >= X87_OPERAND) return false;
        break;
      case "if":
        if (leavesAtOnce(s.then) && leavesAtOnce(s.else)) return true;
        if (!onlyLeaves(s.then) || !onlyLeaves(s.else)) return false;
        break;
      case "assign":
        break;
      default:
        return false;
    }
  }
  return false;
}

function onlyLeaves(statements: readonly Statement[]): boolean {
  return statements.length === 0 || leavesAtOnce(statements);
}

/** Statements with bare conditions in the place of branches that leave. */
export function straighten(statements: readonly Statement[]): Statement[] {
  return statements.flatMap((s): Statement[] => {
    if (s.kind !== "if") return [s];
    if (leavesAtOnce(s.then)) return [{ ...s, then: LEAVE, else: [] }, ...straighten(s.else)];
    if (leavesAtOnce(s.else)) return [{ ...s, then: [], else: LEAVE }, ...straighten(s.then)];
    return [{ ...s, then: straighten(s.then), else: straighten(s.else) }];
  });
}

/** Whether a value is 0 or 1. */
export function isBoolean({ type, source, args, test }: Value): boolean {
  if (test !== undefined) return true;
  if (source.kind !== "pure" || type !== "i32") return false;
  if (source.op === "i32.and" || source.op === "i32.or") return args.every(isBoolean);
  return /\.(eqz|eq|ne|lt|gt|le|ge|all_true)(_[su])?$/.test(source.op);
}

/** Whether a value tells if SSE may be used. */
export function isSseGuard({ source }: Value): boolean {
  return source.kind === "state" && source.offset === STATE.sseState.offset;
}
