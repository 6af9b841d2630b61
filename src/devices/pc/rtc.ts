/**
 * The MC146818A real-time clock with 128 bytes of CMOS RAM. [MC146818A data sheet, ADI856R2; PC use of the RAM: PC/AT
 * Technical Reference §5]
 *
 * Time runs in UTC from the guest clock; writing the time registers changes an offset. Deviation: the update takes no
 * time, so UIP shows only the 244 µs before it.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { bool, bytes, f64, u8 } from "../state.ts";

export interface RtcPort {
  /** Guest RAM below 4 GiB and above, in bytes, for the CMOS size registers. */
  readonly lowRamBytes: number;
  readonly highRamBytes: number;
}

const SECONDS = 0;
const SECONDS_ALARM = 1;
const MINUTES = 2;
const MINUTES_ALARM = 3;
const HOURS = 4;
const HOURS_ALARM = 5;
const DAY_OF_WEEK = 6;
const DAY_OF_MONTH = 7;
const MONTH = 8;
const YEAR = 9;
const REGISTER_A = 0x0a;
const REGISTER_B = 0x0b;
const REGISTER_C = 0x0c;
const REGISTER_D = 0x0d;
export const RTC_CENTURY = 0x32;

const A_UIP = 0x80;
const B_SET = 0x80;
const B_PIE = 0x40;
const B_AIE = 0x20;
const B_UIE = 0x10;
const B_BINARY = 0x04;
const B_24H = 0x02;
const C_IRQF = 0x80;
const C_PF = 0x40;
const C_AF = 0x20;
const C_UF = 0x10;
const D_VRT = 0x80;

const SECOND_NS = 1e9;
const DAY_SECONDS = 86_400;
const UIP_NS = 244_000;
/** The end of the year 9999, the last that the registers can show. */
const MAX_SECONDS = 253_402_300_799;

const STATE = {
  index: u8,
  ram: bytes(128),
  /** Seconds since the Unix epoch, less whole seconds of the guest clock: what the clock was set to. */
  epochSeconds: f64,
  /** Guest ns within a second at which the second begins. */
  phase: f64,
  /** Register C's flags. */
  flags: u8,
  /** Guest second (of `secondsAt`) up to which updates and alarms have been seen. */
  seenSecond: f64,
  /** Guest ns of the next periodic tick; Infinity if off. */
  nextPeriodic: f64,
  frozen: bool,
};

type RtcContext = DeviceContext<typeof STATE, RtcPort>;

export const rtc = defineDevice<RtcPort>()({
  name: "rtc",
  version: 1,
  ranges: [pio(0x70, 2)],
  state: STATE,
  reset(context) {
    const { state, clock, port } = context;
    const bootNs = Number(clock.bootTime % 1_000_000_000n);
    state.epochSeconds = Number(clock.bootTime / 1_000_000_000n);
    state.phase = bootNs;
    state.ram[REGISTER_A] = 0x26;
    state.ram[REGISTER_B] = B_24H;
    state.seenSecond = secondsAt(context, clock.now());
    restartPeriodic(context);
    fillMemorySizes(state.ram, port);
  },
  read(context, offset) {
    if (offset === 0) return 0xff;
    return readRegister(context, context.state.index);
  },
  write(context, offset, _size, value) {
    if (offset === 0) context.state.index = value & 0x7f;
    else writeRegister(context, context.state.index, value);
  },
  deadline(context) {
    const { state } = context;
    const b = state.ram[REGISTER_B] ?? 0;
    const periodic = (b & B_PIE) !== 0 ? state.nextPeriodic : Infinity;
    if (state.frozen || (b & (B_AIE | B_UIE)) === 0) return periodic;
    const wait = (b & B_UIE) !== 0 ? 1 : secondsToAlarm(context, state.seenSecond);
    return Math.min(periodic, timeOfSecond(context, state.seenSecond + wait));
  },
  expire(context, now) {
    catchUp(context, now);
  },
});

/** Sizes as the PC/AT's and later set-up programs leave them. */
const fillMemorySizes = (ram: Uint8Array, { lowRamBytes, highRamBytes }: RtcPort): void => {
  const word = (index: number, value: number): void => {
    ram[index] = value & 0xff;
    ram[index + 1] = (value >> 8) & 0xff;
  };
  const extendedKib = Math.min(Math.max(lowRamBytes - 0x100000, 0) / 1024, 0xffff);
  word(0x15, 640);
  word(0x17, extendedKib);
  word(0x30, extendedKib);
  word(0x34, Math.min(Math.max(lowRamBytes - 0x1000000, 0) / 65536, 0xffff));
  const high = highRamBytes / 65536;
  word(0x5b, high & 0xffff);
  ram[0x5d] = (high >> 16) & 0xff;
  let sum = 0;
  for (let i = 0x10; i < 0x2e; i++) sum += ram[i] ?? 0;
  ram[0x2e] = (sum >> 8) & 0xff;
  ram[0x2f] = sum & 0xff;
};

