/** Ring 3 by the processor itself, through /dev/kvm: the oracle. */

import { KVM_EXIT, KVM_EXIT_IO_OUT, KVM_REGS, KVM_RUN_IO, kvmExitName } from "../../src/cpu/kvm/abi.ts";
import { Kvm, type KvmVm } from "../../src/cpu/kvm/kvm.ts";
import { loadFx, loadState } from "../../src/cpu/kvm/state.ts";
import type { VcpuFile } from "../../src/cpu/kvm/vcpu-file.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { linuxSys } from "../../src/sys/linux.ts";
import type { Sys } from "../../src/sys/sys.ts";
import {
  type Batch,
  type BatchResult,
  BatchWriter,
  CODE_ADDRESS,
  handlerAddress,
  type Ring3Engine,
  readResult,
  remainingCases,
  startState,
  writeHungFrame,
  writeSystem,
} from "./image.ts";
import { BASE, CODE_BYTES, DONE_PORT, HUNG, RAM_BYTES } from "./layout.ts";

/** How often it is looked whether a case makes progress. A whole batch takes some tens of milliseconds. */
const ALARM_MILLISECONDS = 1000;
/** A case that ran for so long does not end: CPU time, since a busy host may keep a case waiting. */
const HANG_CPU_MILLISECONDS = 500;
/** The same by the clock, where a host does not count the guest's time. */
const HANG_MILLISECONDS = 60_000;
/** How often the runtime, which has no loop that waits, may be found where it was: a busy host may hold it up. */
const RUNTIME_PATIENCE = 10;

export class KvmEngine implements Ring3Engine {
  readonly name = "kvm";
  readonly #sys: Sys;
  readonly #kvm: Kvm;
  readonly #vm: KvmVm;
  readonly #vcpu: VcpuFile;
  readonly #memory: GuestMemory;
  readonly #ram: Uint8Array;
  readonly #writer: BatchWriter;
  /** Cases left when it was last looked, and when that number was seen first: milliseconds of CPU and of the clock. */
  #left = 0;
  #sinceCpu = 0;
  #patience = RUNTIME_PATIENCE;
  #since = 0;

  constructor() {
    this.#sys = linuxSys();
    this.#kvm = Kvm.open(this.#sys);
    this.#vm = this.#kvm.createVm();
    this.#memory = GuestMemory.create(RAM_BYTES);
    const { offset } = this.#memory.regions[0] ?? { offset: 0 };
    this.#ram = this.#memory.bytes.subarray(offset, offset + RAM_BYTES);
    this.#writer = new BatchWriter(this.#ram);
    const address = this.#sys.addressOf(this.#memory.memory.buffer) + BigInt(offset);
    this.#vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: RAM_BYTES, address });
    this.#vcpu = this.#vm.createVcpu(0);
    this.#vcpu.setCpuid(this.#kvm.supportedCpuid());
    writeSystem(this.#ram);
  }

  run(batch: Batch): BatchResult {
    this.#writer.write(batch);
    const start = startState();
    loadState(this.#vcpu, start);
    loadFx(this.#vcpu, start.fx);
    this.#note(batch.count);
    this.#sys.alarm(ALARM_MILLISECONDS);
    while (!this.#step()) {}
    this.#sys.alarm(0);
    return readResult(this.#ram, batch);
  }

  /** One entry into the guest; true when the batch is done. */
  #step(): boolean {
    const reason = this.#vcpu.enter();
    if (reason === undefined) {
      this.#interrupted();
      return false;
    }
    const { run } = this.#vcpu;
    if (reason !== KVM_EXIT.IO || run.getUint8(KVM_RUN_IO.direction) !== KVM_EXIT_IO_OUT) {
      this.#vcpu.readRegs();
      const rip = this.#vcpu.regs.getBigUint64(KVM_REGS.offset.rip, true);
      throw new Error(`run a batch on KVM: ${kvmExitName(reason)} at RIP 0x${rip.toString(16)}, wanted an OUT`);
    }
    return run.getUint16(KVM_RUN_IO.port, true) === DONE_PORT;
  }

  /** After a signal: the alarm, or another such as a profiler's. */
  #interrupted(): void {
    const left = remainingCases(this.#ram);
    const hung = cpuMilliseconds() - this.#sinceCpu >= HANG_CPU_MILLISECONDS;
    if (left !== this.#left) this.#note(left);
    else if (hung || performance.now() - this.#since >= HANG_MILLISECONDS) this.#endHungCase();
    this.#sys.alarm(ALARM_MILLISECONDS);
  }

  #note(left: number): void {
    this.#left = left;
    this.#patience = RUNTIME_PATIENCE;
    this.#sinceCpu = cpuMilliseconds();
    this.#since = performance.now();
  }

  /** The case that runs now gets its end. */
  #endHungCase(): void {
    const { regs } = this.#vcpu;
    this.#vcpu.readRegs();
    const read = (name: "rip" | "rsp" | "rflags"): bigint => regs.getBigUint64(KVM_REGS.offset[name], true);
    const rip = read("rip");
    // An alarm may also strike in the runtime: then there is nothing to end.
    if (rip >= CODE_ADDRESS && rip < CODE_ADDRESS + BigInt(CODE_BYTES)) {
      writeHungFrame(this.#ram, rip, read("rsp"), read("rflags"));
      regs.setBigUint64(KVM_REGS.offset.rip, handlerAddress(HUNG), true);
      this.#vcpu.writeRegs();
    } else if (rip < BASE) {
      throw new Error(`run a batch on KVM: 32-bit code at 0x${rip.toString(16)} does not end, wanted an OUT`);
    } else if (--this.#patience < 0) {
      throw new Error(`run a batch on KVM: ${this.#left} cases are left at RIP 0x${rip.toString(16)}, and none ends`);
    }
  }

  [Symbol.dispose](): void {
    this.#vcpu[Symbol.dispose]();
    this.#vm[Symbol.dispose]();
    this.#kvm[Symbol.dispose]();
  }
}

function cpuMilliseconds(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
