/** A VM's engine on the host's KVM: the VM and its vCPUs are made here, and run on workers of their own. */

import { IsolaError } from "../base/errors.ts";
import { cpuidTable, hostFeatures } from "../cpu/kvm/cpuid-table.ts";
import { Kvm, type KvmVm } from "../cpu/kvm/kvm.ts";
import { createInterrupts } from "../cpu/kvm/kvm-interrupts.ts";
import type { VcpuFile, VcpuPlace } from "../cpu/kvm/vcpu-file.ts";
import { KICK, Kicker } from "../cpu/kvm/kick.ts";
import type { VcpuThreadStart } from "../machine/vcpu-messages.ts";
import type { EngineRequest, VcpuThread, VmEngine } from "../machine/vm.ts";
import { ENGINE_BYTES, type GuestMemory, VGA_WINDOW } from "../memory/guest-memory.ts";
import {
  type CpuModel,
  DEFAULT_CPU_MODEL,
  EVERY_FEATURE,
  offeredModel,
  parseCpuModel,
  wholeModel,
} from "../isa/cpu-models.ts";
import { linuxSys } from "../sys/linux.ts";
import { KvmMachine } from "./kvm-machine.ts";
import { processMicros, workerThread } from "./worker-thread.ts";

/** What a worker needs besides to run its vCPU. */
export interface KvmThreadStart extends VcpuThreadStart {
  readonly vm: number;
  readonly place: VcpuPlace;
  /** Where the thread says who it is (kick.ts). */
  readonly kick: SharedArrayBuffer;
}

/** A thread that is to end is kicked again this often, in ms: until it is gone, whatever it was doing. */
const KICK_AGAIN_MS = 20;

/**
 * RAM as memory slots; the VGA window is none. In huge pages where the host has them: RAM begins on one's boundary both
 * in the guest and here, so that one exit and one entry of the processor's tables bring 2 MiB.
 */
function giveMemory(vm: KvmVm, memory: GuestMemory): void {
  const base = vm.sys.addressOf(memory.memory.buffer);
  // A kernel that was built without them answers EINVAL, and the guest does with small ones.
  vm.sys.adviseHugePages(base + BigInt(ENGINE_BYTES), memory.ramBytes);
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

/** How far frequencies may lie apart that KVM takes as the same, in parts of a million. */
const TSC_TOLERANCE_PPM = 250;

/** Gives every vCPU's counter the frequency that is asked for; result: the guest's frequency in Hz. */
function settleTsc(kvm: Kvm, vcpus: readonly VcpuFile[], wanted: number | undefined): number {
  const own = (vcpus[0]?.tscKhz() ?? 0) * 1000;
  if (wanted === undefined) return own;
  if (Math.abs(wanted - own) * 1e6 <= own * TSC_TOLERANCE_PPM) return wanted;
  if (kvm.capability("TSC_CONTROL") === 0) {
    throw new IsolaError({
      code: "tsc-unfit",
      message: `the guest's time-stamp counter runs at ${wanted / 1e6} MHz, this host's at ${own / 1e6} MHz and cannot be scaled; use --engine wasm, or a guest that was started with --tsc ${own}`,
    });
  }
  for (const vcpu of vcpus) vcpu.setTscKhz(Math.round(wanted / 1000));
  return wanted;
}

/** The processor as asked for, of what this host's KVM offers. @throws IsolaError `cpu-model-invalid`, `cpu-model-unfit` */
function modelOf(kvm: Kvm, cpu: string | CpuModel): CpuModel {
  const offered = hostFeatures(kvm.supportedCpuid(), kvm.capability("TSC_DEADLINE_TIMER") > 0);
  if (typeof cpu !== "string") return wholeModel(cpu, offered, "this host's KVM");
  const wanted = /^(host|max)\b/.test(cpu) ? parseCpuModel(cpu, offered) : parseCpuModel(cpu, EVERY_FEATURE);
  return offeredModel(wanted, offered);
}

class KvmEngine implements VmEngine {
  readonly outside: KvmMachine;
  readonly model: CpuModel;
  readonly tscHz: number;
  readonly usedMicros = processMicros;
  readonly #kvm: Kvm;
  readonly #vm: KvmVm;
  /** Held, so that it outlives the VM. */
  readonly memory: GuestMemory;
  readonly #vcpus: VcpuFile[] = [];
  readonly #kickers: Kicker[] = [];
  #disposed = false;

  constructor({ memory, cpus, cpu: asked, tscHz }: EngineRequest, descriptor: number | undefined) {
    const sys = linuxSys();
    this.memory = memory;
    using stack = new DisposableStack();
    this.#kvm = stack.use(descriptor === undefined ? Kvm.open(sys) : Kvm.adopt(sys, descriptor));
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
    this.model = modelOf(this.#kvm, asked);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const vcpu = stack.use(this.#vm.createVcpu(cpu));
      this.#vcpus.push(vcpu);
      this.#kickers.push(new Kicker(sys, vcpu.runBytes, new SharedArrayBuffer(KICK.bytes)));
    }
    this.tscHz = settleTsc(this.#kvm, this.#vcpus, tscHz);
    for (const [apicId, vcpu] of this.#vcpus.entries()) {
      const frequencies = { processors: cpus, tscHz: this.tscHz };
      const context = { ...frequencies, apicId, osxsave: false, apicEnabled: true, xcr0: 1 };
      vcpu.setCpuid(cpuidTable(context, this.model.features));
    }
    this.outside = new KvmMachine(sys, this.#vm.fd, this.#vcpus, this.tscHz);
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

/** What a guest must have that goes on from a saved state. */
export interface ProcessorWanted {
  readonly cpu: CpuModel;
  readonly tscHz: number;
}

/** Why this host's KVM cannot go on with such a guest; undefined: it can. */
export function kvmUnfit({ cpu, tscHz }: ProcessorWanted): string | undefined {
  try {
    using kvm = Kvm.open(linuxSys());
    modelOf(kvm, cpu);
    using vm = kvm.createVm();
    using vcpu = vm.createVcpu(0);
    settleTsc(kvm, [vcpu], tscHz);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The processor that guests get here unless they ask for another; for reports. */
export function kvmProcessor(): { readonly model: string; readonly tscHz: number } {
  using kvm = Kvm.open(linuxSys());
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  return { model: modelOf(kvm, DEFAULT_CPU_MODEL.name).name, tscHz: vcpu.tscKhz() * 1000 };
}

/**
 * `descriptor`: of /dev/kvm, left open; absent: the file is opened.
 * @throws IsolaError `kvm-unavailable`, `cpus-too-many`, `cpu-model-invalid`, `cpu-model-unfit`, `tsc-unfit`; SysError
 * where the host refuses a part of the VM
 */
export const createKvmEngine = (request: EngineRequest, descriptor?: number): VmEngine =>
  new KvmEngine(request, descriptor);
