/**
 * The keyboard controller with a keyboard and no mouse, and port 0x92. [IBM PS/2 Technical Reference, keyboard and
 * auxiliary device controller; keyboard commands: IBM PS/2 101-key keyboard]
 *
 * Commands for the auxiliary port are answered as a controller without one does, so that drivers give up at once
 * instead of waiting. Gate A20 is one flip-flop behind both of its ports.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { bool, bytes, u8 } from "../state.ts";
import { scanCodeSet2 } from "./scan-codes.ts";

export interface I8042Port {
  /** The processor's reset line was pulsed. */
  reset(): void;
  /** The gate of address line 20 was opened or shut. */
  gateA20(open: boolean): void;
  /** The next byte that the keys send, in scan code set 1; -1 where nothing is pressed or released. */
  key(): number;
}

const STATUS_OUTPUT_FULL = 0x01;
const STATUS_SYSTEM = 0x04;
const STATUS_COMMAND = 0x08;
const STATUS_UNLOCKED = 0x10;
const CONFIG_IRQ1 = 0x01;
const CONFIG_SYSTEM = 0x04;
const CONFIG_KEYBOARD_OFF = 0x10;
const CONFIG_AUX_OFF = 0x20;
const CONFIG_TRANSLATE = 0x40;
const OUTPUT_RESET_HIGH = 0x01;
const OUTPUT_A20 = 0x02;
const ACK = 0xfa;
const RESEND = 0xfe;
const SELF_TEST_PASSED = 0xaa;
/** Auxiliary interface test: data line stuck high, that is, nothing there. */
const AUX_TEST_FAILED = 0x04;

const QUEUE_BYTES = 16;

const STATE = {
  queue: bytes(QUEUE_BYTES),
  queueHead: u8,
  queueCount: u8,
  config: u8,
  outputPort: u8,
  /** The controller command whose data byte is awaited at 0x60; 0 if none. */
  command: u8,
  /** Likewise for the keyboard. */
  keyboardCommand: u8,
  /** Last write went to 0x64. */
  lastWasCommand: u8,
  leds: u8,
  /** What the keyboard sends: scan code set 1 or 2. */
  scanSet: u8,
  /** The keyboard has been told to send nothing. */
  silent: bool,
  ram: bytes(32),
};

export type I8042Context = DeviceContext<typeof STATE, I8042Port>;

export const i8042 = defineDevice<I8042Port>()({
  name: "i8042",
  version: 2,
  ranges: [pio(0x60, 1), pio(0x64, 1), pio(0x92, 1)],
  state: STATE,
  migrations: { 1: (saved) => ({ ...saved, silent: false }) },
  reset({ state, irq }) {
    state.config = CONFIG_SYSTEM | CONFIG_AUX_OFF | CONFIG_TRANSLATE | CONFIG_IRQ1;
    state.outputPort = 0xcc | OUTPUT_RESET_HIGH | OUTPUT_A20;
    state.scanSet = 2;
    irq.lower();
  },
  read(context, offset) {
    const { state } = context;
    if (offset === 0) return take(context);
    if (offset === 2) return state.outputPort & OUTPUT_A20;
    return (
      (state.queueCount > 0 ? STATUS_OUTPUT_FULL : 0) |
      (state.config & CONFIG_SYSTEM ? STATUS_SYSTEM : 0) |
      (state.lastWasCommand !== 0 ? STATUS_COMMAND : 0) |
      STATUS_UNLOCKED
    );
  },
  write(context, offset, _size, value) {
    const { state, port } = context;
    if (offset === 2) {
      setOutputPort(context, (state.outputPort & ~OUTPUT_A20) | (value & OUTPUT_A20));
      if ((value & 1) !== 0) port.reset();
      return;
    }
    state.lastWasCommand = offset;
    if (offset === 1) controllerCommand(context, value);
    else if (state.command !== 0) controllerData(context, value);
    else keyboardByte(context, value);
    takeKeys(context);
  },
});

/**
 * Takes what the keys send, one byte at a time: the next waits until the processor has read the last. To be called when
 * there is something new.
 */
export const takeKeys = (context: I8042Context): void => {
  const { state, port } = context;
  const heard = !state.silent && (state.config & CONFIG_KEYBOARD_OFF) === 0;
  // A command's bytes and a break code's prefix must not be torn apart.
  if (heard && state.queueCount === 0 && state.command === 0 && state.keyboardCommand === 0) {
    const code = port.key();
    if (code >= 0) {
      // The controller turns set 2 into set 1; a keyboard in set 1 needs no such turn, and gets none.
      const asSet2 = state.scanSet === 2 && (state.config & CONFIG_TRANSLATE) === 0;
      for (const byte of asSet2 ? scanCodeSet2(code) : [code]) put(context, byte);
    }
  }
  updateIrq(context);
};

const put = ({ state }: I8042Context, value: number): void => {
  if (state.queueCount >= QUEUE_BYTES) return;
  state.queue[(state.queueHead + state.queueCount) % QUEUE_BYTES] = value;
  state.queueCount++;
};

