/** Virtual machines in a Node process: vCPU threads are workers, compressed kernels are unpacked by node:zlib. */

import { IsolaError } from "../base/errors.ts";
import { decompress } from "../images/decompress/decompress.ts";
import { type EngineRequest, VirtualMachine, type VmEngine } from "../machine/vm.ts";
import type { CreateVm, RestoreVm } from "../machine/vm-contract.ts";
import { portableProcessor } from "../machine/portable-processor.ts";
import { createKvmEngine } from "./kvm-engine.ts";
import { watchMainThread } from "./memory-return.ts";
import { workerThread } from "./worker-thread.ts";

/** The portable engine looks up every millisecond, so nothing has to kick it. */
function portableEngine({ cpus, ...processor }: EngineRequest): VmEngine {
  if (cpus > 1) {
    throw new IsolaError({
      code: "cpus-too-many",
      message: `starting a VM with ${cpus} processors: the portable engine runs one; use --cpus 1, or --engine kvm`,
    });
  }
  return {
    ...portableProcessor(processor),
    createThread: () => workerThread(new URL("./node-vcpu-worker.ts", import.meta.url), (start) => start),
    kick: () => undefined,
    dispose: () => undefined,
  };
}

const createEngine = (request: EngineRequest): VmEngine =>
  request.name === "kvm" ? createKvmEngine(request) : portableEngine(request);

export const createNodeVm: CreateVm = (options) => {
  watchMainThread();
  return new VirtualMachine(options, { createEngine, decompress });
};
export const restoreNodeVm: RestoreVm = (options) => {
  watchMainThread();
  return new VirtualMachine(options, { createEngine, decompress });
};
