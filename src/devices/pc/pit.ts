/**
 * The 8254 interval timer and the port that gates its third counter. [8254 data sheet, order 231164-005; port 0x61:
 * 82371AB data sheet §3.7]
 *
 * Counters are computed from the time at which they were loaded; nothing ticks. Deviations: a count takes effect with
 * the write of its last byte, in modes 2 and 3 too, where the part finishes its period first; interrupts missed while
 * the virtual processor did not run are not made up.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { f64, f64s, u8, u8s, u32s } from "../state.ts";

/** Input frequency in Hz: a third of the NTSC colour carrier's fourfold. */
export const PIT_HZ = 1_193_182;
const NS_PER_TICK = 1e9 / PIT_HZ;
/** Counter 0 is not served more often than this, in ns. */
const MIN_PERIOD = 20_000;
/** The refresh toggle of port 0x61 changes every 15.085 µs. */
const REFRESH_NS = 15_085;

/** Values of `access`: which bytes of a count are written and read. */
const LOW = 1;
const HIGH = 2;
const LOW_HIGH = 3;

const CHANNEL_0 = 0;
const CHANNEL_2 = 2;

const STATE = {
  mode: u8s(3),
  access: u8s(3),
  bcd: u8s(3),
  /** Ticks from loading to the end of the count, 1 to 65536; 0 while no count is loaded. */
  count: u32s(3),
  gate: u8s(3),
  /** Guest ns of loading. */
  start: f64s(3),
  /** Ticks elapsed when the gate stopped the counter; -1 while it runs. */
  stopped: f64s(3),
  /** First byte of a count written in two. */
  writeLow: u8s(3),
  writeSecond: u8s(3),
  readSecond: u8s(3),
  /** Bytes of a latched count still to be read. */
  latched: u8s(3),
  latch: u32s(3),
  statusLatched: u8s(3),
  status: u8s(3),
  /** Guest ns of the next rising edge of counter 0's output. */
  nextEdge: f64,
  /** Port 0x61, bits 1:0: gate of counter 2, speaker data. */
  speaker: u8,
};

type PitContext = DeviceContext<typeof STATE, null>;

export const pit = defineDevice<null>()({
  name: "pit",
  version: 1,
  ranges: [pio(0x40, 4), pio(0x61, 1)],
  state: STATE,
  reset({ state }) {
    state.access.fill(LOW_HIGH);
    state.stopped.fill(-1);
    state.gate.set([1, 1, 0]);
    state.nextEdge = Infinity;
  },
  read(context, offset) {
    if (offset < 3) return readCounter(context, offset);
    if (offset === 3) return 0xff;
    const { state, clock } = context;
    const refresh = Math.floor(clock.now() / REFRESH_NS) % 2 === 1 ? 0x10 : 0;
    return state.speaker | refresh | (outputOf(context, CHANNEL_2) ? 0x20 : 0);
  },
  write(context, offset, _size, value) {
    if (offset < 3) writeCounter(context, offset, value);
    else if (offset === 3) writeControl(context, value);
    else {
      context.state.speaker = value & 3;
      setGate(context, CHANNEL_2, (value & 1) !== 0);
    }
  },
  deadline: ({ state }) => state.nextEdge,
  expire(context, now) {
    const { state, irq } = context;
    if (now < state.nextEdge) return;
    irq.lower();
    irq.raise();
    const periodic = isPeriodic(at(state.mode, CHANNEL_0));
    const count = at(state.count, CHANNEL_0);
    if (!periodic || count === 0) {
      state.nextEdge = Infinity;
      return;
    }
    const passed = Math.floor(elapsed(context, CHANNEL_0) / count);
    const next = at(state.start, CHANNEL_0) + Math.ceil((passed + 1) * count * NS_PER_TICK);
    state.nextEdge = count * NS_PER_TICK < MIN_PERIOD ? now + MIN_PERIOD : next;
  },
});

const at = (array: Uint8Array | Uint32Array | Float64Array, index: number): number => array[index] ?? 0;

/** Modes 2 and 3; their codes 6 and 7 are folded when written. */
const isPeriodic = (mode: number): boolean => mode === 2 || mode === 3;

const elapsed = ({ state, clock }: PitContext, channel: number): number => {
  const stopped = at(state.stopped, channel);
  if (stopped >= 0) return stopped;
  // The margin makes the ns at which a tick was foreseen count as that tick, in spite of rounding.
  return Math.floor((clock.now() - at(state.start, channel)) / NS_PER_TICK + 1e-6);
};

/** The counting element's value, 16 bits, in binary. */
const currentCount = (context: PitContext, channel: number): number => {
  const { state } = context;
  const count = at(state.count, channel);
  if (count === 0) return 0;
  const ticks = elapsed(context, channel);
  const modulus = state.bcd[channel] === 0 ? 0x10000 : 10_000;
  switch (at(state.mode, channel)) {
    case 2:
      return (count - (ticks % count)) % modulus;
    case 3:
      // The square wave counts down by two, twice in a period.
      return (count - ((2 * ticks) % count)) % modulus;
    default:
      // The count goes on below zero.
      return (((count - ticks) % modulus) + modulus) % modulus;
  }
};

const outputOf = (context: PitContext, channel: number): boolean => {
  const { state } = context;
  const mode = at(state.mode, channel);
  const count = at(state.count, channel);
  if (count === 0) return mode !== 0;
  const ticks = elapsed(context, channel);
  switch (mode) {
    case 0:
    case 1:
      return ticks >= count;
    case 2:
      return at(state.gate, channel) === 0 || ticks % count !== count - 1;
    case 3:
      return at(state.gate, channel) === 0 || ticks % count < Math.ceil(count / 2);
    default:
      return ticks !== count;
  }
};

