/**
 * ACPI fixed hardware: PM1 event and control, the PM timer, one general-purpose event block.
 * [ACPI 6.3 §4.8]
 *
 * The machine is in ACPI mode from the start, as one without an SMI command port is: SCI_EN reads as 1.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { f64, u16 } from "../state.ts";

/** Ports of the blocks, for the FADT. */
export const PM_BASE = 0x600;
export const PM1_EVENT_PORT = PM_BASE + 0;
export const PM1_CONTROL_PORT = PM_BASE + 4;
export const PM_TIMER_PORT = PM_BASE + 8;
export const GPE0_PORT = PM_BASE + 0x20;
/** SLP_TYP of soft off, for the \_S5 object. */
export const SLEEP_TYPE_S5 = 5;
export const SCI_IRQ = 9;
export const PM_TIMER_HZ = 3_579_545;

export interface PmPort {
  powerOff(): void;
}

const TMR_STS = 0x0001;
const PWRBTN_STS = 0x0100;
/** Events that exist: timer, global lock, power button; and the wake status. The RTC wakes nothing, but its bits are
 * kept: systems enable the event whatever the FADT says of it, and complain where that does not stick. */
const STATUS_BITS = 0x8521;
const ENABLE_BITS = 0x0521;
const SCI_EN = 0x0001;
const SLP_TYP = 0x1c00;
const SLP_EN = 0x2000;
const CONTROL_BITS = SLP_TYP | 0x0002;
/** TMR_STS follows the timer's highest bit. */
const HALF_RANGE = 2 ** 31;

const STATE = {
  status: u16,
  enable: u16,
  control: u16,
  gpeStatus: u16,
  gpeEnable: u16,
  /** Times the timer's highest bit had changed when the status was last brought up to date. */
  seenHalves: f64,
};

export type PmContext = DeviceContext<typeof STATE, PmPort>;

/** Offsets through the ranges: 0-15 PM1 and timer, 16-19 GPE0. */
const GPE0 = 16;

export const acpiPm = defineDevice<PmPort>()({
  name: "acpi-pm",
  version: 1,
  ranges: [pio(PM_BASE, 16), pio(GPE0_PORT, 4)],
  widths: { min: 1, max: 4 },
  state: STATE,
  reset({ irq }) {
    irq.lower();
  },
  read(context, offset, size) {
    const group = offset & ~3;
    const value = readGroup(context, group);
    return size === 4 ? value : value >>> (8 * (offset - group));
  },
  write(context, offset, size, value) {
    for (let i = 0; i < size; i++) writeByte(context, offset + i, (value >>> (8 * i)) & 0xff);
    updateSci(context);
  },
  deadline(context) {
    const { state } = context;
    if ((state.enable & TMR_STS) === 0 || (state.status & TMR_STS) !== 0) return Infinity;
    return Math.ceil(((state.seenHalves + 1) * HALF_RANGE * 1e9) / PM_TIMER_HZ);
  },
  expire: (context) => catchUp(context),
});

const ticks = ({ clock }: PmContext): number => Math.floor((clock.now() * PM_TIMER_HZ) / 1e9 + 1e-6);

const readGroup = (context: PmContext, group: number): number => {
  const { state } = context;
  switch (group) {
    case 0:
      catchUp(context);
      return (state.status | (state.enable << 16)) >>> 0;
    case 4:
      return state.control | SCI_EN;
    case 8:
      return ticks(context) >>> 0;
    case GPE0:
      return (state.gpeStatus | (state.gpeEnable << 16)) >>> 0;
    default:
      return 0;
  }
};

const writeByte = (context: PmContext, offset: number, value: number): void => {
  const { state, port } = context;
  const shift = 8 * (offset & 1);
  const bits = value << shift;
  const others = 0xff00 >> shift;
  switch (offset & ~1) {
    case 0:
      catchUp(context);
      state.status &= ~bits;
      break;
    case 2:
      catchUp(context);
      state.enable = (state.enable & others) | (bits & ENABLE_BITS);
      break;
    case 4:
      state.control = (state.control & others) | (bits & CONTROL_BITS);
      // Other sleep types are not offered; a write of SLP_EN with one of them does nothing.
      if ((bits & SLP_EN) !== 0 && (state.control & SLP_TYP) >> 10 === SLEEP_TYPE_S5) port.powerOff();
      break;
    case GPE0:
      state.gpeStatus &= ~bits;
      break;
    case GPE0 + 2:
      state.gpeEnable = (state.gpeEnable & others) | bits;
      break;
    default:
  }
};

const catchUp = (context: PmContext): void => {
  const { state } = context;
  const halves = Math.floor(ticks(context) / HALF_RANGE);
  if (halves === state.seenHalves) return;
  state.seenHalves = halves;
  state.status |= TMR_STS;
  updateSci(context);
};

const updateSci = ({ state, irq }: PmContext): void => {
  const pending = (state.status & state.enable & STATUS_BITS) !== 0 || (state.gpeStatus & state.gpeEnable) !== 0;
  if (pending) irq.raise();
  else irq.lower();
};

/** The fixed power button. [ACPI 6.3 §4.8.2.2.1.1] */
export const pressPowerButton = (context: PmContext): void => {
  context.state.status |= PWRBTN_STS;
  updateSci(context);
};
