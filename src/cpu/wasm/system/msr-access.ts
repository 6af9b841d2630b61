/** RDMSR and WRMSR: the table of isa/msrs.ts, and the registers that do more than keep a value. [SDM 2 RDMSR, WRMSR] */

import {
  areMemoryTypes,
  IA32_APIC_BASE,
  IA32_EFER,
  IA32_FS_BASE,
  IA32_PAT,
  IA32_TSC_DEADLINE,
  isCanonical,
  type Msr,
  MSRS,
  X2APIC_FIRST,
  X2APIC_LAST,
} from "../../../isa/msrs.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { type EngineHost, GuestFault } from "../engine-host.ts";
import { FS, GS, type StateView } from "../state-view.ts";
import type { ControlRegisters } from "./control-registers.ts";
import type { SystemParts } from "./parts.ts";
import type { Timestamp } from "./timestamp.ts";

/** IA32_APIC_BASE.EXTD: reserved without x2APIC. */
const APIC_BASE_X2APIC = 1n << 10n;
/** Unknown registers that are remembered by index; a hostile guest may try them all. */
const REMEMBERED = 256;

export class MsrAccess {
  readonly #host: EngineHost;
  readonly #view: StateView;
  readonly #control: ControlRegisters;
  readonly #timestamp: Timestamp;
  /** How often the guest asked for registers that are not there, by index, for tracing. */
  readonly unknown = new Map<number, number>();

  constructor({ host, view }: SystemParts, control: ControlRegisters, timestamp: Timestamp) {
    this.#host = host;
    this.#view = view;
    this.#control = control;
    this.#timestamp = timestamp;
  }

  #refuse(index: number): never {
    const seen = this.unknown.get(index);
    if (seen !== undefined || this.unknown.size < REMEMBERED) this.unknown.set(index, (seen ?? 0) + 1);
    throw new GuestFault(EXCEPTION.GP, 0);
  }

  /** The register of this index, unless it belongs to a feature that the processor lacks. */
  #find(index: number): Msr | undefined {
    const msr = MSRS.get(index);
    if (msr?.feature !== undefined && !this.#host.features.has(msr.feature)) this.#refuse(index);
    return msr;
  }

  /** Whether the interrupt controller keeps the register. */
  #isInterrupts(index: number, msr: Msr | undefined): boolean {
    return msr?.special === "interrupts" || (index >= X2APIC_FIRST && index <= X2APIC_LAST);
  }

  /** The value, unsigned; #GP(0) for an unknown register. */
  read(ecx: number): bigint {
    const index = ecx >>> 0;
    const msr = this.#find(index);
    if (this.#isInterrupts(index, msr)) {
      const value = this.#host.interrupts.readMsr(index);
      if (value === undefined) this.#refuse(index);
      return index === IA32_TSC_DEADLINE ? this.#timestamp.deadlineToGuest(value) : value;
    }
    if (msr === undefined) this.#refuse(index);
    switch (msr.special) {
      case "timestamp":
        return this.#timestamp.read();
      case "timestamp-adjust":
        return this.#timestamp.adjustment;
      case "segment-base":
        return this.#view.base(index === IA32_FS_BASE ? FS : GS);
      default:
        return msr.field === undefined ? this.#view.msrSlot(msr.slot) : this.#view.long(msr.field);
    }
  }

  write(ecx: number, signed: bigint): void {
    const index = ecx >>> 0;
    const value = BigInt.asUintN(64, signed);
    const msr = this.#find(index);
    if (this.#isInterrupts(index, msr)) {
      const extended = index === IA32_APIC_BASE && (value & APIC_BASE_X2APIC) !== 0n;
      if (extended && !this.#host.features.has("x2apic")) this.#refuse(index);
      const given = index === IA32_TSC_DEADLINE ? this.#timestamp.deadlineFromGuest(value) : value;
      if (!this.#host.interrupts.writeMsr(index, given)) this.#refuse(index);
      return;
    }
    if (msr === undefined) this.#refuse(index);
    this.#check(msr, value);
    switch (msr.special) {
      case "efer":
        this.#control.writeEfer(value);
        break;
      case "timestamp":
        this.#moveTime(() => this.#timestamp.write(value));
        break;
      case "timestamp-adjust":
        this.#moveTime(() => {
          this.#timestamp.adjustment = value;
        });
        break;
      case "segment-base":
        this.#view.setBase(index === IA32_FS_BASE ? FS : GS, value);
        break;
      case "system-time":
        this.#timestamp.setSystemTime(value);
        break;
      case "wall-clock":
        this.#view.setMsrSlot(msr.slot, value);
        this.#timestamp.writeWallClock(value);
        break;
      default:
        this.#store(msr, value);
    }
  }

  /** #GP(0) on values that the register does not take. */
  #check({ index, check, writable, lenient }: Msr, value: bigint): void {
    if (index === IA32_EFER) return;
    const canonical = check !== "canonical" || isCanonical(value);
    const types = check !== "memory-types" || areMemoryTypes(value, index === IA32_PAT ? 7n : 6n);
    // A register without a writable bit is read-only: even its own value is refused.
    const reserved = !lenient && ((value & ~writable) !== 0n || writable === 0n);
    if (!canonical || !types || reserved) throw new GuestFault(EXCEPTION.GP, 0);
  }

  #store({ field, slot, writable, lenient }: Msr, value: bigint): void {
    const before = field === undefined ? this.#view.msrSlot(slot) : this.#view.long(field);
    const next = lenient ? (before & ~writable) | (value & writable) : value;
    if (field === undefined) this.#view.setMsrSlot(slot, next);
    else this.#view.setLong(field, next);
  }

  /** Moves the guest's counter; an armed deadline stays at its value in the guest's ticks. */
  #moveTime(move: () => void): void {
    const armed = this.#host.interrupts.readMsr(IA32_TSC_DEADLINE) ?? 0n;
    const deadline = this.#timestamp.deadlineToGuest(armed);
    move();
    if (armed !== 0n) this.#host.interrupts.writeMsr(IA32_TSC_DEADLINE, this.#timestamp.deadlineFromGuest(deadline));
  }
}
