/** A Node worker that runs one vCPU. */

import { flushCompileCache } from "node:module";
import { availableParallelism } from "node:os";
import { setFlagsFromString } from "node:v8";
import { parentPort } from "node:worker_threads";
import type { VcpuThreadStart } from "../machine/vcpu-messages.ts";
import { runVcpuThread } from "../machine/vcpu-thread.ts";
import { CompileWorker } from "./compile-worker.ts";
import { MemoryReturn } from "./memory-return.ts";
import { processMicros } from "./worker-thread.ts";

// A worker that is terminated keeps nothing, so what it compiled is stored at its start.
flushCompileCache();

/** Bytes of unoptimised code that a function runs before V8 optimises it. */
const TIERING_BUDGET = 500_000;

const port = parentPort;
if (port === null) throw new Error("node-vcpu-worker.ts runs as a worker");
port.once("message", ({ start, compileBeside }: { start: VcpuThreadStart; compileBeside: boolean }) => {
  // By itself V8 optimises WebAssembly so late that a guest's loop is often over by then.
  if (start.compileAfter > 0) setFlagsFromString(`--wasm-tiering-budget=${TIERING_BUDGET}`);
  const heap = new MemoryReturn();
  runVcpuThread(start, {
    post: (message) => port.postMessage(message),
    usedMicros: processMicros,
    rest: (trim) => heap.look(trim),
    ...(compileBeside && availableParallelism() > 1
      ? { compile: (memory, ramBytes, model) => new CompileWorker({ memory, ramBytes, model }) }
      : {}),
  });
});
