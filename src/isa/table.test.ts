/** What must hold for every instruction of the table: effects build, and say what they depend on. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { FEATURES } from "./cpuid-features.ts";
import { ENGINE_HELPERS, type EngineHelper } from "./engine-helpers.ts";
import { NO_OPERAND, operandBits } from "./decode.ts";
import { type Form, type Instruction, type OperandPattern, parseForm } from "./instruction.ts";
import type { HelperCall, Operand, Statement, Value } from "./ir.ts";
import { type Context, Semantics } from "./semantics.ts";
import { INSTRUCTIONS } from "./table.ts";

function operandOf(pattern: OperandPattern, index: number, size: 16 | 32 | 64, memory: boolean): Operand {
  const bits = operandBits(pattern, size, size === 64);
  const kind = (): Operand["kind"] => {
    if (pattern.place === "O" || ("EWQM".includes(pattern.place) && memory)) return "mem";
    if ("SCDI".includes(pattern.place) || pattern.size === "1") return "imm";
    return pattern.place === "J" ? "rel" : "reg";
  };
  const vector = "VWU".includes(pattern.place) && bits < 128;
  return { index, kind: kind(), bits, ...(vector ? { partial: true } : {}) };
}

interface Built {
  readonly instruction: Instruction;
  readonly form: Form;
  readonly context: Context;
  readonly read: ReadonlySet<string>;
  readonly statements: readonly Statement[];
}

/** Every effect in every context that its form allows; `read` names the parts of the context that it looked at. */
function* everything(): Generator<Built> {
  for (const instruction of INSTRUCTIONS) {
    for (const text of instruction.forms) {
      const form = parseForm(instruction, text);
      const hasMemory = form.modrm && form.rm !== "register" && form.operands.some((o) => "EWQM".includes(o.place));
      for (const long of [true, false]) {
        if (long ? form.not64 : form.only64) continue;
        for (const operandSize of long ? ([16, 32, 64] as const) : ([16, 32] as const)) {
          if (long && form.force64 && operandSize !== 64) continue;
          for (const addressSize of long ? ([32, 64] as const) : ([16, 32] as const)) {
            for (const rep of ["none", "rep", "repne"] as const) {
              for (const memory of hasMemory ? (form.rm === "memory" ? [true] : [true, false]) : [false]) {
                const read = new Set<string>();
                const plain: Context = {
                  operandSize,
                  addressSize,
                  stackSize: long ? 64 : 32,
                  rep,
                  lock: false,
                  segment: "ds",
                  long,
                  alignment: false,
                  checked: long ? 0 : 0x3f,
                };
                const context = new Proxy(plain, {
                  get(target, key) {
                    read.add(String(key));
                    return Reflect.get(target, key);
                  },
                });
                const m = new Semantics(context);
                const [a = NO_OPERAND, b = NO_OPERAND, c = NO_OPERAND] = form.operands.map((o, i) =>
                  operandOf(o, i, operandSize, memory),
                );
                instruction.effect(m, a, b, c);
                yield { instruction, form, context: plain, read, statements: m.finish() };
              }
            }
          }
        }
      }
    }
  }
}

/** Helper calls and values of a statement list, in branches too. */
function visit(
  statements: readonly Statement[],
  call: (c: HelperCall) => void,
  value: (v: Value) => void = () => {},
): void {
  for (const s of statements) {
    if (s.kind === "call") call(s.call);
    if (s.kind === "evaluate") {
      value(s.value);
      if (s.value.source.kind === "helper") call(s.value.source.call);
    }
    if (s.kind === "if") {
      visit(s.then, call, value);
      visit(s.else, call, value);
    }
  }
}

test("effects build everywhere, and name the parts of the context that they look at", () => {
  const missing = new Set<string>();
  const tooMany = new Map<string, { instruction: Instruction; read: Set<string> }>();
  for (const { instruction, form, context, read } of everything()) {
    const seen = tooMany.get(instruction.name) ?? { instruction, read: new Set<string>() };
    tooMany.set(instruction.name, seen);
    for (const part of read) {
      seen.read.add(part);
      // The operand size always tells handlers apart, and so do the mode and what is checked.
      if (part === "operandSize" || part === "long" || part === "alignment" || part === "checked") continue;
      // Where segments are checked, handlers are told apart by the segment too.
      if (part === "segment" && context.checked !== 0) continue;
      if (!(instruction.uses ?? []).some((u) => u === part))
        missing.add(`${instruction.name} (${form.text}) reads ${part}`);
    }
  }
  assert.deepEqual([...missing], []);
});

