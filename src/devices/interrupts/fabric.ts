/**
 * The wires between devices, the 8259 pair, the I/O APIC and the local APICs.
 *
 * Lines are global system interrupts (GSI): I/O APIC pins 0 to 23. ISA interrupt n is GSI n, but for ISA 0, which is
 * GSI 2 as on every PC; GSIs of ISA interrupts reach the 8259 pair as well. The 8259's output goes to the first
 * processor: through LINT0, or through pin 0 of the I/O APIC where that is set to ExtINT.
 */

import type { GuestClock, InterruptController } from "../../cpu/vcpu.ts";
import type { Device, IrqLine } from "../device.ts";
import type { SharedLock } from "../lock.ts";
import type { StateArena } from "../state.ts";
import { endOfInterrupt, extIntEnabled, ioapic, setIoapicPin } from "./ioapic.ts";
import {
  acceptsExtInt,
  acknowledgeLapic,
  inX2apicMode,
  lapic,
  LAPIC_BYTES,
  matchesDestination,
  mmioPage,
  pendingVector,
  processorPriority,
  readLapicMsr,
  receive,
  writeLapicMsr,
} from "./lapic.ts";
import { DELIVERY_INIT, DELIVERY_LOWEST } from "./messages.ts";
import { acknowledgePic, pic, picRequests, setPicLine } from "./pic.ts";
import { gsiOfIsa, InterruptWires, isaOfGsi } from "./wires.ts";

/** Bits of a processor's summary of what waits. */
const MASKABLE = 1;
const NON_MASKABLE = 2;
/** What the board and its devices see of the interrupt controllers, whoever has them. */
export interface Interrupts {
  /** A new source on a GSI's line. */
  line(gsi: number): IrqLine;
  /** A new source on an ISA interrupt's line. */
  isaLine(irq: number): IrqLine;
  /** A device's write to 0xfeexxxxx. [SDM 3 §11.11] */
  sendMsi(address: number, data: number): void;
  /** All that holds state, in the order of the buffer. Local APICs are not on the shared bus. */
  readonly devices: readonly Device[];
  /** Those of them that are. */
  readonly onBus: readonly Device[];
  /** By processor; empty where the engine has the controllers. */
  readonly processors: readonly ProcessorInterrupts[];
  /** Levels of the GSIs' lines, a bit each. */
  readonly levels: number;
  /** After a reset or loading state. */
  refreshAll(): void;
}

export interface FabricOptions {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  readonly vcpus: number;
  readonly lock: SharedLock;
  /** Wakes a processor that sleeps. */
  wake(): void;
}

export class InterruptFabric implements Interrupts {
  readonly pic;
  readonly ioapic;
  readonly #wires: InterruptWires;
  readonly #lapics;
  /** One word per processor, readable without the lock: 1 while an interrupt is pending. */
  readonly #pending: Int32Array;
  readonly #wake: () => void;
  readonly #lock: SharedLock;
  readonly processors: readonly ProcessorInterrupts[];

