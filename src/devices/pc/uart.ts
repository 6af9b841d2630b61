/**
 * The 16550A UART. [PC16550D data sheet, TL/C/8652; its section numbers are cited as PC16550D §n]
 *
 * Characters leave at once, whatever the baud rate: the transmitter is empty unless the host's side is full. Then the
 * FIFO holds what it can and THRE stays low, so that no output is lost. Deviation: input waits on the host's side
 * until the guest can receive: it connected the received-data interrupt, or asserted DTR and RTS, or polls the line
 * status without sending. And what the guest has not been told of survives the clearing of a FIFO, as if it had arrived
 * right after. So a driver that tries the interrupt bits and empties the FIFO while it starts drops nothing that was
 * typed ahead.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { bool, bytes, f64, u8, u16 } from "../state.ts";

export const COM1_PORT = 0x3f8;
export const COM1_IRQ = 4;

/** The host's side of the line. */
export interface SerialLine {
  /** Sends one byte; false where there is no room. */
  send(byte: number): boolean;
  /** Receives one byte; -1 where there is none. */
  receive(): number;
  /** Gives the host a moment to make room: called where the guest polls a transmitter that is held up. */
  yieldToHost(): void;
}

const FIFO_BYTES = 16;
/** Received bytes that raise the interrupt, by FCR bits 7:6. */
const TRIGGERS = [1, 4, 8, 14] as const;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IER_RLSI = 0x04;
const IER_MSI = 0x08;
const IIR_NONE = 0x01;
const IIR_MODEM = 0x00;
const IIR_THR_EMPTY = 0x02;
const IIR_DATA = 0x04;
const IIR_LINE = 0x06;
const IIR_TIMEOUT = 0x0c;
const IIR_FIFOS = 0xc0;
const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;
const FCR_CLEAR_TX = 0x04;
const LCR_DLAB = 0x80;
const MCR_DTR_RTS = 0x03;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;
const LSR_DATA_READY = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_ERRORS = 0x1e;
const LSR_THR_EMPTY = 0x20;
const LSR_IDLE = 0x40;
/** DCD, DSR and CTS: a terminal is there. */
const MSR_CONNECTED = 0xb0;

/** So many reads of LSR with nothing sent between them are a guest that waits for input; a driver that starts makes few. */
const WAITING_POLLS = 32;

const CLOCK_HZ = 1_843_200;
const BITS_PER_CHARACTER = 10;

const STATE = {
  ier: u8,
  lcr: u8,
  mcr: u8,
  scratch: u8,
  divisor: u16,
  fifosEnabled: bool,
  trigger: u8,
  /** Error bits of LSR, until it is read. */
  errors: u8,
  /** Delta bits of MSR, until it is read. */
  msrDelta: u8,
  rx: bytes(FIFO_BYTES),
  rxHead: u8,
  rxCount: u8,
  tx: bytes(FIFO_BYTES),
  txHead: u8,
  txCount: u8,
  /** The "transmitter holding register empty" interrupt is due. */
  thrInterrupt: bool,
  /** Guest ns at which bytes below the trigger level time out; Infinity if there are none. */
  rxTimeout: f64,
  timedOut: bool,
  /** The guest has seen, in LSR or IIR, that there is received data. */
  rxSeen: bool,
  /** Reads of LSR since the last write of data, up to WAITING_POLLS. */
  polls: u8,
};

export type UartContext = DeviceContext<typeof STATE, SerialLine>;

export const uart = defineDevice<SerialLine>()({
  name: "uart",
  version: 1,
  ranges: [pio(COM1_PORT, 8)],
  state: STATE,
  reset({ state, irq }) {
    state.divisor = 12;
    state.trigger = 1;
    state.rxTimeout = Infinity;
    irq.lower();
  },
  read: (context, offset) => readRegister(context, offset),
  write: (context, offset, _size, value) => writeRegister(context, offset, value),
  deadline: ({ state }) => state.rxTimeout,
  expire(context, now) {
    const { state } = context;
    if (now < state.rxTimeout) return;
    state.rxTimeout = Infinity;
    state.timedOut = state.rxCount > 0;
    updateIrq(context);
  },
});

