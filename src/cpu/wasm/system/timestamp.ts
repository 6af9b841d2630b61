/**
 * The time-stamp counter and KVM's paravirtual clock over it. [SDM 3 §18.17; Linux Documentation/virt/kvm/x86/msr.rst]
 *
 * The counter is now() * tscHz / 1e9 plus an offset that software sets (IA32_TSC_ADJUST holds it). Since that relation
 * is fixed, a guest's clock page is written when it is asked for and when the offset or the clock changes; the STABLE
 * flag tells the guest that all processors agree.
 */

import { STATE } from "../../../isa/state.ts";
import { MSR_KVM_SYSTEM_TIME_NEW, MSRS } from "../../../isa/msrs.ts";
import type { EngineHost } from "../engine-host.ts";
import type { StateView } from "../state-view.ts";
import type { SystemParts } from "./parts.ts";

const TWO_32 = 2 ** 32;
/** struct pvclock_vcpu_time_info: version u32, pad, tsc_timestamp u64, system_time u64, mul u32, shift s8, flags u8. */
const PVCLOCK_BYTES = 32;
const PVCLOCK_TSC_STABLE = 1;
/** struct pvclock_wall_clock: version, sec, nsec, u32 each. */
const WALL_CLOCK_BYTES = 12;
const SYSTEM_TIME_ENABLE = 1n;

/** How nanoseconds follow from ticks: ((ticks << shift) * mul) >> 32, a negative shift to the right; mul in
 * [2^31, 2^32). */
export function timeScale(tscHz: number): { mul: number; shift: number } {
  let ratio = 1e9 / tscHz;
  let shift = 0;
  while (ratio >= 1) {
    ratio /= 2;
    shift++;
  }
  while (ratio < 0.5) {
    ratio *= 2;
    shift--;
  }
  return { mul: Math.min(Math.round(ratio * TWO_32), TWO_32 - 1), shift };
}

export class Timestamp {
  readonly #host: EngineHost;
  readonly #view: StateView;
  readonly #ratio: number;
  readonly #systemTimeSlot: number;

  constructor({ host, view }: SystemParts) {
    this.#host = host;
    this.#view = view;
    this.#ratio = host.clock.tscHz / 1e9;
    this.#systemTimeSlot = MSRS.get(MSR_KVM_SYSTEM_TIME_NEW)?.slot ?? 0;
  }

  /** Ticks since power-on, without the guest's offset; a whole number. */
  #ticks(now: number): number {
    return Math.floor(now * this.#ratio);
  }
  /** The counter as the guest reads it. */
  read(): bigint {
    return BigInt.asUintN(64, BigInt(this.#ticks(this.#host.clock.now())) + this.#view.long(STATE.tscOffset));
  }
  /** WRMSR to the counter: the adjustment changes by as much. [SDM 3 §18.17.3] */
  write(value: bigint): void {
    this.adjustment = value - BigInt(this.#ticks(this.#host.clock.now()));
  }
  get adjustment(): bigint {
    return this.#view.long(STATE.tscOffset);
  }
  set adjustment(value: bigint) {
    this.#view.setLong(STATE.tscOffset, BigInt.asUintN(64, value));
    this.publish();
  }

  /** A deadline in the guest's ticks as one without the offset, and back; 0 stays 0, the disarmed timer. */
  deadlineFromGuest(value: bigint): bigint {
    return value === 0n ? 0n : BigInt.asUintN(64, value - this.adjustment);
  }
  deadlineToGuest(value: bigint): bigint {
    return value === 0n ? 0n : BigInt.asUintN(64, value + this.adjustment);
  }

  /** Sets the guest's clock page (bit 0: enabled; the address above it) and fills it. */
  setSystemTime(value: bigint): void {
    this.#view.setMsrSlot(this.#systemTimeSlot, value);
    this.publish();
  }

  /** Writes the clock page, where the guest has one. Readers see an odd version while it changes. */
  publish(): void {
    const msr = this.#view.msrSlot(this.#systemTimeSlot);
    if ((msr & SYSTEM_TIME_ENABLE) === 0n) return;
    const page = this.#physical(msr & ~SYSTEM_TIME_ENABLE, PVCLOCK_BYTES);
    if (page === undefined) return;
    const { clock } = this.#host;
    const version = page.getUint32(0, true);
    const next = (version | 1) + 1;
    const now = clock.now();
    const { mul, shift } = timeScale(clock.tscHz);
    page.setUint32(0, version | 1, true);
    page.setUint32(4, 0, true);
    page.setBigUint64(8, BigInt.asUintN(64, BigInt(this.#ticks(now)) + this.adjustment), true);
    page.setBigUint64(16, BigInt(now), true);
    page.setUint32(24, mul, true);
    page.setInt8(28, shift);
    page.setUint8(29, PVCLOCK_TSC_STABLE);
    page.setUint32(0, next >>> 0, true);
  }

  /** MSR_KVM_WALL_CLOCK: writes the time of day at power-on to the address. */
  writeWallClock(address: bigint): void {
    const page = this.#physical(address, WALL_CLOCK_BYTES);
    if (page === undefined) return;
    const { bootTime } = this.#host.clock;
    const version = page.getUint32(0, true);
    page.setUint32(0, version | 1, true);
    page.setUint32(4, Number(BigInt.asUintN(32, bootTime / 1_000_000_000n)), true);
    page.setUint32(8, Number(bootTime % 1_000_000_000n), true);
    page.setUint32(0, ((version | 1) + 1) >>> 0, true);
  }

  /** RAM at a guest-physical address, or undefined where it is not all RAM: the guest's own mistake. */
  #physical(address: bigint, bytes: number): DataView | undefined {
    if (address >= 1n << 40n) return undefined;
    const { memory } = this.#host;
    const offset = memory.offsetOf(Number(address), bytes);
    return offset < 0 ? undefined : new DataView(memory.memory.buffer, offset, bytes);
  }
}
