/**
 * Flags that are carried from block to block as what set them. Where ways meet, a loop's head above all, flags would have
 * to be computed for each time round, since a load may leave the region and show them. Instead the operands of what set
 * them lie in locals, with a word that tells whether they count or the flags themselves do.
 */

import type { FlagRule, Value, ValueType } from "../../../isa/ir.ts";
import type { CodeWriter } from "../../../wasm/code.ts";
import type { RegionBlock } from "./region.ts";
import { ruleOf, setsFlags } from "./flags-plan.ts";

/** Flags that are by `rule` where local `pending` is not 0, else in their locals. */
export interface CarriedFlags {
  readonly rule: FlagRule;
  readonly pending: number;
  /** Locals of the rule's operands. */
  readonly locals: ReadonlyMap<Value, number>;
}

/** Where the flags are: in their locals, still to be computed by a rule, or one of both. */
export type Flags = "locals" | FlagRule | CarriedFlags;

export function isCarried(flags: Flags): flags is CarriedFlags {
  return flags !== "locals" && "pending" in flags;
}

function leaf(type: ValueType): Value {
  // Found by its local alone.
  return { type, source: { kind: "constant", value: 0 }, args: [], uses: 2 };
}

/** Whether a rule can be carried: its result must follow from its operands. */
function canCarry({ kind, plain }: FlagRule): boolean {
  return kind === "logic" || plain;
}

function nameOf({ kind, bits, carry, result }: FlagRule): string {
  return `${kind}${bits}${carry === undefined ? "" : " carry"} ${result.type}`;
}

export class FlagCarrier {
  readonly #code: CodeWriter;
  readonly #forms = new Map<string, CarriedFlags>();
  #pending: number | undefined;

  constructor(code: CodeWriter) {
    this.#code = code;
  }

  /** How flags are carried that a rule sets; undefined where they cannot be. */
  formOf(rule: FlagRule): CarriedFlags | undefined {
    if (!canCarry(rule)) return undefined;
    const known = this.#forms.get(nameOf(rule));
    if (known !== undefined) return known;
    const { kind, bits, result } = rule;
    const { type } = result;
    const a = leaf(type);
    const locals = new Map([[a, this.#code.local(type)]]);
    let carried: FlagRule = { kind, bits, a, b: a, result: a, plain: false, carry: undefined };
    if (kind !== "logic") {
      const b = leaf(type);
      locals.set(b, this.#code.local(type));
      const sum: Value = { type, source: { kind: "pure", op: `${type}.${kind}` }, args: [a, b], uses: 1 };
      carried = { ...carried, b, result: sum, plain: true };
    }
    if (rule.carry !== undefined) {
      const carry = leaf("i32");
      locals.set(carry, this.#code.local("i32"));
      carried = { ...carried, carry };
    }
    this.#pending ??= this.#code.local("i32");
    const form = { rule: carried, pending: this.#pending, locals };
    this.#forms.set(nameOf(rule), form);
    return form;
  }

  /** The form of the flags at a block's end; undefined where they are computed, or were set before it. */
  atEnd(block: RegionBlock): CarriedFlags | undefined {
    const last = block.instructions.findLast(({ statements }) => setsFlags(statements));
    if (last === undefined || !last.use.writes) return undefined;
    const rule = ruleOf(last.statements);
    return rule === undefined ? undefined : this.formOf(rule);
  }

  /** Puts the operands of a rule where its form has them. */
  carry(rule: FlagRule, form: CarriedFlags, push: (value: Value) => void): void {
    const code = this.#code;
    const pairs: [Value, Value][] =
      rule.kind === "logic"
        ? [[form.rule.a, rule.result]]
        : [
            [form.rule.a, rule.a],
            [form.rule.b, rule.b],
          ];
    if (rule.carry !== undefined && form.rule.carry !== undefined) pairs.push([form.rule.carry, rule.carry]);
    for (const [, from] of pairs) push(from);
    for (const [to] of pairs.reverse()) code.set(form.locals.get(to) ?? 0);
    this.setPending(form, true);
  }

  setPending({ pending }: CarriedFlags, on: boolean): void {
    this.#code.i32(on ? 1 : 0);
    this.#code.set(pending);
  }
}
