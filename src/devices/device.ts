/**
 * The one shape of a device: declared ranges, declared state, handlers, and a port for what its surroundings provide.
 *
 * A device sees {state, irq, port, clock} and never the VM. Its handlers are synchronous and are entered by one thread
 * at a time (the board's lock). Offsets count through a device's ranges in their order: with ranges pio(0x20, 2) and
 * pio(0xa0, 2), port 0xa1 is offset 3.
 */

import { IsolaError } from "../base/errors.ts";
import type { AccessSize, GuestClock } from "../cpu/vcpu.ts";
import { type SavedFields, type StateArena, StateBlock, type StateOf, type StateSpec } from "./state.ts";

export interface Range {
  readonly space: "pio" | "mmio";
  /** First port, or guest-physical address. */
  readonly start: number;
  /** Ports, or bytes. */
  readonly size: number;
}

export const pio = (port: number, count: number): Range => ({ space: "pio", start: port, size: count });
export const mmio = (address: number, sizeBytes: number): Range => ({ space: "mmio", start: address, size: sizeBytes });

/** A wire to the interrupt controllers. Raising a raised line does nothing. */
export interface IrqLine {
  raise(): void;
  lower(): void;
  /** A rising edge, then low again: for inputs that are edge-triggered and latched. */
  pulse(): void;
}

/** For devices without an interrupt. */
export const NO_IRQ: IrqLine = { raise() {}, lower() {}, pulse() {} };

export interface DeviceContext<S extends StateSpec, Port> {
  readonly state: StateOf<S>;
  readonly irq: IrqLine;
  readonly port: Port;
  readonly clock: GuestClock;
}

/** Access sizes that a device's handlers take, in bytes. The framework makes all others out of these. */
export interface Widths {
  readonly min: AccessSize;
  readonly max: AccessSize;
}
const BYTE_WIDE: Widths = { min: 1, max: 1 };

export interface DeviceSpec<S extends StateSpec, Port> {
  readonly name: string;
  /** Of the saved state: raise it with every change of `state`, and add a migration. */
  readonly version: number;
  readonly ranges: readonly Range[];
  /** Byte-wide by default, as on an ISA bus. */
  readonly widths?: Widths;
  readonly state: S;
  /** `migrations[n]` turns saved fields of version n into version n + 1. */
  readonly migrations?: Readonly<Record<number, (saved: SavedFields) => SavedFields>>;
  /** Power-on state; every field is zero before. */
  reset?(context: DeviceContext<S, Port>): void;
  /** Result: an unsigned number of `size` bytes; higher bits are cut off by the framework. */
  read(context: DeviceContext<S, Port>, offset: number, size: AccessSize): number;
  write(context: DeviceContext<S, Port>, offset: number, size: AccessSize, value: number): void;
  /** Guest ns of the next timer event; Infinity if none. */
  deadline?(context: DeviceContext<S, Port>): number;
  /** Called at or after the deadline. */
  expire?(context: DeviceContext<S, Port>, now: number): void;
}

export interface SavedDevice {
  readonly version: number;
  readonly fields: SavedFields;
}

/** What a device is given where it is instantiated. */
export interface Wiring<Port> {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  readonly port: Port;
  readonly irq?: IrqLine;
  /** Overrides the name, where a device exists more than once. */
  readonly name?: string;
  /** Overrides the ranges, likewise. */
  readonly ranges?: readonly Range[];
}

/** What buses, boards and tests see of a device. */
export interface Device {
  readonly name: string;
  readonly ranges: readonly Range[];
  read(offset: number, size: AccessSize): number;
  write(offset: number, size: AccessSize, value: number): void;
  reset(): void;
  deadline(): number;
  expire(now: number): void;
  save(): SavedDevice;
  load(saved: SavedDevice): void;
}

export interface Instance<S extends StateSpec, Port> extends Device {
  readonly context: DeviceContext<S, Port>;
}

export interface DeviceDefinition<S extends StateSpec, Port> extends DeviceSpec<S, Port> {
  instantiate(wiring: Wiring<Port>): Instance<S, Port>;
}

