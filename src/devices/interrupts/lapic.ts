/**
 * The local APIC of one processor: xAPIC registers and x2APIC MSRs over one register file. [SDM 3 §11]
 *
 * Here is the chip: its registers, its priorities, its reaction to messages. Its timer is in lapic-timer.ts, its
 * place among other APICs in fabric.ts. NMI, INIT and start-up messages are recorded in the state, for the board.
 */

import { defineDevice, mmio } from "../device.ts";
import { LAPIC_STATE, type LapicContext, type LapicPort, LVT_MASKED, LVT_TIMER } from "./lapic-state.ts";
import { advanceTimer, readCurrentCount, restartTimer, timerDeadline, writeTimerLvt } from "./lapic-timer.ts";
import {
  DELIVERY_EXTINT,
  DELIVERY_FIXED,
  DELIVERY_INIT,
  DELIVERY_LOWEST,
  DELIVERY_NMI,
  DELIVERY_STARTUP,
} from "./messages.ts";

export const LAPIC_ADDRESS = 0xfee00000;
export const LAPIC_BYTES = 0x1000;

/** Register numbers: the MMIO offset / 16, and the MSR number - 0x800. [SDM 3 §11.12.1.2, table 11-6] */
const ID = 0x02;
const VERSION = 0x03;
const TPR = 0x08;
const APR = 0x09;
const PPR = 0x0a;
const EOI = 0x0b;
const LDR = 0x0d;
const DFR = 0x0e;
const SVR = 0x0f;
const ISR = 0x10;
const TMR = 0x18;
const IRR = 0x20;
const ESR = 0x28;
const ICR_LOW = 0x30;
const ICR_HIGH = 0x31;
const LVT = 0x32;
const LVT_LAST = 0x37;
const INITIAL_COUNT = 0x38;
const CURRENT_COUNT = 0x39;
const DIVIDE = 0x3e;
const SELF_IPI = 0x3f;

/** LVT entries by number, beside the timer's: thermal, performance, LINT0, LINT1, error. */
const LVT_LINT0 = 3;
const LVT_ERROR = 5;
const LVT_WRITABLE = [0x710ff, 0x117ff, 0x117ff, 0x1b7ff, 0x1b7ff, 0x110ff] as const;

const SVR_ENABLE = 0x100;
const ESR_SEND_ILLEGAL = 0x20;
const ESR_RECEIVE_ILLEGAL = 0x40;
const ESR_REGISTER_ILLEGAL = 0x80;
/** Version 0x14, six LVT entries, no EOI-broadcast suppression. */
const VERSION_VALUE = 0x00050014;

const BASE_BSP = 1 << 8;
const BASE_X2APIC = 1 << 10;
const BASE_ENABLE = 1 << 11;
const MAX_PHYSICAL = 2 ** 40;

export const lapic = defineDevice<LapicPort>()({
  name: "lapic",
  version: 1,
  ranges: [mmio(LAPIC_ADDRESS, LAPIC_BYTES)],
  widths: { min: 4, max: 4 },
  state: LAPIC_STATE,
  reset(context) {
    const { state, port } = context;
    state.id = port.index;
    state.baseAddress = LAPIC_ADDRESS;
    state.baseFlags = BASE_ENABLE | (port.index === 0 ? BASE_BSP : 0);
    resetRegisters(context);
    // As firmware leaves it: the first processor takes the 8259's interrupts through LINT0.
    if (port.index === 0) state.lvt[LVT_LINT0] = DELIVERY_EXTINT << 8;
  },
  read(context, offset) {
    if ((offset & 0xf) !== 0) return 0;
    const register = offset >> 4;
    if (register === ID) return context.state.id << 24;
    if (register === ICR_HIGH) return context.state.icrHigh;
    return readRegister(context, register) ?? 0;
  },
  write(context, offset, _size, value) {
    const { state } = context;
    if ((offset & 0xf) !== 0) return;
    const register = offset >> 4;
    if (register === ICR_HIGH) state.icrHigh = value & 0xff000000;
    else if (register === ICR_LOW) writeCommand(context, value, state.icrHigh >>> 24);
    else if (register === LDR) state.ldr = value & 0xff000000;
    else if (register === DFR) state.dfr = value | 0x0fffffff;
    else if (register !== ID && register !== SELF_IPI) writeRegister(context, register, value);
  },
  deadline: timerDeadline,
  expire: (context, now) => expireTimer(context, now),
});

