/** A thread inside a vCPU that never leaves by itself: brought out, it notices what was wanted, as a VM's thread does. */

import { workerData } from "node:worker_threads";
import { KVM_RUN_STATE } from "../../src/cpu/kvm/abi.ts";
import { kickable } from "../../src/cpu/kvm/kick.ts";
import { VcpuFile, type VcpuPlace } from "../../src/cpu/kvm/vcpu-file.ts";
import { linuxSys } from "../../src/sys/linux.ts";

export interface KickWork {
  readonly place: VcpuPlace;
  readonly kick: SharedArrayBuffer;
  /** Words: the wish that it noticed last; non-zero to end; another exit's reason; the wish. */
  readonly words: SharedArrayBuffer;
}

const { place, kick, words } = workerData as KickWork;
const sys = linuxSys();
const [NOTICED, STOP, OTHER, WISH] = [0, 1, 2, 3];
const shared = new Int32Array(words);
using file = VcpuFile.attach(sys, place);
kickable(sys, kick, () => {
  while (Atomics.load(shared, STOP) === 0) {
    const reason = file.enter();
    if (reason !== undefined) {
      Atomics.store(shared, OTHER, reason);
      Atomics.store(shared, NOTICED, -1);
      Atomics.notify(shared, NOTICED);
      return;
    }
    Atomics.store(file.runBytes, KVM_RUN_STATE.offset.immediateExit, 0);
    Atomics.store(shared, NOTICED, Atomics.load(shared, WISH));
    Atomics.notify(shared, NOTICED);
  }
});