const readRegister = (context: UartContext, offset: number): number => {
  const { state, port } = context;
  const dlab = (state.lcr & LCR_DLAB) !== 0;
  switch (offset) {
    case 0:
      return dlab ? state.divisor & 0xff : readData(context);
    case 1:
      return dlab ? state.divisor >> 8 : state.ier;
    case 2: {
      const cause = interruptCause(context);
      if (cause === IIR_DATA || cause === IIR_TIMEOUT) state.rxSeen = true;
      // Reading IIR ends the transmitter's interrupt, if that is what it shows. [PC16550D §8.6.4]
      if (cause === IIR_THR_EMPTY) {
        state.thrInterrupt = false;
        updateIrq(context);
      }
      return cause | (state.fifosEnabled ? IIR_FIFOS : 0);
    }
    case 3:
      return state.lcr;
    case 4:
      return state.mcr;
    case 5: {
      if (state.txCount > 0) {
        port.yieldToHost();
        drainUart(context);
      } else if (state.polls < WAITING_POLLS) {
        state.polls++;
        if (state.polls === WAITING_POLLS) receiveUart(context);
      }
      const lsr =
        (state.rxCount > 0 ? LSR_DATA_READY : 0) | state.errors | (state.txCount === 0 ? LSR_THR_EMPTY | LSR_IDLE : 0);
      state.errors = 0;
      if (state.rxCount > 0) state.rxSeen = true;
      updateIrq(context);
      return lsr;
    }
    case 6: {
      const msr = modemLines(state.mcr) | state.msrDelta;
      state.msrDelta = 0;
      updateIrq(context);
      return msr;
    }
    default:
      return state.scratch;
  }
};

const writeRegister = (context: UartContext, offset: number, value: number): void => {
  const { state } = context;
  const dlab = (state.lcr & LCR_DLAB) !== 0;
  switch (offset) {
    case 0:
      if (dlab) state.divisor = (state.divisor & 0xff00) | value;
      else writeData(context, value);
      break;
    case 1:
      if (dlab) state.divisor = (state.divisor & 0xff) | (value << 8);
      else writeInterruptEnable(context, value & 0x0f);
      break;
    case 2:
      writeFifoControl(context, value);
      break;
    case 3:
      state.lcr = value;
      break;
    case 4:
      writeModemControl(context, value & 0x1f);
      break;
    case 7:
      state.scratch = value;
      break;
    default: // LSR and MSR are for reading
  }
};

/** MSR bits 7:4; in loop-back mode they follow MCR's outputs: OUT2, OUT1, DTR, RTS. [PC16550D §8.7] */
const modemLines = (mcr: number): number => {
  if ((mcr & MCR_LOOP) === 0) return MSR_CONNECTED;
  return ((mcr & 0x0c) << 4) | ((mcr & 0x01) << 5) | ((mcr & 0x02) << 3);
};

const writeModemControl = (context: UartContext, value: number): void => {
  const { state } = context;
  const before = modemLines(state.mcr);
  state.mcr = value;
  const after = modemLines(value);
  const changed = before ^ after;
  // Bit 2 tells only of the ring indicator's trailing edge.
  state.msrDelta |= ((changed >> 4) & 0x0b) | ((before & ~after & 0x40) >> 4);
  receiveUart(context);
};

const writeInterruptEnable = (context: UartContext, value: number): void => {
  const { state } = context;
  // Enabling the transmitter's interrupt while the transmitter is empty interrupts at once.
  if ((value & IER_THRI) !== 0 && (state.ier & IER_THRI) === 0 && state.txCount === 0) state.thrInterrupt = true;
  state.ier = value;
  receiveUart(context);
};

const writeFifoControl = (context: UartContext, value: number): void => {
  const { state } = context;
  const enable = (value & FCR_ENABLE) !== 0;
  // A change of mode empties both FIFOs; the other bits count only while bit 0 is written as 1. [PC16550D §8.4]
  const changes = enable !== state.fifosEnabled;
  if (state.rxSeen && (changes || (enable && (value & FCR_CLEAR_RX) !== 0))) {
    state.rxSeen = false;
    state.rxCount = 0;
    state.timedOut = false;
    state.rxTimeout = Infinity;
  }
  if ((changes || (enable && (value & FCR_CLEAR_TX) !== 0)) && state.txCount > 0) {
    state.txCount = 0;
    state.thrInterrupt = true;
  }
  state.fifosEnabled = enable;
  state.trigger = enable ? (TRIGGERS[value >> 6] ?? 1) : 1;
  receiveUart(context);
};

const rxCapacity = ({ state }: UartContext): number => (state.fifosEnabled ? FIFO_BYTES : 1);

