/** Virtual machines in a Node process: vCPU threads are workers, compressed kernels are unpacked by node:zlib. */

import { IsolaError } from "../base/errors.ts";
import { decompress } from "../images/decompress/decompress.ts";
import { type EngineRequest, VirtualMachine, type VmEngine, type VmPlace } from "../machine/vm.ts";
import type { RestoreOptions, Vm, VmOptions } from "../machine/vm-contract.ts";
import { portableProcessor } from "../machine/portable-processor.ts";
import { createKvmEngine } from "./kvm-engine.ts";
import { watchMainThread } from "./memory-return.ts";
import { workerThread } from "./worker-thread.ts";

/** The portable engine looks up every millisecond, so nothing has to kick it. */
function portableEngine({ cpus, ...processor }: EngineRequest, compileBeside: boolean): VmEngine {
  if (cpus > 1) {
    throw new IsolaError({
      code: "cpus-too-many",
      message: `starting a VM with ${cpus} processors: the portable engine runs one; use --cpus 1, or --engine kvm`,
    });
  }
  return {
    ...portableProcessor(processor),
    createThread: () =>
      workerThread(new URL("./node-vcpu-worker.ts", import.meta.url), (start) => ({ start, compileBeside })),
    kick: () => undefined,
    dispose: () => undefined,
  };
}

/** What a process was given to run VMs with. */
export interface NodePlace {
  /** A descriptor of /dev/kvm, which stays open; absent: the engine kvm opens the file. */
  readonly kvm?: number;
  /**
   * Whether hot code is compiled on a thread of its own where the host has a processor for it. Default true: a guest boots
   * a sixth sooner. The thread ends with its work, but leaves 9 MiB behind, which counts where VMs are many.
   */
  readonly compileBeside?: boolean;
}

function placeOf({ kvm, compileBeside = true }: NodePlace): VmPlace {
  watchMainThread();
  return {
    createEngine: (request) =>
      request.name === "kvm" ? createKvmEngine(request, kvm) : portableEngine(request, compileBeside),
    decompress,
  };
}

export const createNodeVm = (options: VmOptions, place: NodePlace = {}): Vm =>
  new VirtualMachine(options, placeOf(place));
export const restoreNodeVm = (options: RestoreOptions, place: NodePlace = {}): Vm =>
  new VirtualMachine(options, placeOf(place));
