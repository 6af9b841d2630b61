import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { CompiledBatch } from "../cpu/wasm/compiler/compile-job.ts";
import { Assembler } from "../isa/assembler.ts";
import { DEFAULT_CPU_MODEL } from "../isa/cpu-models.ts";
import { DECODE } from "../isa/decode.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { CompileWorker } from "./compile-worker.ts";

const PAGE = 0x1000;
const PATIENCE_MS = 30_000;

test("a worker begins when much is wanted, and compiles what it is posted", async () => {
  const memory = GuestMemory.create(4 << 20);
  const a = new Assembler({ bits: 64, origin: BigInt(PAGE) });
  for (let i = 0; i < 10; i++) a.emit("ADD", "rax", "rcx");
  a.emit("RET");
  const code = a.finish();
  memory.slice(PAGE, code.length)?.set(code);

  const model = DEFAULT_CPU_MODEL.name;
  const service = new CompileWorker({ memory: memory.memory, ramBytes: memory.ramBytes, model });
  assert.equal(service.wanted(), false, "one region now and then is not worth a thread");
  let asked = 1;
  while (!service.wanted()) assert.ok(asked++ < 20, "many at once are");
  assert.equal(service.take(), undefined);

  const job = { index: 5, head: 0, mode: DECODE.long, pages: new Map([[0, PAGE]]), targets: new Map(), sites: [] };
  for (const id of [1, 2]) service.post({ ...job, id, index: id });
  const batches: CompiledBatch[] = [];
  for (const begun = performance.now(); batches.flatMap(({ jobs }) => jobs).length < 2; await sleep(10)) {
    assert.ok(performance.now() - begun < PATIENCE_MS, "nothing came back");
    const batch = service.take();
    if (batch !== undefined) batches.push(batch);
  }
  for (const { module, jobs } of batches) {
    assert.ok(module !== undefined);
    const names = WebAssembly.Module.exports(module).map(({ name }) => name);
    assert.deepEqual(
      names,
      jobs.map(({ id }) => `r${id}`),
    );
    for (const { instructions, parts } of jobs) {
      assert.equal(instructions, 11);
      assert.deepEqual(parts, [{ page: PAGE, from: 0, bytes: code }]);
    }
  }
  assert.equal(service.wanted(), true, "it runs on for a while");
});