const pushReceived = (context: UartContext, byte: number): void => {
  const { state } = context;
  if (state.rxCount >= rxCapacity(context)) {
    // The FIFO keeps what it has; without FIFOs the new character overwrites the old. [PC16550D §8.3]
    state.errors |= LSR_OVERRUN;
    if (state.fifosEnabled) return;
    state.rxCount = 0;
  }
  state.rx[(state.rxHead + state.rxCount) % FIFO_BYTES] = byte;
  state.rxCount++;
};

/** Takes from the host what the receiver has room for. The host's side calls it after putting bytes on the line. */
export const receiveUart = (context: UartContext): void => {
  const { state, port } = context;
  const interrupts = (state.ier & IER_RDI) !== 0 && (state.mcr & MCR_OUT2) !== 0;
  const ready = interrupts || (state.mcr & MCR_DTR_RTS) === MCR_DTR_RTS || state.polls === WAITING_POLLS;
  if (ready && (state.mcr & MCR_LOOP) === 0) {
    const before = state.rxCount;
    while (state.rxCount < rxCapacity(context)) {
      const byte = port.receive();
      if (byte < 0) break;
      pushReceived(context, byte);
    }
    if (state.rxCount !== before) restartTimeout(context);
  }
  updateIrq(context);
};

/** Bytes wait for four character times, counted from the last one received or read. [PC16550D §8.6.3] */
const restartTimeout = ({ state, clock }: UartContext): void => {
  const characterNs = (BITS_PER_CHARACTER * 16 * Math.max(state.divisor, 1) * 1e9) / CLOCK_HZ;
  const waits = state.fifosEnabled && state.rxCount > 0 && state.rxCount < state.trigger;
  state.rxTimeout = waits ? clock.now() + Math.ceil(4 * characterNs) : Infinity;
};

const readData = (context: UartContext): number => {
  const { state } = context;
  state.timedOut = false;
  if (state.rxCount === 0) {
    receiveUart(context);
    return 0;
  }
  const byte = state.rx[state.rxHead % FIFO_BYTES] ?? 0;
  state.rxHead = (state.rxHead + 1) % FIFO_BYTES;
  state.rxCount--;
  state.rxSeen = false;
  receiveUart(context);
  restartTimeout(context);
  return byte;
};

const writeData = (context: UartContext, byte: number): void => {
  const { state, port } = context;
  state.thrInterrupt = false;
  state.polls = 0;
  // The falling edge is what an edge-triggered controller waits for before the next interrupt.
  updateIrq(context);
  if ((state.mcr & MCR_LOOP) !== 0) {
    pushReceived(context, byte);
    restartTimeout(context);
    state.thrInterrupt = true;
  } else if (state.txCount === 0 && port.send(byte)) {
    state.thrInterrupt = true;
  } else if (state.txCount < (state.fifosEnabled ? FIFO_BYTES : 1)) {
    state.tx[(state.txHead + state.txCount) % FIFO_BYTES] = byte;
    state.txCount++;
  }
  updateIrq(context);
};

/** Sends what was held back. The host's side calls it after making room. */
export const drainUart = (context: UartContext): void => {
  const { state, port } = context;
  if (state.txCount === 0) return;
  while (state.txCount > 0 && port.send(state.tx[state.txHead % FIFO_BYTES] ?? 0)) {
    state.txHead = (state.txHead + 1) % FIFO_BYTES;
    state.txCount--;
  }
  if (state.txCount === 0) state.thrInterrupt = true;
  updateIrq(context);
};

/** The pending interrupt of the highest priority, as IIR shows it. [PC16550D table III] */
const interruptCause = ({ state }: UartContext): number => {
  const { ier } = state;
  if ((ier & IER_RLSI) !== 0 && (state.errors & LSR_ERRORS) !== 0) return IIR_LINE;
  if ((ier & IER_RDI) !== 0 && state.rxCount >= state.trigger) return IIR_DATA;
  if ((ier & IER_RDI) !== 0 && state.timedOut && state.rxCount > 0) return IIR_TIMEOUT;
  if ((ier & IER_THRI) !== 0 && state.thrInterrupt) return IIR_THR_EMPTY;
  if ((ier & IER_MSI) !== 0 && (state.msrDelta & 0x0f) !== 0) return IIR_MODEM;
  return IIR_NONE;
};

/** On a PC, OUT2 connects the interrupt to its line. */
const updateIrq = (context: UartContext): void => {
  const { state, irq } = context;
  const connected = (state.mcr & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
  if (connected && interruptCause(context) !== IIR_NONE) irq.raise();
  else irq.lower();
};
