/**
 * A KVM machine's clocks, and its in-kernel devices as saved state. Every clock that a guest can read follows the VM's
 * own: kvmclock is its time, the time-stamp counter that time at its frequency plus IA32_TSC_ADJUST.
 * [kvm api §4.18, §4.26, §4.29-4.32, §4.38, §4.57]
 */

import { KVM_IRQCHIP, KVM_MP_STATE, KVM_SREGS, KVM_VCPU_EVENTS, KVM_VCPUEVENT_VALID } from "../cpu/kvm/abi.ts";
import { KvmInterrupts } from "../cpu/kvm/kvm-interrupts.ts";
import { loadCpuState } from "../cpu/kvm/state.ts";
import type { VcpuFile } from "../cpu/kvm/vcpu-file.ts";
import { IA32_TIME_STAMP_COUNTER, IA32_TSC_ADJUST, IA32_TSC_DEADLINE } from "../isa/msrs.ts";
import { IsolaError } from "../base/errors.ts";
import type { SavedBoard } from "../machine/board.ts";
import type { OutsideMachine, OutsideParts } from "../machine/outside-machine.ts";
import type { Sys } from "../sys/sys.ts";
import {
  ioapicFromKvm,
  ioapicToKvm,
  picFromKvm,
  picToKvm,
  pitFromKvm,
  pitToKvm,
  SavedInterrupts,
} from "./kvm-saved-interrupts.ts";
import { type GuestTime, lapicFromKvm, type LapicSurroundings, lapicToKvm } from "./kvm-saved-lapic.ts";

/** KVM takes a counter's new value for a correction, and ignores it, where it lies within a second of the old one. */
const FAR_TICKS = 2n ** 50n;

/** A counter that was set is read again well within this. */
const CLOCK_SLACK_NS = 30e9;

export class KvmMachine extends KvmInterrupts implements OutsideMachine {
  readonly #vcpus: readonly VcpuFile[];
  readonly #tscHz: number;
  /** IA32_TSC_DEADLINE of each processor that stands still, as its guest reads it; 0: none is set. */
  readonly #deadlines: bigint[];
  /** Whether guests have a time-stamp counter of their own; known after the first `startClock`. */
  hasClock = true;

  constructor(sys: Sys, vm: number, vcpus: readonly VcpuFile[], tscHz: number) {
    super(sys, vm);
    this.#vcpus = vcpus;
    this.#tscHz = tscHz;
    this.#deadlines = vcpus.map(() => 0n);
  }