/** The registers' values after power-up and INIT. [SDM 3 §11.4.7.1] */
const resetRegisters = ({ state, port }: LapicContext): void => {
  state.tpr = 0;
  state.ldr = 0;
  state.dfr = 0xffffffff;
  state.svr = 0xff;
  state.esr = 0;
  state.errors = 0;
  state.icrLow = 0;
  state.icrHigh = 0;
  state.lvt.fill(LVT_MASKED);
  state.irr.fill(0);
  state.isr.fill(0);
  state.tmr.fill(0);
  state.initialCount = 0;
  state.divide = 0;
  state.timerStart = 0;
  state.timerExpiry = Infinity;
  state.tscDeadline = 0n;
  port.changed();
};

export const inX2apicMode = ({ state }: LapicContext): boolean => (state.baseFlags & BASE_X2APIC) !== 0;

/** The page where this APIC's registers answer, or -1 where MMIO does not reach them. */
export const mmioPage = ({ state }: LapicContext): number =>
  (state.baseFlags & (BASE_ENABLE | BASE_X2APIC)) === BASE_ENABLE ? state.baseAddress : -1;

/** The number of the highest bit set in 256, or -1. */
const highestVector = (set: Uint32Array): number => {
  for (let word = 7; word >= 0; word--) {
    const bits = set[word] ?? 0;
    if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
  }
  return -1;
};
const hasVector = (set: Uint32Array, vector: number): boolean =>
  (((set[vector >> 5] ?? 0) >>> (vector & 31)) & 1) !== 0;
const setVector = (set: Uint32Array, vector: number): void => {
  set[vector >> 5] = (set[vector >> 5] ?? 0) | (1 << (vector & 31));
};
const clearVector = (set: Uint32Array, vector: number): void => {
  set[vector >> 5] = (set[vector >> 5] ?? 0) & ~(1 << (vector & 31));
};

/** [SDM 3 §11.8.3.1] */
export const processorPriority = ({ state }: LapicContext): number => {
  const serving = Math.max(highestVector(state.isr), 0);
  return state.tpr >> 4 >= serving >> 4 ? state.tpr : serving & 0xf0;
};

/** The vector that the processor should take now, or -1. */
export const pendingVector = (context: LapicContext): number => {
  const { state } = context;
  if ((state.svr & SVR_ENABLE) === 0 || (state.baseFlags & BASE_ENABLE) === 0) return -1;
  const vector = highestVector(state.irr);
  return vector >= 0 && vector >> 4 > processorPriority(context) >> 4 ? vector : -1;
};

/** Takes the pending vector into service; the spurious vector where none is pending any more. [SDM 3 §11.9] */
export const acknowledgeLapic = (context: LapicContext): number => {
  const { state, port } = context;
  const vector = pendingVector(context);
  if (vector < 0) return state.svr & 0xff;
  clearVector(state.irr, vector);
  setVector(state.isr, vector);
  port.changed();
  return vector;
};

/** Whether the 8259's output reaches the processor through LINT0, or because this APIC is off. */
export const acceptsExtInt = ({ state }: LapicContext): boolean => {
  if ((state.baseFlags & BASE_ENABLE) === 0) return true;
  const lint0 = state.lvt[LVT_LINT0] ?? LVT_MASKED;
  return (lint0 & LVT_MASKED) === 0 && ((lint0 >> 8) & 7) === DELIVERY_EXTINT;
};

/** Whether a message is for this APIC; a physical destination of all ones is for every one. [SDM 3 §11.6.2] */
export const matchesDestination = (context: LapicContext, destination: number, logical: boolean): boolean => {
  const { state } = context;
  if (!logical) return destination === state.id || destination >>> 0 === 0xffffffff || destination === 0xff;
  if (inX2apicMode(context)) {
    const ldr = x2apicLogicalId(state.id);
    return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
  }
  const own = state.ldr >>> 24;
  if (state.dfr >>> 28 === 0xf) return (own & destination) !== 0;
  const cluster = destination >> 4;
  return (cluster === 0xf || cluster === own >> 4) && (own & destination & 0xf) !== 0;
};

const x2apicLogicalId = (id: number): number => ((id >> 4) << 16) | (1 << (id & 0xf));

/** Takes a message that is for this APIC. */
export const receive = (context: LapicContext, mode: number, vector: number, levelTriggered: boolean): void => {
  const { state, port } = context;
  if ((state.baseFlags & BASE_ENABLE) === 0) return;
  switch (mode) {
    case DELIVERY_FIXED:
    case DELIVERY_LOWEST:
      acceptFixed(context, vector, levelTriggered);
      return;
    case DELIVERY_NMI:
      state.nmiPending = true;
      break;
    case DELIVERY_INIT:
      resetRegisters(context);
      state.initPending = true;
      state.startupPending = false;
      break;
    case DELIVERY_STARTUP:
      state.startupVector = vector;
      state.startupPending = true;
      break;
    default:
      return;
  }
  port.changed();
};