  constructor({ arena, clock, vcpus, lock, wake }: FabricOptions) {
    this.#wake = wake;
    this.#lock = lock;
    this.#pending = new Int32Array(arena.buffer, arena.take(4 * vcpus), vcpus);
    this.#wires = new InterruptWires({ arena, clock, changed: (gsi, level) => this.#setLine(gsi, level) });
    this.pic = pic.instantiate({ arena, clock, port: { changed: () => this.#refresh(0) } });
    this.ioapic = ioapic.instantiate({
      arena,
      clock,
      port: { id: vcpus, send: this.send, changed: () => this.#refresh(0) },
    });
    this.#lapics = Array.from({ length: vcpus }, (_, index) =>
      lapic.instantiate({
        arena,
        clock,
        name: `lapic${index}`,
        port: {
          index,
          changed: () => this.#refresh(index),
          command: (low, destination) => this.#command(index, low, destination),
          broadcastEoi: (vector) => endOfInterrupt(this.ioapic.context, vector),
        },
      }),
    );
    this.processors = this.#lapics.map((_, index) => new ProcessorInterrupts(this, index));
  }

  get devices(): readonly Device[] {
    return [this.#wires.device, this.pic, this.ioapic, ...this.#lapics];
  }

  get onBus(): readonly Device[] {
    return [this.pic, this.ioapic];
  }

  get levels(): number {
    return this.#wires.levels;
  }

  line(gsi: number): IrqLine {
    return this.#wires.line(gsi);
  }

  isaLine(irq: number): IrqLine {
    return this.#wires.line(gsiOfIsa(irq));
  }

  #setLine(gsi: number, level: boolean): void {
    const irq = isaOfGsi(gsi);
    if (irq >= 0) setPicLine(this.pic.context, irq, level);
    setIoapicPin(this.ioapic.context, gsi, level);
  }

  sendMsi(address: number, data: number): void {
    this.send((address >>> 12) & 0xff, (address & 4) !== 0, (data >> 8) & 7, data & 0xff, (data & 0x8000) !== 0);
  }

  /** Delivers a message to the processors that it names. */
  readonly send = (destination: number, logical: boolean, mode: number, vector: number, level: boolean): void => {
    if (mode !== DELIVERY_LOWEST) {
      for (const { context } of this.#lapics) {
        if (matchesDestination(context, destination, logical)) receive(context, mode, vector, level);
      }
      return;
    }
    let chosen;
    for (const { context } of this.#lapics) {
      if (!matchesDestination(context, destination, logical)) continue;
      if (chosen === undefined || processorPriority(context) < processorPriority(chosen)) chosen = context;
    }
    if (chosen !== undefined) receive(chosen, mode, vector, level);
  };

  /** An interrupt command. [SDM 3 §11.6.1] */
  #command(from: number, low: number, destination: number): void {
    const mode = (low >> 8) & 7;
    const vector = low & 0xff;
    const level = (low & 0x8000) !== 0;
    // INIT level de-assert only synchronizes arbitration ids, which nothing has had since the Pentium 4.
    if (mode === DELIVERY_INIT && level && (low & 0x4000) === 0) return;
    const shorthand = (low >> 18) & 3;
    if (shorthand === 0) {
      this.send(destination, (low & 0x800) !== 0, mode, vector, false);
      return;
    }
    for (const [index, { context }] of this.#lapics.entries()) {
      const self = index === from;
      if (shorthand === 2 || self === (shorthand === 1)) receive(context, mode, vector, false);
    }
  }

  #extIntPending(processor: number): boolean {
    if (processor !== 0 || !picRequests(this.pic.context)) return false;
    const first = this.#lapics[0];
    return first !== undefined && (acceptsExtInt(first.context) || extIntEnabled(this.ioapic.context));
  }

  #refresh(processor: number): void {
    const own = this.#lapics[processor];
    // While the fabric is being built there is nothing to tell yet.
    if (own === undefined) return;
    const maskable = this.#extIntPending(processor) || pendingVector(own.context) >= 0 ? MASKABLE : 0;
    const { nmiPending, initPending, startupPending } = own.context.state;
    const before = Atomics.exchange(this.#pending, processor, maskable | (nmiPending ? NON_MASKABLE : 0));
    if ((maskable !== 0 && (before & MASKABLE) === 0) || nmiPending || initPending || startupPending) this.#wake();
  }

  /** The summary of what is pending is not part of the state. */
  refreshAll(): void {
    for (let i = 0; i < this.#lapics.length; i++) this.#refresh(i);
  }

  isPending(processor: number): boolean {
    return (Atomics.load(this.#pending, processor) & MASKABLE) !== 0;
  }
  isNmiPending(processor: number): boolean {
    return (Atomics.load(this.#pending, processor) & NON_MASKABLE) !== 0;
  }

  /** Takes a recorded non-maskable interrupt. */
  takeNmi(processor: number): boolean {
    return this.#lock.enter(() => {
      const { state } = this.lapic(processor).context;
      const taken = state.nmiPending;
      state.nmiPending = false;
      this.#refresh(processor);
      return taken;
    });
  }

  acknowledge(processor: number): number {
    return this.#lock.enter(() => {
      const vector = this.#extIntPending(processor)
        ? acknowledgePic(this.pic.context)
        : acknowledgeLapic(this.lapic(processor).context);
      this.#refresh(processor);
      return vector;
    });
  }

  lapic(processor: number): (typeof this.processors)[number]["lapic"] {
    const own = this.#lapics[processor];
    if (own === undefined) throw new RangeError(`processor ${processor} of ${this.#lapics.length}`);
    return own;
  }

  get lock(): SharedLock {
    return this.#lock;
  }
}

type Lapic = ReturnType<typeof lapic.instantiate>;

/** One processor's side of the fabric: its interrupts, and its own window onto its local APIC. */
export class ProcessorInterrupts implements InterruptController {
  readonly lapic: Lapic;
  readonly #fabric: InterruptFabric;
  readonly #index: number;

  constructor(fabric: InterruptFabric, index: number) {
    this.#fabric = fabric;
    this.#index = index;
    this.lapic = fabric.lapic(index);
  }

  pending(): boolean {
    return this.#fabric.isPending(this.#index);
  }

  acknowledge(): number {
    return this.#fabric.acknowledge(this.#index);
  }

  readMsr(index: number): bigint | undefined {
    return this.#fabric.lock.enter(() => readLapicMsr(this.lapic.context, index));
  }

  writeMsr(index: number, value: bigint): boolean {
    return this.#fabric.lock.enter(() => writeLapicMsr(this.lapic.context, index, value));
  }

  get taskPriority(): number {
    return this.lapic.context.state.tpr >> 4;
  }

  set taskPriority(value: number) {
    this.#fabric.lock.enter(() => {
      this.lapic.context.state.tpr = (value & 0xf) << 4;
      this.lapic.context.port.changed();
    });
  }

  /** Whether x2APIC mode is on: MMIO then does not reach the registers. */
  get x2apic(): boolean {
    return inX2apicMode(this.lapic.context);
  }

  /** Offset in the local APIC's window, or -1 where the address lies outside it. */
  offsetOf(address: number): number {
    const page = mmioPage(this.lapic.context);
    const offset = address - page;
    return page >= 0 && offset >= 0 && offset < LAPIC_BYTES ? offset : -1;
  }

  nmiPending(): boolean {
    return this.#fabric.isNmiPending(this.#index);
  }

  /** Takes a recorded non-maskable interrupt. */
  takeNmi(): boolean {
    return this.nmiPending() && this.#fabric.takeNmi(this.#index);
  }

  /** Takes a recorded start-up message: the page of its first instruction, or -1. INIT alone gives -1 and waits. */
  takeStartup(): number {
    const { state } = this.lapic.context;
    if (!state.startupPending) return -1;
    return this.#fabric.lock.enter(() => {
      const waiting = state.initPending;
      state.startupPending = false;
      state.initPending = false;
      return waiting ? state.startupVector : -1;
    });
  }
}
