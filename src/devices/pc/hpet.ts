/**
 * The high precision event timer: a 64-bit counter at 100 MHz and three comparators. [IA-PC HPET 1.0a]
 *
 * Guests reach its 64-bit registers by two 4-byte accesses, lowest first. Comparators without an enabled interrupt
 * are not watched: a periodic one shows the value it was given.
 */

import { defineDevice, type DeviceContext, type IrqLine, mmio } from "../device.ts";
import { f64, f64s, u32, u32s, u8 } from "../state.ts";

export const HPET_ADDRESS = 0xfed00000;
export const HPET_BYTES = 0x400;
/** Length of a tick: 10 ns. */
const TICK_NS = 10;
const TICK_FEMTOSECONDS = TICK_NS * 1_000_000;
const TIMERS = 3;
/** Revision 1, three timers, 64 bits, legacy replacement, vendor 0x8086. Also the ACPI table's block id. */
export const HPET_CAPABILITIES = 0x8086a201;
/** The inputs of the I/O APIC that a comparator may use: 16 to 23. */
const ROUTES = 0x00ff0000;
const FIRST_ROUTE = 16;
/** An enabled comparator is not served more often than this, in ns. */
const MIN_PERIOD = 20_000;

export interface HpetPort {
  /** ISA interrupts 0 and 8, for the legacy replacement. */
  readonly legacy: readonly [IrqLine, IrqLine];
  /** Inputs 16 to 23. */
  readonly routes: readonly IrqLine[];
  /** Legacy replacement was switched: PIT and RTC lose or regain their lines. */
  legacyChanged(): void;
}

const ENABLE = 0x1;
const LEGACY = 0x2;
const LEVEL = 0x002;
const INTERRUPT = 0x004;
const PERIODIC = 0x008;
const VALUE_SET = 0x040;
const MODE_32 = 0x100;
const TIMER_WRITABLE = 0x3f4e;
/** Periodic-capable, 64 bits. */
const TIMER_FIXED = 0x030;
const NO_TIMER = 0xff;
const FAR_TICKS = 1n << 48n;

const STATE = {
  config: u32,
  /** Level-triggered interrupts that are active. */
  status: u32,
  /** The counter when it was last started, stopped or written. */
  counterLow: u32,
  counterHigh: u32,
  /** Guest ns of that moment, while the counter runs. */
  start: f64,
  timerConfig: u32s(TIMERS),
  comparatorLow: u32s(TIMERS),
  comparatorHigh: u32s(TIMERS),
  periodLow: u32s(TIMERS),
  periodHigh: u32s(TIMERS),
  /** Guest ns of the next match of each timer whose interrupt is enabled. */
  expiry: f64s(TIMERS),
  /** The timer whose comparator's low half was just written by way of VALUE_SET: its high half goes there too. */
  settingHigh: u8,
};

export type HpetContext = DeviceContext<typeof STATE, HpetPort>;

export const hpet = defineDevice<HpetPort>()({
  name: "hpet",
  version: 1,
  ranges: [mmio(HPET_ADDRESS, HPET_BYTES)],
  widths: { min: 4, max: 4 },
  state: STATE,
  reset({ state, port }) {
    state.timerConfig.fill(TIMER_FIXED);
    state.comparatorLow.fill(0xffffffff);
    state.comparatorHigh.fill(0xffffffff);
    state.expiry.fill(Infinity);
    state.settingHigh = NO_TIMER;
    for (const line of [...port.legacy, ...port.routes]) line.lower();
  },
  read(context, offset) {
    const { state } = context;
    if (offset >= 0x100) return readTimer(context, (offset - 0x100) >> 5, offset & 0x1f);
    switch (offset) {
      case 0x000:
        return HPET_CAPABILITIES;
      case 0x004:
        return TICK_FEMTOSECONDS;
      case 0x010:
        return state.config;
      case 0x020:
        return state.status;
      case 0x0f0:
        return counterLow(context, ticksSince(context));
      case 0x0f4:
        return counterHigh(context, ticksSince(context));
      default:
        return 0;
    }
  },
  write(context, offset, _size, value) {
    const { state } = context;
    const setting = state.settingHigh;
    state.settingHigh = NO_TIMER;
    if (offset >= 0x100) {
      writeTimer(context, (offset - 0x100) >> 5, offset & 0x1f, value, setting);
      return;
    }
    switch (offset) {
      case 0x010:
        writeConfig(context, value);
        break;
      case 0x020:
        for (let timer = 0; timer < TIMERS; timer++) {
          if ((value & state.status & (1 << timer)) !== 0) lineOf(context, timer)?.lower();
        }
        state.status &= ~value;
        break;
      case 0x0f0:
      case 0x0f4:
        // Writable while halted; a running counter's write is undefined and does nothing here.
        if ((state.config & ENABLE) !== 0) break;
        if (offset === 0x0f0) state.counterLow = value;
        else state.counterHigh = value;
        break;
      default:
    }
  },
  deadline({ state }) {
    let earliest = Infinity;
    for (let timer = 0; timer < TIMERS; timer++) earliest = Math.min(earliest, state.expiry[timer] ?? Infinity);
    return earliest;
  },
  expire(context, now) {
    for (let timer = 0; timer < TIMERS; timer++) {
      if ((context.state.expiry[timer] ?? Infinity) <= now) fire(context, timer, now);
    }
  },
});

/** Whether PIT and RTC have lost their interrupts to comparators 0 and 1. */
export const legacyReplacement = ({ state }: HpetContext): boolean => (state.config & LEGACY) !== 0;

const at = (array: Uint32Array, timer: number): number => array[timer] ?? 0;
const join = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);