/** Whole seconds since the epoch at a guest time. */
const secondsAt = ({ state }: RtcContext, now: number): number =>
  state.epochSeconds + Math.floor((now + state.phase) / SECOND_NS);

/** Guest ns at which a second begins. */
const timeOfSecond = ({ state }: RtcContext, seconds: number): number =>
  (seconds - state.epochSeconds) * SECOND_NS - state.phase;

const readRegister = (context: RtcContext, index: number): number => {
  const { state, clock } = context;
  if (isTime(index)) {
    return state.frozen ? (state.ram[index] ?? 0) : timeRegister(context, index, secondsAt(context, clock.now()));
  }
  if (index === REGISTER_A) {
    const within = (clock.now() + state.phase) % SECOND_NS;
    const updating = !state.frozen && within >= SECOND_NS - UIP_NS;
    return (state.ram[REGISTER_A] ?? 0) | (updating ? A_UIP : 0);
  }
  if (index === REGISTER_C) {
    catchUp(context, clock.now());
    const flags = state.flags;
    state.flags = 0;
    updateIrq(context);
    return flags;
  }
  return index === REGISTER_D ? D_VRT : (state.ram[index] ?? 0);
};

const writeRegister = (context: RtcContext, index: number, value: number): void => {
  const { state, clock } = context;
  switch (index) {
    case REGISTER_A:
      catchUp(context, clock.now());
      state.ram[REGISTER_A] = value & ~A_UIP;
      restartPeriodic(context);
      return;
    case REGISTER_B:
      writeControl(context, value);
      return;
    case REGISTER_C:
    case REGISTER_D:
      return;
    default:
  }
  if (!isTime(index)) {
    state.ram[index] = value;
    return;
  }
  if (state.frozen) {
    state.ram[index] = value;
    return;
  }
  // Without SET, one register changes and the others go on.
  latchTime(context);
  state.ram[index] = value;
  setTime(context);
};

const writeControl = (context: RtcContext, value: number): void => {
  const { state, clock } = context;
  catchUp(context, clock.now());
  const set = (value & B_SET) !== 0;
  if (set && !state.frozen) latchTime(context);
  const wasFrozen = state.frozen;
  // SET clears UIE. [MC146818A, register B]
  state.ram[REGISTER_B] = set ? value & ~B_UIE : value;
  state.frozen = set;
  if (wasFrozen && !set) setTime(context);
  restartPeriodic(context);
  updateIrq(context);
};

const isTime = (index: number): boolean =>
  index === SECONDS ||
  index === MINUTES ||
  index === HOURS ||
  (index >= DAY_OF_WEEK && index <= YEAR) ||
  index === RTC_CENTURY;

const TIME_REGISTERS = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, RTC_CENTURY] as const;

const latchTime = (context: RtcContext): void => {
  const { state, clock } = context;
  const seconds = secondsAt(context, clock.now());
  for (const index of TIME_REGISTERS) state.ram[index] = timeRegister(context, index, seconds);
};

/** Sets the clock by the registers in RAM; the second begins now. */
const setTime = (context: RtcContext): void => {
  const { state, clock } = context;
  const value = (index: number): number => fromRegister(context, state.ram[index] ?? 0);
  const year = value(RTC_CENTURY) * 100 + value(YEAR);
  const hour = hourFromRegister(context, state.ram[HOURS] ?? 0);
  const ms = Date.UTC(year, value(MONTH) - 1, value(DAY_OF_MONTH), hour, value(MINUTES), value(SECONDS));
  const seconds = Number.isFinite(ms) ? Math.min(Math.max(Math.floor(ms / 1000), 0), MAX_SECONDS) : 0;
  const now = clock.now();
  state.phase = (SECOND_NS - (now % SECOND_NS)) % SECOND_NS;
  state.epochSeconds = seconds - Math.floor((now + state.phase) / SECOND_NS);
  state.seenSecond = seconds;
};

/** A time register's value at a second. */
const timeRegister = (context: RtcContext, index: number, seconds: number): number => {
  const date = new Date(Math.min(seconds, MAX_SECONDS) * 1000);
  switch (index) {
    case SECONDS:
      return toRegister(context, date.getUTCSeconds());
    case MINUTES:
      return toRegister(context, date.getUTCMinutes());
    case HOURS:
      return hourToRegister(context, date.getUTCHours());
    case DAY_OF_WEEK:
      return toRegister(context, date.getUTCDay() + 1);
    case DAY_OF_MONTH:
      return toRegister(context, date.getUTCDate());
    case MONTH:
      return toRegister(context, date.getUTCMonth() + 1);
    case YEAR:
      return toRegister(context, date.getUTCFullYear() % 100);
    default:
      return toRegister(context, Math.floor(date.getUTCFullYear() / 100));
  }
};