const take = (context: I8042Context): number => {
  const { state, irq } = context;
  const value = state.queue[state.queueHead % QUEUE_BYTES] ?? 0;
  // An empty buffer shows its last byte again.
  if (state.queueCount === 0) return state.queue[(state.queueHead + QUEUE_BYTES - 1) % QUEUE_BYTES] ?? 0;
  state.queueHead = (state.queueHead + 1) % QUEUE_BYTES;
  state.queueCount--;
  // Each byte is one edge.
  irq.lower();
  takeKeys(context);
  return value;
};

const updateIrq = ({ state, irq }: I8042Context): void => {
  if (state.queueCount > 0 && (state.config & CONFIG_IRQ1) !== 0) irq.raise();
  else irq.lower();
};

/** Whether address line 20 reaches the memory. */
export const a20Open = ({ state }: I8042Context): boolean => (state.outputPort & OUTPUT_A20) !== 0;

const setOutputPort = (context: I8042Context, value: number): void => {
  const before = a20Open(context);
  context.state.outputPort = value;
  if (a20Open(context) !== before) context.port.gateA20(!before);
};

const controllerCommand = (context: I8042Context, value: number): void => {
  const { state, port } = context;
  state.command = 0;
  if (value >= 0x20 && value < 0x40) {
    put(context, value === 0x20 ? state.config : (state.ram[value & 0x1f] ?? 0));
    return;
  }
  if (value >= 0x60 && value < 0x80) {
    state.command = value;
    return;
  }
  switch (value) {
    case 0xa7: // disable the auxiliary interface
      state.config |= CONFIG_AUX_OFF;
      break;
    case 0xa8: // there is none to enable
      break;
    case 0xa9:
      put(context, AUX_TEST_FAILED);
      break;
    case 0xaa: // self test, which also resets the configuration
      state.queueCount = 0;
      state.config = CONFIG_SYSTEM | CONFIG_KEYBOARD_OFF | CONFIG_AUX_OFF | CONFIG_TRANSLATE;
      put(context, 0x55);
      break;
    case 0xab: // keyboard interface test: no error
      put(context, 0x00);
      break;
    case 0xad:
      state.config |= CONFIG_KEYBOARD_OFF;
      break;
    case 0xae:
      state.config &= ~CONFIG_KEYBOARD_OFF;
      break;
    case 0xc0: // input port
      put(context, 0x80);
      break;
    case 0xd0:
      put(context, state.outputPort);
      break;
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4:
      state.command = value;
      break;
    case 0xdd:
      setOutputPort(context, state.outputPort & ~OUTPUT_A20);
      break;
    case 0xdf:
      setOutputPort(context, state.outputPort | OUTPUT_A20);
      break;
    default:
      // F0 to FF pulse the output bits that are written as 0; bit 0 is the reset line.
      if (value >= 0xf0 && (value & 1) === 0) port.reset();
  }
};

const controllerData = (context: I8042Context, value: number): void => {
  const { state, port } = context;
  const { command } = state;
  state.command = 0;
  if (command === 0x60) {
    state.config = value | CONFIG_AUX_OFF;
  } else if (command > 0x60 && command < 0x80) {
    state.ram[command & 0x1f] = value;
  } else if (command === 0xd1) {
    setOutputPort(context, value);
    if ((value & OUTPUT_RESET_HIGH) === 0) port.reset();
  } else if (command === 0xd2 || command === 0xd3) {
    // 0xd3 without an auxiliary port comes back as keyboard data: that tells a driver that there is none.
    put(context, value);
  } else if (command === 0xd4) {
    // No device acknowledges: a real controller reports a time-out by this byte.
    put(context, RESEND);
  }
};

/** Parameters of the keyboard's commands of two bytes. */
const keyboardParameter = (context: I8042Context, command: number, value: number): void => {
  const { state } = context;
  put(context, ACK);
  if (command === 0xed) state.leds = value & 7;
  if (command !== 0xf0) return;
  if (value === 0) put(context, state.scanSet);
  // A keyboard without set 3 stays in the set it is in.
  else if (value <= 2) state.scanSet = value;
};

const keyboardByte = (context: I8042Context, value: number): void => {
  const { state } = context;
  // Sending to the keyboard enables its interface.
  state.config &= ~CONFIG_KEYBOARD_OFF;
  const pending = state.keyboardCommand;
  state.keyboardCommand = 0;
  if (pending !== 0 && value < 0xed) {
    keyboardParameter(context, pending, value);
    return;
  }
  switch (value) {
    case 0xed: // LEDs
    case 0xf0: // scan code set
    case 0xf3: // repeat rate
      state.keyboardCommand = value;
      put(context, ACK);
      break;
    case 0xee: // echo
      put(context, 0xee);
      break;
    case 0xf2: // identify
      put(context, ACK);
      put(context, 0xab);
      // Translation turns the id's second byte, 0x83, into 0x41, as it does scan codes.
      put(context, (state.config & CONFIG_TRANSLATE) !== 0 ? 0x41 : 0x83);
      break;
    case 0xf6: // defaults
    case 0xf5: // and disable
    case 0xf4: // enable
      state.silent = value === 0xf5;
      if (value !== 0xf4) state.scanSet = 2;
      put(context, ACK);
      break;
    case 0xff:
      state.leds = 0;
      state.scanSet = 2;
      state.silent = false;
      put(context, ACK);
      put(context, SELF_TEST_PASSED);
      break;
    default:
      put(context, RESEND);
  }
};
