/**
 * A vCPU of the host's KVM under the contract of vcpu.ts. Interrupt controllers and the interval timer are the kernel's,
 * a halted processor waits inside KVM_RUN; what leaves it are accesses to the board's devices. [kvm api §5]
 */

import type { GuestMemory } from "../../memory/guest-memory.ts";
import { resetState } from "../reset-state.ts";
import type { AccessSize, Bus, CpuState, Vcpu, VcpuExit } from "../vcpu.ts";
import {
  KVM_EXIT,
  KVM_EXIT_IO_OUT,
  KVM_REGS,
  KVM_RUN_FAIL_ENTRY,
  KVM_RUN_HARDWARE_REASON,
  KVM_RUN_INTERNAL,
  KVM_RUN_IO,
  KVM_RUN_MMIO,
  KVM_RUN_STATE,
  kvmExitName,
} from "./abi.ts";
import { describeRegisters, instructionBytes } from "./registers-text.ts";
import { loadCpuState, saveCpuState } from "./state.ts";
import type { VcpuFile } from "./vcpu-file.ts";

const SLICE: VcpuExit = { kind: "slice" };

/** [kvm api §5, KVM_EXIT_INTERNAL_ERROR] */
const SUBERRORS: Readonly<Record<number, string>> = {
  1: "it cannot emulate an instruction",
  2: "an exception while another was delivered",
  3: "an exit while an event was delivered",
  4: "an exit of the processor that it does not know",
};

export class KvmVcpu implements Vcpu {
  readonly state: { load(state: CpuState): void; save(): CpuState };
  readonly #file: VcpuFile;
  readonly #bus: Bus;
  readonly #memory: GuestMemory;
  readonly #run: DataView;
  #leaving = false;

  constructor(file: VcpuFile, memory: GuestMemory, bus: Bus) {
    this.#file = file;
    this.#memory = memory;
    this.#bus = bus;
    this.#run = file.run;
    this.state = {
      load: (state) => loadCpuState(file, state),
      save: () => saveCpuState(file),
    };
  }

  reset(): void {
    loadCpuState(this.#file, resetState());
  }

  /** The processor sees what devices write. */
  deviceWrote(): void {}

  /** Makes `run` return after the access that is being made. For the thread inside `run`; others kick (kick.ts). */
  leave(): void {
    this.#leaving = true;
  }

  run(): VcpuExit {
    for (;;) {
      const reason = this.#file.enter();
      switch (reason) {
        case undefined:
          // Kicked. What was asked for is looked at after this, so a later kick finds the flag clear and sets it again.
          this.#setImmediateExit(0);
          return SLICE;
        case KVM_EXIT.IO:
          this.#port();
          break;
        case KVM_EXIT.MMIO:
          this.#mmio();
          break;
        case KVM_EXIT.IRQ_WINDOW_OPEN:
        case KVM_EXIT.INTR:
          break;
        case KVM_EXIT.SHUTDOWN:
          return { kind: "shutdown", rip: this.#rip() };
        default:
          return this.#failure(reason);
      }
      if (this.#leaving) {
        this.#leaving = false;
        this.#complete();
        return SLICE;
      }
    }
  }

  /** Lets the kernel finish the access that the last exit was for, without running the guest. [kvm api §5] */
  #complete(): void {
    this.#setImmediateExit(1);
    this.#file.enter();
    this.#setImmediateExit(0);
  }

  #setImmediateExit(value: 0 | 1): void {
    Atomics.store(this.#file.runBytes, KVM_RUN_STATE.offset.immediateExit, value);
  }

  /** IN and OUT, and INS and OUTS as so many accesses to one port. */
  #port(): void {
    const run = this.#run;
    const out = run.getUint8(KVM_RUN_IO.direction) === KVM_EXIT_IO_OUT;
    const size = run.getUint8(KVM_RUN_IO.size) as AccessSize;
    const port = run.getUint16(KVM_RUN_IO.port, true);
    const count = run.getUint32(KVM_RUN_IO.count, true);
    let at = run.getUint32(KVM_RUN_IO.dataOffset, true);
    for (let i = 0; i < count; i++, at += size) {
      if (out) this.#bus.writePort(port, size, this.#get(at, size));
      else this.#set(at, size, this.#bus.readPort(port, size));
    }
  }

  #mmio(): void {
    const run = this.#run;
    const address = run.getUint32(KVM_RUN_MMIO.address + 4, true) * 2 ** 32 + run.getUint32(KVM_RUN_MMIO.address, true);
    const length = run.getUint32(KVM_RUN_MMIO.length, true);
    const write = run.getUint8(KVM_RUN_MMIO.isWrite) !== 0;
    // Eight bytes are two accesses of four; an odd length, which a page's end can leave, is one of bytes.
    const size: AccessSize = length % 4 === 0 ? 4 : length === 2 ? 2 : 1;
    for (let done = 0; done < length; done += size) {
      const at = KVM_RUN_MMIO.data + done;
      if (write) this.#bus.writeMmio(address + done, size, this.#get(at, size));
      else this.#set(at, size, this.#bus.readMmio(address + done, size));
    }
  }

  #get(at: number, size: AccessSize): number {
    if (size === 1) return this.#run.getUint8(at);
    return size === 2 ? this.#run.getUint16(at, true) : this.#run.getUint32(at, true);
  }

  #set(at: number, size: AccessSize, value: number): void {
    if (size === 1) this.#run.setUint8(at, value);
    else if (size === 2) this.#run.setUint16(at, value, true);
    else this.#run.setUint32(at, value, true);
  }

  #rip(): bigint {
    this.#file.readRegs();
    return this.#file.regs.getBigUint64(KVM_REGS.offset.rip, true);
  }

  /** An exit that no guest should cause: what KVM says, the instruction's bytes, and the registers. */
  #failure(reason: number): VcpuExit {
    const state = saveCpuState(this.#file);
    const bytes = instructionBytes(this.#file, this.#memory, state);
    return {
      kind: "internal-error",
      message: `KVM stopped the processor: ${this.#cause(reason)}; instruction ${bytes}`,
      rip: state.rip,
      details: describeRegisters(state),
    };
  }

  #cause(reason: number): string {
    const run = this.#run;
    const hexadecimal = (at: number) => `0x${run.getBigUint64(at, true).toString(16)}`;
    switch (reason) {
      case KVM_EXIT.INTERNAL_ERROR: {
        const suberror = run.getUint32(KVM_RUN_INTERNAL.suberror, true);
        return `internal error ${suberror}, ${SUBERRORS[suberror] ?? "of which it says no more"}`;
      }
      case KVM_EXIT.FAIL_ENTRY:
        return `the processor refused the guest's state, hardware reason ${hexadecimal(KVM_RUN_FAIL_ENTRY.reason)}`;
      case KVM_EXIT.UNKNOWN:
        return `unknown exit, hardware reason ${hexadecimal(KVM_RUN_HARDWARE_REASON)}`;
      default:
        return `exit ${kvmExitName(reason)}, which isola did not ask for`;
    }
  }
}