const ticksSince = ({ state, clock }: HpetContext): number =>
  (state.config & ENABLE) === 0 ? 0 : Math.floor((clock.now() - state.start) / TICK_NS);

const counterLow = ({ state }: HpetContext, ticks: number): number => (state.counterLow + (ticks % 2 ** 32)) % 2 ** 32;

const counterHigh = ({ state }: HpetContext, ticks: number): number => {
  const carry = state.counterLow + (ticks % 2 ** 32) >= 2 ** 32 ? 1 : 0;
  return (state.counterHigh + Math.floor(ticks / 2 ** 32) + carry) % 2 ** 32;
};

const writeConfig = (context: HpetContext, value: number): void => {
  const { state, clock, port } = context;
  const before = state.config;
  if (((before ^ value) & ENABLE) !== 0) {
    const ticks = ticksSince(context);
    const low = counterLow(context, ticks);
    state.counterHigh = counterHigh(context, ticks);
    state.counterLow = low;
    state.start = clock.now();
  }
  if (((before ^ value) & LEGACY) !== 0) for (let timer = 0; timer < TIMERS; timer++) lineOf(context, timer)?.lower();
  state.config = value & (ENABLE | LEGACY);
  if (((before ^ value) & LEGACY) !== 0) port.legacyChanged();
  for (let timer = 0; timer < TIMERS; timer++) schedule(context, timer);
};

const readTimer = ({ state }: HpetContext, timer: number, register: number): number => {
  if (timer >= TIMERS) return 0;
  switch (register) {
    case 0x00:
      return at(state.timerConfig, timer);
    case 0x04:
      return ROUTES;
    case 0x08:
      return at(state.comparatorLow, timer);
    case 0x0c:
      return at(state.comparatorHigh, timer);
    default:
      return 0;
  }
};

const writeTimer = (context: HpetContext, timer: number, register: number, value: number, setting: number): void => {
  const { state } = context;
  if (timer >= TIMERS) return;
  const config = at(state.timerConfig, timer);
  if (register === 0x00) {
    lineOf(context, timer)?.lower();
    state.status &= ~(1 << timer);
    state.timerConfig[timer] = (value & TIMER_WRITABLE) | TIMER_FIXED;
  } else if (register === 0x08 || register === 0x0c) {
    const low = register === 0x08;
    const direct = (config & PERIODIC) === 0 || (config & VALUE_SET) !== 0 || (!low && setting === timer);
    if (direct) (low ? state.comparatorLow : state.comparatorHigh)[timer] = value;
    else (low ? state.periodLow : state.periodHigh)[timer] = value;
    if (low && (config & VALUE_SET) !== 0) {
      state.timerConfig[timer] = config & ~VALUE_SET;
      state.settingHigh = timer;
    }
  }
  schedule(context, timer);
};

const widthOf = (config: number): number => ((config & MODE_32) !== 0 ? 32 : 64);

/** Finds the guest time of a timer's next match. */
const schedule = (context: HpetContext, timer: number): void => {
  const { state } = context;
  const config = at(state.timerConfig, timer);
  state.expiry[timer] = Infinity;
  if ((state.config & ENABLE) === 0 || (config & INTERRUPT) === 0) return;
  const ticks = ticksSince(context);
  const counter = join(counterHigh(context, ticks), counterLow(context, ticks));
  const comparator = join(at(state.comparatorHigh, timer), at(state.comparatorLow, timer));
  const distance = BigInt.asUintN(widthOf(config), comparator - counter);
  // Farther than a few years is never.
  if (distance < FAR_TICKS) state.expiry[timer] = state.start + (ticks + Number(distance)) * TICK_NS;
};

const lineOf = (context: HpetContext, timer: number): IrqLine | undefined => {
  const { state, port } = context;
  if (legacyReplacement(context) && timer < 2) return port.legacy[timer];
  const route = (at(state.timerConfig, timer) >> 9) & 0x1f;
  return (ROUTES & (1 << route)) !== 0 ? port.routes[route - FIRST_ROUTE] : undefined;
};

const fire = (context: HpetContext, timer: number, now: number): void => {
  const { state } = context;
  const config = at(state.timerConfig, timer);
  const line = lineOf(context, timer);
  if ((config & LEVEL) !== 0) {
    state.status |= 1 << timer;
    line?.raise();
  } else {
    line?.pulse();
  }
  const period = join(at(state.periodHigh, timer), at(state.periodLow, timer));
  if ((config & PERIODIC) === 0 || period === 0n) {
    // The next match is a whole turn of the counter away: at 64 bits, never.
    const turn = 2 ** 32 * TICK_NS;
    const missed = Math.floor((now - (state.expiry[timer] ?? 0)) / turn) + 1;
    state.expiry[timer] = widthOf(config) === 32 ? (state.expiry[timer] ?? 0) + missed * turn : Infinity;
    return;
  }
  // Periods missed while the processor did not run are skipped.
  const ticks = ticksSince(context);
  const counter = join(counterHigh(context, ticks), counterLow(context, ticks));
  const comparator = join(at(state.comparatorHigh, timer), at(state.comparatorLow, timer));
  const behind = BigInt.asUintN(widthOf(config), counter - comparator);
  const next = BigInt.asUintN(widthOf(config), comparator + (behind / period + 1n) * period);
  state.comparatorLow[timer] = Number(next & 0xffffffffn);
  state.comparatorHigh[timer] = Number(next >> 32n);
  schedule(context, timer);
  if (Number(period) * TICK_NS < MIN_PERIOD) state.expiry[timer] = now + MIN_PERIOD;
};
