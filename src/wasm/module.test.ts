import assert from "node:assert/strict";
import { test } from "node:test";
import { ModuleBuilder } from "./module.ts";
import { allOpcodes, type ValueType } from "./opcodes.ts";

/** Pushes a constant of a type. */
function push(code: ReturnType<ModuleBuilder["function"]>["code"], type: ValueType): void {
  if (type === "i32") code.i32(16);
  else if (type === "i64") code.i64(-3n);
  else if (type === "f32") code.f32(1.5);
  else if (type === "f64") code.f64(-2.5);
  else code.v128(new Uint8Array(16).fill(7));
}

test("WebAssembly accepts every instruction of the table with the signature that the table gives", () => {
  for (const { name, params, result, align, laneBytes } of allOpcodes()) {
    const module = new ModuleBuilder();
    module.importMemory("env", "memory", 1, 1);
    const { code } = module.function([], result === undefined ? [] : [result], "f");
    for (const type of params) push(code, type);
    if (align !== undefined) code.memory(name, 8);
    else code.op(name, laneBytes === undefined ? undefined : new Array<number>(laneBytes).fill(1));
    assert.ok(WebAssembly.validate(module.finish()), name);
  }
});

test("constants survive their encodings", () => {
  const module = new ModuleBuilder();
  const i64s = [0n, 63n, 64n, -64n, -65n, 2n ** 62n, -(2n ** 63n), 2n ** 63n - 1n];
  const i32s = [0, 63, 64, -64, -65, 2 ** 31 - 1, -(2 ** 31), 0x8000_0000];
  for (const [i, value] of i64s.entries()) module.function([], ["i64"], `l${i}`).code.i64(value);
  for (const [i, value] of i32s.entries()) module.function([], ["i32"], `i${i}`).code.i32(value);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()));
  const call = (name: string) => (exports[name] as () => bigint | number)();
  for (const [i, value] of i64s.entries()) assert.equal(call(`l${i}`), value);
  for (const [i, value] of i32s.entries()) assert.equal(call(`i${i}`), value | 0);
});

test("branches reach the construct that they name, whatever is nested between", () => {
  const module = new ModuleBuilder();
  const { code } = module.function(["i32"], ["i32"], "f");
  const sum = code.local("i32");
  code.block();
  const out = code.depth;
  code.loop();
  const again = code.depth;
  code.get(0);
  code.op("i32.eqz");
  code.if();
  code.br(out);
  code.end();
  code.get(sum);
  code.get(0);
  code.op("i32.add");
  code.set(sum);
  code.get(0);
  code.i32(1);
  code.op("i32.sub");
  code.set(0);
  code.br(again);
  code.end();
  code.end();
  code.get(sum);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()));
  assert.equal((exports["f"] as (n: number) => number)(10), 55);
});

test("a function table is reached by its elements' order", () => {
  const module = new ModuleBuilder();
  const numbers = [3, 5, 8].map((n) => {
    const { index, code } = module.function([], ["i32"]);
    code.i32(n);
    return index;
  });
  const { code } = module.function(["i32"], ["i32"], "f");
  code.get(0);
  code.callIndirect(module.type([], ["i32"]));
  module.table("t", numbers);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()));
  assert.deepEqual([0, 1, 2].map(exports["f"] as (n: number) => number), [3, 5, 8]);
});

test("what is no instruction's name, and an import after a function, are mistakes that are told", () => {
  const module = new ModuleBuilder();
  const { code } = module.function([], []);
  assert.throws(() => code.op("i32.frobnicate"), /i32\.frobnicate/);
  assert.throws(() => module.importFunction("env", "late", [], []), /imports come before/);
});
