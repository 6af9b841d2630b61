/**
 * Handlers: an instruction's effect, built for one combination of operand kinds, widths and context. A handler is made
 * when the decoder first meets its combination; hot ones lie in the interpreter's loop, the others in a function table.
 */

import type { AddressForm, Decoded } from "../../isa/decode.ts";
import { NO_OPERAND } from "../../isa/decode.ts";
import type { HelperCall, Operand, Statement, ValueType } from "../../isa/ir.ts";
import { SEGMENTS } from "../../isa/state.ts";
import { withoutFlags } from "./flag-liveness.ts";
import { type Context, Semantics } from "../../isa/semantics.ts";

/** Handlers of consecutive instructions, run as one. */
export type Sequence = readonly Handler[];

/** The name by which a sequence is found. */
export function sequenceName(names: readonly string[]): string {
  return names.join(" + ");
}

export interface Handler {
  /** Names the combination, for statistics and traces: `ADD r64 m64`. */
  readonly name: string;
  readonly statements: readonly Statement[];
  readonly operands: readonly Operand[];
  readonly addressForm: AddressForm;
  readonly context: Context;
}

const SIZES: Readonly<Record<16 | 32 | 64, number>> = { 16: 0, 32: 1, 64: 2 };
const REPEATS = { none: 0, rep: 1, repne: 2 } as const;
const ADDRESS_FORMS = { simple: 0, full: 1, absolute: 2 } as const;

/** A number that two decoded instructions share only if they share their handler: quick to make and to look up. */
export function handlerKey({ form, operands, context, addressForm }: Decoded): number {
  let memory = 0;
  let nonZero = 0;
  for (const operand of operands) {
    if (operand.kind === "mem") memory = 1;
    if (operand.nonZero === true) nonZero = 1;
  }
  let key = form.index * 4 + SIZES[context.operandSize];
  key = key * 4 + SIZES[context.addressSize];
  key = key * 4 + SIZES[context.stackSize];
  key = key * 4 + REPEATS[context.rep];
  key = key * 8 + SEGMENTS.indexOf(context.segment);
  key = key * 4 + (memory === 1 ? ADDRESS_FORMS[addressForm] : 3);
  key = key * 64 + context.checked;
  return key * 8 + (context.alignment ? 4 : 0) + (context.long ? 2 : 0) + nonZero;
}

/** The combination that a decoded instruction needs. */
export function handlerName(decoded: Decoded): string {
  const { form, operands, context, addressForm } = decoded;
  let name = form.instruction.name;
  for (const { kind, bits, nonZero } of operands) {
    name += `${nonZero === true ? " n" : " "}${kind === "mem" ? `${addressForm === "simple" ? "m" : addressForm === "full" ? "M" : "o"}` : kind[0]}${bits}`;
  }
  // An SSE instruction and its MMX twin have one name, and may have operands of the same sizes.
  const mmx = form.operands.some(({ place }) => "PQN".includes(place));
  const vector = mmx ? "m" : operands.some((o) => o.partial === true) ? "v" : "";
  name += ` /${context.operandSize}${context.long ? "" : "-"}${vector}`;
  for (const part of form.instruction.uses ?? []) name += ` ${part}=${context[part]}`;
  // The immediates of a stack operation's width: pushes and the like need it whether they say so or not.
  if (!context.long) name += ` s${context.stackSize}`;
  if (context.alignment) name += " aligned";
  if (context.checked !== 0) name += ` checked=${context.checked.toString(2)} ${context.segment}`;
  return name;
}

/** Marks the name of a handler that leaves the flags as they are. */
export const NO_FLAGS = " !f";

/** An instruction's effect. Its values are its own. */
export function buildStatements(decoded: Decoded): readonly Statement[] {
  const m = new Semantics(decoded.context);
  const [a = NO_OPERAND, b = NO_OPERAND, c = NO_OPERAND] = decoded.operands;
  decoded.form.instruction.effect(m, a, b, c);
  return m.finish();
}

/** Builds a handler; without the flags where its name says so. */
export function buildHandler(name: string, decoded: Decoded): Handler {
  const all = buildStatements(decoded);
  const statements = name.endsWith(NO_FLAGS) ? withoutFlags(all) : all;
  return { name, statements, operands: decoded.operands, addressForm: decoded.addressForm, context: decoded.context };
}

/** The handler of bytes that are no instruction: #UD, or #GP(0) for one that is too long. */
export function faultHandler(name: string, vector: number, error?: number): Handler {
  const context: Context = {
    operandSize: 32,
    addressSize: 64,
    stackSize: 64,
    rep: "none",
    lock: false,
    segment: "ds",
    long: true,
    alignment: false,
    checked: 0,
  };
  const m = new Semantics(context);
  m.fault(vector, error);
  return { name, statements: m.finish(), operands: [], addressForm: "simple", context };
}

/** Helper calls in a handler, by name, with their signatures. */
export function helperCalls(
  statements: readonly Statement[],
): Map<string, { params: ValueType[]; result: ValueType | undefined }> {
  const found = new Map<string, { params: ValueType[]; result: ValueType | undefined }>();
  const add = (call: HelperCall) => found.set(call.name, { params: call.args.map((a) => a.type), result: call.result });
  const visit = (list: readonly Statement[]) => {
    for (const s of list) {
      if (s.kind === "call") add(s.call);
      else if (s.kind === "evaluate" && s.value.source.kind === "helper") add(s.value.source.call);
      else if (s.kind === "if") {
        visit(s.then);
        visit(s.else);
      }
    }
  };
  visit(statements);
  return found;
}

/** Whether a handler may store to guest memory. */
export function storesIn(statements: readonly Statement[]): boolean {
  return statements.some((s) => s.kind === "store" || (s.kind === "if" && (storesIn(s.then) || storesIn(s.else))));
}