const acceptFixed = (context: LapicContext, vector: number, levelTriggered: boolean): void => {
  const { state, port } = context;
  if ((state.svr & SVR_ENABLE) === 0) return;
  if (vector < 16) {
    recordError(context, ESR_RECEIVE_ILLEGAL);
    return;
  }
  setVector(state.irr, vector);
  if (levelTriggered) setVector(state.tmr, vector);
  else clearVector(state.tmr, vector);
  port.changed();
};

/** Notes an error for ESR and raises the error interrupt. [SDM 3 §11.5.3] */
const recordError = (context: LapicContext, error: number): void => {
  const { state } = context;
  // An illegal vector in the error entry itself must not come back here for ever.
  const known = (state.errors & error) !== 0;
  state.errors |= error;
  if (!known) deliverLvt(context, LVT_ERROR);
};

/** Delivers a local interrupt as its LVT entry says. */
const deliverLvt = (context: LapicContext, entry: number): void => {
  const value = context.state.lvt[entry] ?? LVT_MASKED;
  if ((value & LVT_MASKED) !== 0) return;
  // The timer's and the error entry have no mode field: those bits read as zero, which is "fixed".
  receive(context, (value >> 8) & 7, value & 0xff, false);
};

const expireTimer = (context: LapicContext, now: number): void => {
  if (advanceTimer(context, now)) deliverLvt(context, LVT_TIMER);
};

/** Registers that both forms show alike; undefined where there is none. */
const readRegister = (context: LapicContext, register: number): number | undefined => {
  const { state } = context;
  if (register >= LVT && register <= LVT_LAST) return state.lvt[register - LVT];
  if (register >= ISR && register < ESR) {
    const set = register < TMR ? state.isr : register < IRR ? state.tmr : state.irr;
    return set[register & 7];
  }
  switch (register) {
    case VERSION:
      return VERSION_VALUE;
    case TPR:
      return state.tpr;
    case APR:
    case EOI:
      return 0;
    case PPR:
      return processorPriority(context);
    case LDR:
      return state.ldr;
    case DFR:
      return state.dfr;
    case SVR:
      return state.svr;
    case ESR:
      return state.esr;
    case ICR_LOW:
      return state.icrLow;
    case INITIAL_COUNT:
      return state.initialCount;
    case CURRENT_COUNT:
      return readCurrentCount(context);
    case DIVIDE:
      return state.divide;
    default:
      return undefined;
  }
};

/** Writes what both forms write alike; false where there is no such writable register. */
const writeRegister = (context: LapicContext, register: number, value: number): boolean => {
  const { state, port } = context;
  switch (register) {
    case TPR:
      state.tpr = value & 0xff;
      port.changed();
      return true;
    case EOI:
      endOfInterrupt(context);
      return true;
    case SVR:
      state.svr = value & 0x1ff;
      // While the APIC is disabled by software, every LVT entry is masked. [SDM 3 §11.4.7.2]
      if ((value & SVR_ENABLE) === 0) for (let i = 0; i < 6; i++) state.lvt[i] = (state.lvt[i] ?? 0) | LVT_MASKED;
      port.changed();
      return true;
    case ESR:
      state.esr = state.errors;
      state.errors = 0;
      return true;
    case INITIAL_COUNT:
      state.initialCount = value;
      restartTimer(context);
      return true;
    case DIVIDE:
      state.divide = value & 0xb;
      restartTimer(context);
      return true;
    default:
      if (register >= LVT && register <= LVT_LAST) {
        writeLvt(context, register - LVT, value);
        return true;
      }
      recordError(context, ESR_REGISTER_ILLEGAL);
      return false;
  }
};

const writeLvt = (context: LapicContext, entry: number, value: number): void => {
  const { state, port } = context;
  let lvt = value & (LVT_WRITABLE[entry] ?? 0) & ~0x1000;
  if ((state.svr & SVR_ENABLE) === 0) lvt |= LVT_MASKED;
  if (entry === LVT_TIMER) writeTimerLvt(context, lvt);
  else state.lvt[entry] = lvt;
  port.changed();
};

const endOfInterrupt = ({ state, port }: LapicContext): void => {
  const vector = highestVector(state.isr);
  if (vector < 0) return;
  clearVector(state.isr, vector);
  if (hasVector(state.tmr, vector)) port.broadcastEoi(vector);
  port.changed();
};

