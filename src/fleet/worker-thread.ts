/** A vCPU's thread as a Node worker. */

import { Worker } from "node:worker_threads";
import type { VcpuThreadStart } from "../machine/vcpu-messages.ts";
import type { VcpuThread } from "../machine/vm.ts";

/** The young generation of a vCPU's heap at the most: with V8's own limit an idle VM holds 4 MiB more. */
const YOUNG_GENERATION_MB = 4;

/** `envelope` adds to the start's message what the engine's own worker needs besides. */
export function workerThread(script: URL, envelope: (start: VcpuThreadStart) => unknown): VcpuThread {
  const worker = new Worker(script, { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB } });
  let ended = false;
  return {
    start: (message) => worker.postMessage(envelope(message)),
    onMessage: (listener) => {
      worker.on("message", listener);
    },
    onFailure: (listener) => {
      worker.on("error", listener);
      worker.on("exit", () => {
        if (!ended) listener(new Error("its thread ended without a word"));
      });
    },
    terminate: async () => {
      ended = true;
      await worker.terminate();
    },
  };
}

/** µs of processor time that this process has used, all its threads together. */
export function processMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