test("helpers are called as their table says", () => {
  const wrong = new Set<string>();
  for (const { instruction, form, statements } of everything()) {
    visit(statements, (call) => {
      // Vector instructions have helpers of their own.
      if (form.operands.some((o) => "VWUPQN".includes(o.place))) return;
      const helper: EngineHelper | undefined = Object.entries(ENGINE_HELPERS).find(([name]) => name === call.name)?.[1];
      if (helper === undefined) return;
      const args = call.args.map((a) => a.type).join();
      if (args !== helper.args.join() || call.result !== helper.result || call.quiet !== (helper.kind === "quiet")) {
        wrong.add(`${instruction.name} (${form.text}) calls ${call.name}(${args}) for ${call.result ?? "nothing"}`);
      }
    });
  }
  assert.deepEqual([...wrong], []);
});

test("every helper of the table has a caller", () => {
  const called = new Set<string>();
  for (const { statements } of everything()) visit(statements, (call) => called.add(call.name));
  assert.deepEqual(
    Object.keys(ENGINE_HELPERS).filter((name) => !called.has(name)),
    [],
  );
});

/** A text that equal effects share. Values have numbers, since each may be used by many others. */
function effectText(statements: readonly Statement[]): string {
  const numbers = new Map<object, number>();
  return JSON.stringify(statements, (key, v: unknown) => {
    if (typeof v === "bigint") return `${v}n`;
    if (typeof v !== "object" || v === null || !("source" in v)) return v;
    const known = numbers.get(v);
    if (known === undefined) numbers.set(v, numbers.size);
    return known === undefined ? v : `${key} ${known}`;
  });
}

test("a name and the shapes of operands stand for one effect", () => {
  const owners = new Map<string, { instruction: Instruction; text: string; effect: string }>();
  const clashes = new Set<string>();
  for (const instruction of INSTRUCTIONS) {
    for (const text of instruction.forms) {
      const form = parseForm(instruction, text);
      for (const size of [16, 32, 64] as const) {
        for (const memory of form.rm === "both" ? [true, false] : [form.rm === "memory"]) {
          const shapes = form.operands.map((o, i) => operandOf(o, i, size, memory));
          const vector = form.operands.some((o) => "PQN".includes(o.place))
            ? "m"
            : shapes.some((o) => o.partial === true)
              ? "v"
              : "";
          const key = `${instruction.name} ${shapes.map((o) => `${o.kind}${o.bits}`).join()} ${size}${vector}`;
          const m = new Semantics({
            operandSize: size,
            addressSize: 64,
            stackSize: 64,
            rep: "none",
            lock: false,
            segment: "ds",
            long: true,
            alignment: false,
            checked: 0,
          });
          const [a = NO_OPERAND, b = NO_OPERAND, c = NO_OPERAND] = shapes;
          instruction.effect(m, a, b, c);
          const effect = effectText(m.finish());
          const owner = owners.get(key) ?? { instruction, text, effect };
          owners.set(key, owner);
          if (owner.effect !== effect) clashes.add(`${key}: ${owner.text} and ${text}`);
        }
      }
    }
  }
  assert.deepEqual([...clashes], []);
});

test("features are CPUID's", () => {
  const features: Record<string, unknown> = FEATURES;
  const unknown = INSTRUCTIONS.filter((i) => i.feature !== undefined && !(i.feature in features));
  assert.deepEqual(
    unknown.map((i) => `${i.name}: ${i.feature}`),
    [],
  );
});

test("an instruction that always leaves its trace says so", () => {
  // The decoder would else decode on in vain, or fall out of the trace's end.
  const leaves = (list: readonly Statement[]): boolean => {
    const last = list.at(-1);
    if (last === undefined) return false;
    if (last.kind === "if") return leaves(last.then) && leaves(last.else);
    return last.kind === "jump" || last.kind === "jumpRelative" || last.kind === "endTrace" || last.kind === "fault";
  };
  const always = new Map<Instruction, boolean>();
  for (const { instruction, statements } of everything()) {
    always.set(instruction, (always.get(instruction) ?? true) && leaves(statements));
  }
  const wrong = [...always].filter(([instruction, left]) => left !== (instruction.ends ?? false));
  assert.deepEqual(
    wrong.map(([instruction]) => instruction.name),
    [],
  );
});
