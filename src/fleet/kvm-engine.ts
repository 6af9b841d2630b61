/** A VM's engine on the host's KVM: the VM and its vCPUs are made here, and run on workers of their own. */

import { IsolaError } from "../base/errors.ts";
import { cpuidTable, hostFeatures } from "../cpu/kvm/cpuid-table.ts";
import { Kvm, type KvmVm } from "../cpu/kvm/kvm.ts";
import { createInterrupts, KvmInterrupts } from "../cpu/kvm/kvm-interrupts.ts";
import type { VcpuFile, VcpuPlace } from "../cpu/kvm/vcpu-file.ts";
import { KICK, Kicker } from "../cpu/kvm/kick.ts";
import type { VcpuThreadStart } from "../machine/vcpu-messages.ts";
import type { EngineRequest, VcpuThread, VmEngine } from "../machine/vm.ts";
import { type GuestMemory, VGA_WINDOW } from "../memory/guest-memory.ts";
import { linuxSys } from "../sys/linux.ts";
import { workerThread } from "./worker-thread.ts";

/** What a worker needs besides to run its vCPU. */
export interface KvmThreadStart extends VcpuThreadStart {
  readonly vm: number;
  readonly place: VcpuPlace;
  /** Where the thread says who it is (kick.ts). */
  readonly kick: SharedArrayBuffer;
}

/** A thread that is to end is kicked again this often, in ms: until it is gone, whatever it was doing. */
const KICK_AGAIN_MS = 20;

/** RAM as memory slots; the VGA window is none. */
function giveMemory(vm: KvmVm, memory: GuestMemory): void {
  const base = vm.sys.addressOf(memory.memory.buffer);
  let slot = 0;
  const give = (start: number, end: number, offset: number): void => {
    // SAFETY: only RAM, never the engine's area before it. The VM is closed before the memory can be collected: the
    // engine holds both.
    vm.setMemory({ slot: slot++, guestPhysical: start, sizeBytes: end - start, address: base + BigInt(offset) });
  };
  for (const { start, size, offset } of memory.regions) {
    const end = start + size;
    if (start <= VGA_WINDOW.start && end >= VGA_WINDOW.end) {
      give(start, VGA_WINDOW.start, offset);
      if (end > VGA_WINDOW.end) give(VGA_WINDOW.end, end, offset + (VGA_WINDOW.end - start));
    } else {
      give(start, end, offset);
    }
  }
}

class KvmEngine implements VmEngine {
  readonly outside: KvmInterrupts;
  readonly #kvm: Kvm;
  readonly #vm: KvmVm;
  /** Held, so that it outlives the VM. */
  readonly memory: GuestMemory;
  readonly #vcpus: VcpuFile[] = [];
  readonly #kickers: Kicker[] = [];
  #disposed = false;

  constructor({ memory, cpus, model }: EngineRequest) {
    const sys = linuxSys();
    this.memory = memory;
    using stack = new DisposableStack();
    this.#kvm = stack.use(Kvm.open(sys));
    const most = this.#kvm.capability("MAX_VCPUS");
    if (cpus > most) {
      throw new IsolaError({
        code: "cpus-too-many",
        message: `starting a VM with ${cpus} processors: this host's KVM has ${most} at the most`,
      });
    }
    this.#vm = stack.use(this.#kvm.createVm());
    createInterrupts(sys, this.#vm.fd);
    giveMemory(this.#vm, memory);
    this.outside = new KvmInterrupts(sys, this.#vm.fd);
    const features = hostFeatures(
      this.#kvm.supportedCpuid(),
      this.#kvm.capability("TSC_DEADLINE_TIMER") > 0,
      model.features,
    );
    for (let cpu = 0; cpu < cpus; cpu++) {
      const vcpu = stack.use(this.#vm.createVcpu(cpu));
      this.#vcpus.push(vcpu);
      const tscHz = vcpu.tscKhz() * 1000;
      const context = { apicId: cpu, processors: cpus, tscHz, osxsave: false, apicEnabled: true, xcr0: 1 };
      vcpu.setCpuid(cpuidTable(context, features));
      this.#kickers.push(new Kicker(sys, vcpu.runBytes, new SharedArrayBuffer(KICK.bytes)));
    }
    stack.move();
  }

  createThread(cpu: number): VcpuThread {
    const vcpu = this.#vcpus[cpu];
    const kicker = this.#kickers[cpu];
    if (vcpu === undefined || kicker === undefined) throw new RangeError(`processor ${cpu} of ${this.#vcpus.length}`);
    const script = new URL("./kvm-vcpu-worker.ts", import.meta.url);
    const extra = { vm: this.#vm.fd, place: vcpu.place, kick: kicker.shared };
    const thread = workerThread(script, (start): KvmThreadStart => ({ ...start, ...extra }));
    return {
      ...thread,
      terminate: async () => {
        // Nothing but a kick brings a thread out of the kernel, where ending a worker would wait for it.
        kicker.kick();
        const again = setInterval(() => kicker.kick(), KICK_AGAIN_MS);
        try {
          await thread.terminate();
        } finally {
          clearInterval(again);
        }
      },
    };
  }

  kick(): void {
    for (const kicker of this.#kickers) kicker.kick();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const vcpu of this.#vcpus) vcpu[Symbol.dispose]();
    this.#vm[Symbol.dispose]();
    this.#kvm[Symbol.dispose]();
  }
}

/** @throws IsolaError `kvm-unavailable`, `cpus-too-many`; SysError where the host refuses a part of the VM */
export const createKvmEngine = (request: EngineRequest): VmEngine => new KvmEngine(request);