const writeCommand = (context: LapicContext, low: number, destination: number): void => {
  const { state, port } = context;
  // Delivery status is always idle: messages arrive at once.
  state.icrLow = low & 0xccfff & ~0x1000;
  const mode = (low >> 8) & 7;
  if ((mode === DELIVERY_FIXED || mode === DELIVERY_LOWEST) && (low & 0xff) < 16) {
    recordError(context, ESR_SEND_ILLEGAL);
  } else {
    port.command(low, destination);
  }
};

const MSR_X2APIC = 0x800;
const MSR_APIC_BASE = 0x1b;
const MSR_TSC_DEADLINE = 0x6e0;

/** RDMSR; undefined raises #GP. [SDM 3 §11.12] */
export const readLapicMsr = (context: LapicContext, index: number): bigint | undefined => {
  const { state } = context;
  if (index === MSR_APIC_BASE) return BigInt(state.baseAddress) | BigInt(state.baseFlags);
  if (index === MSR_TSC_DEADLINE) return state.tscDeadline;
  if (!inX2apicMode(context)) return undefined;
  const register = index - MSR_X2APIC;
  if (register === ID) return BigInt(state.id);
  if (register === LDR) return BigInt(x2apicLogicalId(state.id) >>> 0);
  if (register === ICR_LOW) return (BigInt(state.icrHigh) << 32n) | BigInt(state.icrLow);
  if (register === DFR || register === EOI || register === APR) return undefined;
  const value = readRegister(context, register);
  return value === undefined ? undefined : BigInt(value >>> 0);
};

/** WRMSR; false raises #GP. */
export const writeLapicMsr = (context: LapicContext, index: number, value: bigint): boolean => {
  const { state } = context;
  if (index === MSR_APIC_BASE) return writeApicBase(context, value);
  if (index === MSR_TSC_DEADLINE) {
    writeTscDeadline(context, value);
    return true;
  }
  if (!inX2apicMode(context)) return false;
  const register = index - MSR_X2APIC;
  const low = Number(value & 0xffffffffn);
  if (register === ICR_LOW) {
    state.icrHigh = Number((value >> 32n) & 0xffffffffn);
    writeCommand(context, low, state.icrHigh);
    return true;
  }
  if (value > 0xffffffffn) return false;
  if (register === SELF_IPI) {
    if (low > 0xff) return false;
    writeCommand(context, 0x40000 | low, 0);
    return true;
  }
  if ((register === EOI || register === ESR) && low !== 0) return false;
  if (register === TPR && low > 0xff) return false;
  if (!isWritable(register)) return false;
  return writeRegister(context, register, low);
};

const isWritable = (register: number): boolean =>
  register === TPR ||
  register === EOI ||
  register === SVR ||
  register === ESR ||
  register === INITIAL_COUNT ||
  register === DIVIDE ||
  (register >= LVT && register <= LVT_LAST);

/** Modes change only along the arrows of [SDM 3 §11.12.5, figure 11-27]. */
const writeApicBase = (context: LapicContext, value: bigint): boolean => {
  const { state, port } = context;
  const flags = Number(value & 0xfffn);
  const address = Number(value & ~0xfffn);
  if ((flags & ~(BASE_BSP | BASE_X2APIC | BASE_ENABLE)) !== 0 || value >= BigInt(MAX_PHYSICAL)) return false;
  const before = state.baseFlags & (BASE_ENABLE | BASE_X2APIC);
  const after = flags & (BASE_ENABLE | BASE_X2APIC);
  if (after === BASE_X2APIC) return false;
  if (before === (BASE_ENABLE | BASE_X2APIC) && after === BASE_ENABLE) return false;
  if (before === 0 && after === (BASE_ENABLE | BASE_X2APIC)) return false;
  state.baseAddress = address;
  state.baseFlags = (state.baseFlags & BASE_BSP) | after;
  // Disabling ends the APIC's state: it comes back as after a reset.
  if (after === 0) resetRegisters(context);
  port.changed();
  return true;
};

const writeTscDeadline = (context: LapicContext, value: bigint): void => {
  const { state, clock } = context;
  // Outside TSC-deadline mode the write is ignored. [SDM 3 §11.5.4.1]
  if ((((state.lvt[LVT_TIMER] ?? 0) >> 17) & 3) !== 2) return;
  state.tscDeadline = value;
  const expiry = Math.ceil(Number(value) * (1e9 / clock.tscHz));
  state.timerExpiry = value === 0n || expiry > Number.MAX_SAFE_INTEGER ? Infinity : expiry;
  const now = clock.now();
  if (state.timerExpiry <= now) expireTimer(context, now);
};
