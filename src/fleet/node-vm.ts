/** Virtual machines in a Node process: vCPU threads are workers, compressed kernels are unpacked by node:zlib. */

import { Worker } from "node:worker_threads";
import { decompress } from "../images/decompress/decompress.ts";
import { PortableVm, type VcpuThread } from "../machine/vm.ts";
import type { CreateVm } from "../machine/vm-contract.ts";

function createThread(): VcpuThread {
  const worker = new Worker(new URL("./node-vcpu-worker.ts", import.meta.url));
  let ended = false;
  return {
    start: (message) => worker.postMessage(message),
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

export const createNodeVm: CreateVm = (options) => new PortableVm(options, { createThread, decompress });
