/** A Node worker that compiles a guest's hot code [compile-worker.ts]. */

import { flushCompileCache } from "node:module";
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { compileJobs, type CompileJob } from "../cpu/wasm/compiler/compile-job.ts";
import { Decoder } from "../isa/decode.ts";
import { EVERY_FEATURE, parseCpuModel } from "../isa/cpu-models.ts";
import { INSTRUCTIONS } from "../isa/table.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import type { CompileWorkerMessage, CompileWorkerStart } from "./compile-worker.ts";

// A worker that is terminated keeps nothing, so what it compiled is stored at its start.
flushCompileCache();

/** Regions of one module: what is ready early is of use early. */
const MAX_BATCH = 8;
/** Without a job for so long, in ms, it ends, and gives its memory back. */
const IDLE_MS = 5000;

const { memory, ramBytes, model, port } = workerData as CompileWorkerStart;
const guest = GuestMemory.attach(memory, ramBytes);
const decoder = new Decoder(INSTRUCTIONS, parseCpuModel(model, EVERY_FEATURE).features);
const tell = (message: CompileWorkerMessage): void => port.postMessage(message);

function compile(first: CompileJob): void {
  const jobs = [first];
  while (jobs.length < MAX_BATCH) {
    const next: { message: CompileJob } | undefined = receiveMessageOnPort(port);
    if (next === undefined) break;
    jobs.push(next.message);
  }
  try {
    tell(compileJobs(guest, decoder, jobs));
  } catch (failure) {
    tell({ failure });
  }
}

const idle = setTimeout(() => {
  tell("ended");
  port.close();
}, IDLE_MS);
port.on("message", (job: CompileJob) => {
  idle.refresh();
  compile(job);
});