const isSet = ({ state }: RtcContext, bit: number): boolean => ((state.ram[REGISTER_B] ?? 0) & bit) !== 0;

const toRegister = (context: RtcContext, value: number): number =>
  isSet(context, B_BINARY) ? value : (Math.floor(value / 10) << 4) | (value % 10);

const fromRegister = (context: RtcContext, value: number): number =>
  isSet(context, B_BINARY) ? value : (value >> 4) * 10 + (value & 0xf);

/** In 12-hour mode, bit 7 is PM and hours are 1 to 12. */
const hourToRegister = (context: RtcContext, hour: number): number => {
  if (isSet(context, B_24H)) return toRegister(context, hour);
  return toRegister(context, hour % 12 || 12) | (hour >= 12 ? 0x80 : 0);
};

const hourFromRegister = (context: RtcContext, value: number): number => {
  if (isSet(context, B_24H)) return fromRegister(context, value);
  return (fromRegister(context, value & 0x7f) % 12) + ((value & 0x80) !== 0 ? 12 : 0);
};

/** Sets the flags for what has happened since the last look. */
const catchUp = (context: RtcContext, now: number): void => {
  const { state } = context;
  if (now >= state.nextPeriodic) {
    state.flags |= C_PF;
    const period = periodNs(context);
    state.nextPeriodic += (Math.floor((now - state.nextPeriodic) / period) + 1) * period;
  }
  if (!state.frozen) {
    const second = secondsAt(context, now);
    if (second > state.seenSecond) {
      state.flags |= C_UF;
      if (secondsToAlarm(context, state.seenSecond) <= second - state.seenSecond) state.flags |= C_AF;
      state.seenSecond = second;
    }
  }
  updateIrq(context);
};

const updateIrq = ({ state, irq }: RtcContext): void => {
  const enabled = (state.ram[REGISTER_B] ?? 0) & (B_PIE | B_AIE | B_UIE);
  if ((state.flags & enabled) !== 0) {
    state.flags |= C_IRQF;
    irq.raise();
  } else {
    state.flags &= ~C_IRQF;
    irq.lower();
  }
};

/** Seconds after `from` until the alarm next matches, 1 to a day; Infinity where it names no time of day. */
const secondsToAlarm = (context: RtcContext, from: number): number => {
  const { ram } = context.state;
  // Codes 0xc0 to 0xff match anything. [MC146818A, time, calendar and alarm]
  const field = (index: number, decode: (value: number) => number): number => {
    const value = ram[index] ?? 0;
    return value >= 0xc0 ? -1 : decode(value);
  };
  const second = field(SECONDS_ALARM, (value) => fromRegister(context, value));
  const minute = field(MINUTES_ALARM, (value) => fromRegister(context, value));
  const hour = field(HOURS_ALARM, (value) => hourFromRegister(context, value));
  if (second > 59 || minute > 59 || hour > 23) return Infinity;
  const start = (((from + 1) % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;
  // Steps from match to match of the larger fields: at most a day's hours, an hour's minutes, a minute's seconds.
  let time = start;
  while (time < start + DAY_SECONDS + 1) {
    const h = Math.floor(time / 3600) % 24;
    const m = Math.floor(time / 60) % 60;
    if (hour >= 0 && h !== hour) time = (Math.floor(time / 3600) + 1) * 3600;
    else if (minute >= 0 && m !== minute) time = (Math.floor(time / 60) + 1) * 60;
    else if (second >= 0 && time % 60 !== second) time++;
    else return time - start + 1;
  }
  return Infinity;
};

/** The period of register A's rate selection in ns, from a 32.768 kHz crystal; Infinity for none. */
const periodNs = ({ state }: RtcContext): number => {
  const rate = (state.ram[REGISTER_A] ?? 0) & 0x0f;
  if (rate === 0) return Infinity;
  const divider = rate <= 2 ? rate + 6 : rate - 1;
  return Math.round((SECOND_NS * 2 ** divider) / 32_768);
};

const restartPeriodic = (context: RtcContext): void => {
  const { state, clock } = context;
  const period = periodNs(context);
  // The divider chain runs for ever: ticks fall on multiples of the period, whenever they are asked for.
  const now = clock.now();
  state.nextPeriodic = Number.isFinite(period) ? (Math.floor(now / period) + 1) * period : Infinity;
};
