/** State and wiring of a local APIC, shared by its registers (lapic.ts) and its timer (lapic-timer.ts). */

import type { DeviceContext } from "../device.ts";
import { bool, f64, u32, u32s, u64, u8 } from "../state.ts";

export interface LapicPort {
  /** The processor's number, and its APIC's id. */
  readonly index: number;
  /** Whether an interrupt is pending may have changed. */
  changed(): void;
  /** A write of the interrupt command register. */
  command(low: number, destination: number): void;
  /** EOI of a level-triggered vector, broadcast to the I/O APICs. */
  broadcastEoi(vector: number): void;
}

export const LAPIC_STATE = {
  /** IA32_APIC_BASE: the page, and the enable bits as in the register. */
  baseAddress: f64,
  baseFlags: u32,
  id: u32,
  tpr: u8,
  ldr: u32,
  dfr: u32,
  svr: u32,
  /** What ESR shows, and what it will show after the next write to it. */
  esr: u32,
  errors: u32,
  icrLow: u32,
  icrHigh: u32,
  lvt: u32s(6),
  irr: u32s(8),
  isr: u32s(8),
  tmr: u32s(8),
  initialCount: u32,
  divide: u32,
  /** Guest ns at which the count was loaded. */
  timerStart: f64,
  /** Guest ns at which the timer next expires, masked or not. */
  timerExpiry: f64,
  tscDeadline: u64,
  nmiPending: bool,
  initPending: bool,
  startupPending: bool,
  startupVector: u8,
};

export type LapicContext = DeviceContext<typeof LAPIC_STATE, LapicPort>;

export const LVT_TIMER = 0;
export const LVT_MASKED = 1 << 16;
