/**
 * Interrupt controllers that are not the board's own: an engine may have them, with the interval timer, beside its
 * processors. The board then keeps its wires, and tells the engine what changes on them.
 */

import type { GuestClock } from "../../cpu/vcpu.ts";
import type { Device, IrqLine } from "../device.ts";
import type { StateArena } from "../state.ts";
import type { Interrupts } from "./fabric.ts";
import { IOAPIC_PINS } from "./ioapic.ts";
import { gsiOfIsa, InterruptWires } from "./wires.ts";

/**
 * The engine's side: 8259 pair, I/O APIC, local APICs and 8254. Called on whichever thread entered a device, with the
 * board's lock held; never calls back.
 */
export interface OutsideInterrupts {
  /** The level of a GSI's line has changed; GSIs are numbered as in wires.ts. */
  setLine(gsi: number, level: boolean): void;
  /** A device's write to 0xfeexxxxx. [SDM 3 §11.11] */
  sendMsi(address: number, data: number): void;
  /** Whether the HPET drives the line of the interval timer in its stead. */
  replaceTimer(replaced: boolean): void;
}

export interface OutsideFabricOptions {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  readonly outside: OutsideInterrupts;
}

export class OutsideFabric implements Interrupts {
  readonly processors = [];
  readonly onBus = [];
  readonly #wires: InterruptWires;
  readonly #outside: OutsideInterrupts;

  constructor({ arena, clock, outside }: OutsideFabricOptions) {
    this.#outside = outside;
    this.#wires = new InterruptWires({ arena, clock, changed: (gsi, level) => outside.setLine(gsi, level) });
  }

  get devices(): readonly Device[] {
    return [this.#wires.device];
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

  sendMsi(address: number, data: number): void {
    this.#outside.sendMsi(address, data);
  }

  /** After a reset or loading state: the engine hears of every line as it now is. */
  refreshAll(): void {
    for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) this.#outside.setLine(gsi, this.#wires.asserted(gsi));
  }
}