  stopClock(): number {
    let latest = Number(this.clock);
    for (const [cpu, vcpu] of this.#vcpus.entries()) {
      if (this.hasClock) latest = Math.max(latest, this.#timeOf(vcpu));
      this.#deadlines[cpu] = readMsr(vcpu, IA32_TSC_DEADLINE);
    }
    return Math.min(latest, Number.MAX_SAFE_INTEGER);
  }

  startClock(now: number): void {
    this.clock = BigInt(Math.round(now));
    const ticks = BigInt(Math.floor(now * (this.#tscHz / 1e9)));
    for (const [cpu, vcpu] of this.#vcpus.entries()) {
      const value = BigInt.asUintN(64, ticks + adjustmentOf(vcpu));
      // The first one's value is a new beginning; KVM brings the others, so near to it, into step with it.
      if (cpu === 0) vcpu.writeMsrs([[IA32_TIME_STAMP_COUNTER, BigInt.asUintN(64, value + FAR_TICKS)]]);
      vcpu.writeMsrs([[IA32_TIME_STAMP_COUNTER, value]]);
      const deadline = this.#deadlines[cpu] ?? 0n;
      if (deadline !== 0n) vcpu.writeMsrs([[IA32_TSC_DEADLINE, deadline]]);
      this.#deadlines[cpu] = 0n;
    }
    const [first] = this.#vcpus;
    this.hasClock = first !== undefined && Math.abs(this.#timeOf(first) - now) < CLOCK_SLACK_NS;
  }

  /** Some hosts' KVM has no counter for each guest; what goes on elsewhere would see its time jump. */
  #requireClock(action: string): void {
    if (this.hasClock) return;
    throw new IsolaError({
      code: "save-unsupported",
      message: `${action} the VM: this host's KVM gives guests its own time-stamp counter, which cannot be set; use --engine wasm`,
    });
  }

  /** A processor's counter as guest ns. */
  #timeOf(vcpu: VcpuFile): number {
    const ticks = BigInt.asIntN(64, readMsr(vcpu, IA32_TIME_STAMP_COUNTER) - adjustmentOf(vcpu));
    return Math.ceil(Number(ticks) * (1e9 / this.#tscHz));
  }

  save(now: number, levels: number): SavedBoard {
    this.#requireClock("saving");
    return this.saveChips(now, levels);
  }

  /** As `save`, on any KVM. */
  saveChips(now: number, levels: number): SavedBoard {
    const saved = this.#blank();
    picFromKvm(saved, 0, this.readChip(KVM_IRQCHIP.PIC_MASTER), levels);
    picFromKvm(saved, 1, this.readChip(KVM_IRQCHIP.PIC_SLAVE), levels);
    ioapicFromKvm(saved, this.readChip(KVM_IRQCHIP.IOAPIC), levels);
    pitFromKvm(saved, this.readTimer(), now, process.hrtime.bigint());
    for (const [cpu, vcpu] of this.#vcpus.entries()) {
      const { state } = saved.lapics[cpu]?.context ?? {};
      if (state === undefined) continue;
      const { mpState } = vcpu;
      vcpu.readSregs();
      vcpu.readEvents();
      const around: LapicSurroundings = {
        base: vcpu.sregs.getBigUint64(KVM_SREGS.offset.apicBase, true),
        deadline: this.#deadlines[cpu] ?? 0n,
        nmiPending: vcpu.events.getUint8(KVM_VCPU_EVENTS.offset.nmiPending) !== 0,
        initPending: mpState === KVM_MP_STATE.INIT_RECEIVED,
      };
      lapicFromKvm(state, vcpu.readLapic(), around, this.#time(vcpu, now));
    }
    return saved.save();
  }

  restore(board: SavedBoard): OutsideParts {
    const saved = this.#blank();
    return {
      others: saved.load(board),
      settle: ({ vcpus, levels, now }) => {
        this.startClock(now);
        this.#requireClock("restoring");
        for (const [cpu, vcpu] of this.#vcpus.entries()) {
          const [state, apic] = [vcpus[cpu], saved.lapics[cpu]?.context.state];
          if (state === undefined || apic === undefined) continue;
          // The base says in which mode the APIC's registers are to be taken, so it comes before all of them.
          vcpu.readSregs();
          const base = BigInt(apic.baseAddress) | BigInt(apic.baseFlags);
          vcpu.sregs.setBigUint64(KVM_SREGS.offset.apicBase, base, true);
          vcpu.writeSregs();
          loadCpuState(vcpu, state);
        }
        this.loadChips(saved, levels, now);
      },
    };
  }

  /** Controllers, local APICs and timer; the lines of `levels` are those of the board already. */
  loadChips(saved: SavedInterrupts, levels: number, now: number): void {
    // The slave first: what it asks for now would be taken up by a master that is complete.
    for (const [chip, kind] of [[1, KVM_IRQCHIP.PIC_SLAVE] as const, [0, KVM_IRQCHIP.PIC_MASTER] as const]) {
      const state = this.readChip(kind);
      picToKvm(saved, chip, state, levels);
      this.writeChip(kind, state);
    }
    for (const [cpu, vcpu] of this.#vcpus.entries()) {
      const apic = saved.lapics[cpu]?.context.state;
      if (apic === undefined) continue;
      const registers = vcpu.readLapic();
      const around = lapicToKvm(apic, registers, this.#time(vcpu, now));
      vcpu.writeLapic(registers);
      this.#deadlines[cpu] = around.deadline;
      settleSurroundings(vcpu, around);
    }
    // Last, since lines that are high go on to the local APICs.
    const state = this.readChip(KVM_IRQCHIP.IOAPIC);
    ioapicToKvm(saved, state, levels);
    this.writeChip(KVM_IRQCHIP.IOAPIC, state);
    const timer = this.readTimer();
    pitToKvm(saved, timer);
    this.writeTimer(timer);
  }

  #time(vcpu: VcpuFile, now: number): GuestTime {
    return { now, tscHz: this.#tscHz, adjustment: adjustmentOf(vcpu) };
  }

  #blank(): SavedInterrupts {
    return new SavedInterrupts(this.#vcpus.length, { now: () => 0, tscHz: this.#tscHz, bootTime: 0n });
  }
}

/** Zero where this KVM, or the processor's model, lacks it. */
const readMsr = (vcpu: VcpuFile, index: number): bigint => vcpu.readMsrs([index])[0] ?? 0n;
const adjustmentOf = (vcpu: VcpuFile): bigint => readMsr(vcpu, IA32_TSC_ADJUST);

function settleSurroundings(vcpu: VcpuFile, { nmiPending, initPending }: LapicSurroundings): void {
  if (initPending) vcpu.mpState = KVM_MP_STATE.INIT_RECEIVED;
  if (!nmiPending) return;
  vcpu.readEvents();
  vcpu.events.setUint8(KVM_VCPU_EVENTS.offset.nmiPending, 1);
  const flags = KVM_VCPUEVENT_VALID.SHADOW | KVM_VCPUEVENT_VALID.NMI_PENDING;
  vcpu.events.setUint32(KVM_VCPU_EVENTS.offset.flags, flags, true);
  vcpu.writeEvents();
}
