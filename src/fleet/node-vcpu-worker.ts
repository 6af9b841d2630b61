/** A Node worker that runs one vCPU. */

import { flushCompileCache } from "node:module";
import { parentPort } from "node:worker_threads";
import type { VcpuThreadStart } from "../machine/vcpu-messages.ts";
import { runVcpuThread } from "../machine/vcpu-thread.ts";
import { processMicros } from "./worker-thread.ts";

// A worker that is terminated keeps nothing, so what it compiled is stored at its start.
flushCompileCache();

const port = parentPort;
if (port === null) throw new Error("node-vcpu-worker.ts runs as a worker");
port.once("message", (start: VcpuThreadStart) => {
  runVcpuThread(start, {
    post: (message) => port.postMessage(message),
    usedMicros: processMicros,
  });
});