export const defineDevice =
  <Port>() =>
  <const S extends StateSpec>(spec: DeviceSpec<S, Port>): DeviceDefinition<S, Port> => ({
    ...spec,
    instantiate: (wiring) => new DeviceInstance(spec, wiring),
  });

const MASK: Record<AccessSize, number> = { 1: 0xff, 2: 0xffff, 4: 0xffffffff };

class DeviceInstance<S extends StateSpec, Port> implements Instance<S, Port> {
  readonly name: string;
  readonly ranges: readonly Range[];
  readonly context: DeviceContext<S, Port>;
  readonly #spec: DeviceSpec<S, Port>;
  readonly #block: StateBlock<S>;
  readonly #min: AccessSize;
  readonly #max: AccessSize;

  constructor(spec: DeviceSpec<S, Port>, wiring: Wiring<Port>) {
    this.#spec = spec;
    this.name = wiring.name ?? spec.name;
    this.ranges = wiring.ranges ?? spec.ranges;
    this.#block = new StateBlock(spec.state, wiring.arena);
    this.context = {
      state: this.#block.fields,
      irq: wiring.irq ?? NO_IRQ,
      port: wiring.port,
      clock: wiring.clock,
    };
    const widths = spec.widths ?? BYTE_WIDE;
    this.#min = widths.min;
    this.#max = widths.max;
  }

  read(offset: number, size: AccessSize): number {
    const natural = offset % size === 0;
    if (natural && size >= this.#min && size <= this.#max) {
      return (this.#spec.read(this.context, offset, size) & MASK[size]) >>> 0;
    }
    // Every other access is gathered from pieces: the widest the device takes if larger, bytes of the narrowest if not.
    const piece = natural && size > this.#max ? this.#max : 1;
    let value = 0;
    for (let done = 0; done < size; done += piece) value |= this.#readPiece(offset + done, piece) << (8 * done);
    return value >>> 0;
  }

  #readPiece(offset: number, size: AccessSize): number {
    const min = this.#min;
    if (size >= min) return this.#spec.read(this.context, offset, size) & MASK[size];
    const within = offset % min;
    return (this.#spec.read(this.context, offset - within, min) >>> (8 * within)) & MASK[size];
  }

  write(offset: number, size: AccessSize, value: number): void {
    const natural = offset % size === 0;
    if (natural && size >= this.#min && size <= this.#max) {
      this.#spec.write(this.context, offset, size, value);
      return;
    }
    const piece = natural && size > this.#max ? this.#max : 1;
    // A write narrower than the device's registers changes nothing: what it would do is undefined for all of them.
    if (piece < this.#min) return;
    for (let done = 0; done < size; done += piece) {
      this.#spec.write(this.context, offset + done, piece, ((value >>> (8 * done)) & MASK[piece]) >>> 0);
    }
  }

  reset(): void {
    this.#block.clear();
    this.#spec.reset?.(this.context);
  }

  deadline(): number {
    return this.#spec.deadline === undefined ? Infinity : this.#spec.deadline(this.context);
  }

  expire(now: number): void {
    this.#spec.expire?.(this.context, now);
  }

  save(): SavedDevice {
    return { version: this.#spec.version, fields: this.#block.save() };
  }

  /** Throws `state-version` or `state-invalid`, and then has changed nothing. */
  load(saved: SavedDevice): void {
    const { version, migrations } = this.#spec;
    let { fields } = saved;
    for (let from = saved.version; from !== version; from++) {
      const migrate = from < version ? migrations?.[from] : undefined;
      if (migrate === undefined) {
        throw new IsolaError({
          code: "state-version",
          message: `loading the state of ${this.name}: version ${saved.version} found, ${version} wanted; use the isola that saved it`,
        });
      }
      fields = migrate(fields);
    }
    if (typeof fields !== "object" || fields === null) {
      throw new IsolaError({
        code: "state-invalid",
        message: `loading the state of ${this.name}: no fields found, wanted an object of them; the saved state is damaged`,
      });
    }
    this.#block.load(this.name, fields);
  }
}