const writeControl = (context: PitContext, value: number): void => {
  const { state, irq } = context;
  const channel = value >> 6;
  if (channel === 3) {
    readBack(context, value);
    return;
  }
  const access = (value >> 4) & 3;
  if (access === 0) {
    latchCount(context, channel);
    return;
  }
  const mode = (value >> 1) & 7;
  state.mode[channel] = mode > 5 ? mode & 3 : mode;
  state.access[channel] = access;
  state.bcd[channel] = value & 1;
  state.count[channel] = 0;
  state.stopped[channel] = -1;
  state.writeSecond[channel] = 0;
  state.readSecond[channel] = 0;
  state.latched[channel] = 0;
  state.statusLatched[channel] = 0;
  if (channel === CHANNEL_0) {
    state.nextEdge = Infinity;
    irq.lower();
  }
};

/** Latches counts and states of several counters at once. Bits 5 and 4 are active low. */
const readBack = (context: PitContext, value: number): void => {
  const { state } = context;
  for (let channel = 0; channel < 3; channel++) {
    if ((value & (2 << channel)) === 0) continue;
    if ((value & 0x20) === 0) latchCount(context, channel);
    if ((value & 0x10) === 0 && state.statusLatched[channel] === 0) {
      const nullCount = at(state.count, channel) === 0 ? 0x40 : 0;
      state.status[channel] =
        (outputOf(context, channel) ? 0x80 : 0) |
        nullCount |
        (at(state.access, channel) << 4) |
        (at(state.mode, channel) << 1) |
        at(state.bcd, channel);
      state.statusLatched[channel] = 1;
    }
  }
};

/** A count latched stays until it is read; latching again before does nothing. */
const latchCount = (context: PitContext, channel: number): void => {
  const { state } = context;
  if (state.latched[channel] !== 0) return;
  state.latch[channel] = encode(context, channel, currentCount(context, channel));
  state.latched[channel] = state.access[channel] === LOW_HIGH ? 2 : 1;
};

const readCounter = (context: PitContext, channel: number): number => {
  const { state } = context;
  if (state.statusLatched[channel] !== 0) {
    state.statusLatched[channel] = 0;
    return at(state.status, channel);
  }
  const access = at(state.access, channel);
  const remaining = at(state.latched, channel);
  const count = remaining > 0 ? at(state.latch, channel) : encode(context, channel, currentCount(context, channel));
  let high = access === HIGH;
  if (access === LOW_HIGH) {
    high = remaining > 0 ? remaining === 1 : at(state.readSecond, channel) !== 0;
    if (remaining === 0) state.readSecond[channel] = high ? 0 : 1;
  }
  if (remaining > 0) state.latched[channel] = remaining - 1;
  return high ? count >> 8 : count & 0xff;
};

const writeCounter = (context: PitContext, channel: number, value: number): void => {
  const { state } = context;
  switch (state.access[channel]) {
    case LOW:
      load(context, channel, value);
      break;
    case HIGH:
      load(context, channel, value << 8);
      break;
    default:
      if (state.writeSecond[channel] === 0) {
        state.writeLow[channel] = value;
        state.writeSecond[channel] = 1;
      } else {
        state.writeSecond[channel] = 0;
        load(context, channel, (value << 8) | at(state.writeLow, channel));
      }
  }
};

const load = (context: PitContext, channel: number, written: number): void => {
  const { state, clock, irq } = context;
  const mode = at(state.mode, channel);
  const modulus = state.bcd[channel] === 0 ? 0x10000 : 10_000;
  const count = decode(context, channel, written) % modulus || modulus;
  state.count[channel] = count;
  state.start[channel] = clock.now();
  // Modes 1 and 5 wait for a rising gate; in the others a low gate holds the count.
  const waits = mode === 1 || mode === 5;
  state.stopped[channel] = waits ? count : state.gate[channel] === 0 ? 0 : -1;
  if (channel !== CHANNEL_0) return;
  if (mode === 0) irq.lower();
  const ticks = mode === 4 ? count + 1 : count;
  state.nextEdge = waits ? Infinity : at(state.start, channel) + Math.ceil(ticks * NS_PER_TICK);
};

/** Only counter 2 has a gate that moves, and its output raises no interrupt. */
const setGate = (context: PitContext, channel: number, high: boolean): void => {
  const { state, clock } = context;
  const before = state.gate[channel] !== 0;
  if (before === high) return;
  const ticks = elapsed(context, channel);
  state.gate[channel] = high ? 1 : 0;
  if (at(state.count, channel) === 0) return;
  const mode = at(state.mode, channel);
  if (!high) {
    // Modes 1 and 5 are triggered by the edge and do not look at the level.
    if (mode !== 1 && mode !== 5) state.stopped[channel] = ticks;
    return;
  }
  const resumed = mode === 0 || mode === 4 ? ticks : 0;
  state.start[channel] = clock.now() - Math.round(resumed * NS_PER_TICK);
  state.stopped[channel] = -1;
};

const encode = ({ state }: PitContext, channel: number, count: number): number => {
  if (state.bcd[channel] === 0) return count;
  let digits = 0;
  for (let shift = 0, rest = count; shift < 16; shift += 4) {
    digits |= (rest % 10) << shift;
    rest = Math.floor(rest / 10);
  }
  return digits;
};

const decode = ({ state }: PitContext, channel: number, written: number): number => {
  if (state.bcd[channel] === 0) return written;
  let count = 0;
  for (let shift = 12; shift >= 0; shift -= 4) count = count * 10 + ((written >> shift) & 0xf);
  return count;
};
