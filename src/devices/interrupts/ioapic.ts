/**
 * The I/O APIC: 24 inputs, each with a redirection entry. [82093AA data sheet, order 290566; version 0x20 with an EOI
 * register: ICH9 data sheet §13.5]
 *
 * Lines are logical (raised = asserted), so the polarity bit is kept but has no effect, as the board's wires are.
 */

import { defineDevice, type DeviceContext, mmio } from "../device.ts";
import { u32, u32s, u8 } from "../state.ts";
import { DELIVERY_EXTINT, DELIVERY_FIXED, DELIVERY_LOWEST, type SendMessage } from "./messages.ts";

export const IOAPIC_ADDRESS = 0xfec00000;
export const IOAPIC_PINS = 24;
const VERSION = 0x20;

export interface IoapicPort {
  /** Its APIC id after reset: one that no processor has. */
  readonly id: number;
  readonly send: SendMessage;
  /** The ExtINT path through pin 0 may have changed. */
  changed(): void;
}

const REMOTE_IRR = 1 << 14;
const LEVEL = 1 << 15;
const MASKED = 1 << 16;
const LOGICAL = 1 << 11;
const DELIVERY_STATUS = 1 << 12;
const READ_ONLY = REMOTE_IRR | DELIVERY_STATUS;
const LOW_WRITABLE = 0x1ffff & ~READ_ONLY;

const STATE = {
  select: u8,
  id: u8,
  /** Levels of the pins, one bit each. */
  lines: u32,
  low: u32s(IOAPIC_PINS),
  high: u32s(IOAPIC_PINS),
};

type IoapicContext = DeviceContext<typeof STATE, IoapicPort>;

export const ioapic = defineDevice<IoapicPort>()({
  name: "ioapic",
  version: 1,
  ranges: [mmio(IOAPIC_ADDRESS, 0x1000)],
  widths: { min: 4, max: 4 },
  state: STATE,
  reset({ state, port }) {
    state.id = port.id & 0x0f;
    state.low.fill(MASKED);
  },
  read({ state }, offset) {
    if (offset === 0x00) return state.select;
    if (offset !== 0x10) return 0;
    const index = state.select;
    if (index === 0 || index === 2) return state.id << 24;
    if (index === 1) return ((IOAPIC_PINS - 1) << 16) | VERSION;
    const pin = (index - 0x10) >> 1;
    if (index < 0x10 || pin >= IOAPIC_PINS) return 0;
    return ((index & 1) === 0 ? state.low : state.high)[pin] ?? 0;
  },
  write(context, offset, _size, value) {
    const { state } = context;
    if (offset === 0x00) state.select = value;
    else if (offset === 0x10) writeWindow(context, value);
    else if (offset === 0x40) endOfInterrupt(context, value & 0xff);
  },
});

const writeWindow = (context: IoapicContext, value: number): void => {
  const { state, port } = context;
  const index = state.select;
  if (index === 0) state.id = (value >>> 24) & 0x0f;
  const pin = (index - 0x10) >> 1;
  if (index < 0x10 || pin >= IOAPIC_PINS) return;
  if ((index & 1) !== 0) {
    state.high[pin] = value & 0xff000000;
    return;
  }
  const before = state.low[pin] ?? 0;
  let after = (before & READ_ONLY) | (value & LOW_WRITABLE);
  // Remote IRR belongs to level mode: switching to edge clears it, which systems use as an EOI.
  if ((after & LEVEL) === 0) after &= ~REMOTE_IRR;
  state.low[pin] = after;
  if ((after & LEVEL) !== 0) service(context, pin);
  if (pin === 0) port.changed();
};

/** Sends a level-triggered pin's message if it is asserted, unmasked and not in service. */
const service = (context: IoapicContext, pin: number): void => {
  const { state } = context;
  const entry = state.low[pin] ?? 0;
  if ((state.lines & (1 << pin)) === 0 || (entry & (MASKED | REMOTE_IRR)) !== 0) return;
  const mode = (entry >> 8) & 7;
  if (mode === DELIVERY_FIXED || mode === DELIVERY_LOWEST) state.low[pin] = entry | REMOTE_IRR;
  send(context, pin, entry, true);
};

const send = ({ state, port }: IoapicContext, pin: number, entry: number, level: boolean): void => {
  const mode = (entry >> 8) & 7;
  // ExtINT is a path, not a message: `extIntEnabled` opens it.
  if (mode === DELIVERY_EXTINT) return;
  port.send((state.high[pin] ?? 0) >>> 24, (entry & LOGICAL) !== 0, mode, entry & 0xff, level);
};

/** Sets a pin's line. A masked edge is lost, as in the part. */
export const setIoapicPin = (context: IoapicContext, pin: number, level: boolean): void => {
  const { state } = context;
  const bit = 1 << pin;
  const rising = level && (state.lines & bit) === 0;
  state.lines = level ? state.lines | bit : state.lines & ~bit;
  const entry = state.low[pin] ?? MASKED;
  if (!level) return;
  if ((entry & LEVEL) !== 0) service(context, pin);
  else if (rising && (entry & MASKED) === 0) send(context, pin, entry, false);
};

/** An EOI message of a local APIC, or of the EOI register: a level-triggered line still asserted interrupts again. */
export const endOfInterrupt = (context: IoapicContext, vector: number): void => {
  const { state } = context;
  for (let pin = 0; pin < IOAPIC_PINS; pin++) {
    const entry = state.low[pin] ?? 0;
    if ((entry & 0xff) !== vector || (entry & REMOTE_IRR) === 0) continue;
    state.low[pin] = entry & ~REMOTE_IRR;
    service(context, pin);
  }
};

/** Whether pin 0 passes the 8259's output on, as ExtINT (virtual wire through the I/O APIC). */
export const extIntEnabled = ({ state }: IoapicContext): boolean => {
  const entry = state.low[0] ?? MASKED;
  return ((entry >> 8) & 7) === DELIVERY_EXTINT && (entry & MASKED) === 0;
};
