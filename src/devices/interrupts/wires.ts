/**
 * The wires between interrupt sources and whatever has the interrupt controllers' inputs. Lines are global system
 * interrupts (GSI), I/O APIC pins 0 to 23; ISA interrupt n is GSI n, but for ISA 0, which is GSI 2 as on every PC.
 */

import type { GuestClock } from "../../cpu/vcpu.ts";
import { defineDevice, type Device, type IrqLine } from "../device.ts";
import { type StateArena, u32s } from "../state.ts";
import { IOAPIC_PINS } from "./ioapic.ts";

/** Which sources assert each line: lines are wired-OR, and a source is one bit. */
const wires = defineDevice<null>()({
  name: "interrupt-wires",
  version: 1,
  ranges: [],
  state: { asserted: u32s(IOAPIC_PINS) },
  read: () => 0,
  write() {},
});

export const ISA_TIMER_GSI = 2;

/** GSI of an ISA interrupt. */
export const gsiOfIsa = (irq: number): number => (irq === 0 ? ISA_TIMER_GSI : irq);

/** ISA interrupt of a GSI, -1 if none. */
export const isaOfGsi = (gsi: number): number => {
  if (gsi === ISA_TIMER_GSI) return 0;
  return gsi === 0 || gsi > 15 ? -1 : gsi;
};

export interface WiresOptions {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  /** A line's level has changed. */
  changed(gsi: number, level: boolean): void;
}

export class InterruptWires {
  readonly #wires;
  readonly #sources = new Array<number>(IOAPIC_PINS).fill(0);
  readonly #changed: (gsi: number, level: boolean) => void;

  constructor({ arena, clock, changed }: WiresOptions) {
    this.#wires = wires.instantiate({ arena, clock, port: null });
    this.#changed = changed;
  }

  get device(): Device {
    return this.#wires;
  }

  /** A new source on a GSI's line. */
  line(gsi: number): IrqLine {
    const source = this.#sources[gsi] ?? 0;
    this.#sources[gsi] = source + 1;
    const bit = 1 << source;
    const raise = (): void => this.#setSource(gsi, bit, true);
    const lower = (): void => this.#setSource(gsi, bit, false);
    return {
      raise,
      lower,
      pulse() {
        raise();
        lower();
      },
    };
  }

  /** Whether any source asserts a GSI's line. */
  asserted(gsi: number): boolean {
    return (this.#wires.context.state.asserted[gsi] ?? 0) !== 0;
  }

  /** Levels of all lines, a bit each. */
  get levels(): number {
    let levels = 0;
    for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) if (this.asserted(gsi)) levels |= 1 << gsi;
    return levels;
  }

  #setSource(gsi: number, bit: number, level: boolean): void {
    const { asserted } = this.#wires.context.state;
    const before = asserted[gsi] ?? 0;
    const after = level ? before | bit : before & ~bit;
    if (before === after) return;
    asserted[gsi] = after;
    if ((before !== 0) !== (after !== 0)) this.#changed(gsi, level);
  }
}
