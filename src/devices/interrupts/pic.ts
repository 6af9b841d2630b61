/**
 * Two 8259A interrupt controllers in cascade, with the edge/level control registers of the PC's south bridges.
 * [8259A data sheet, order 231468-003; ELCR: 82371SB data sheet §2.5.6]
 *
 * Deviation, shared with every PC chip set since: an edge stays latched in IRR when its line drops before the
 * acknowledge, where the original part would report a spurious IR7. LTIM of ICW1 is ignored: ELCR decides.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { bool, u8s } from "../state.ts";

/** What the pair is wired to. */
export interface PicPort {
  /** The INT output may have changed. */
  changed(): void;
}

const MASTER = 0;
const SLAVE = 1;
/** The master's input that the slave's output drives. */
const CASCADE = 2;
/** IRQ 0, 1, 2, 8 and 13 are edge-triggered on a PC: their ELCR bits are fixed at zero. */
const ELCR_WRITABLE = [0xf8, 0xde] as const;

const ICW1 = 0x10;
const ICW1_IC4 = 0x01;
const ICW1_SNGL = 0x02;
const ICW4_AEOI = 0x02;
const ICW4_SFNM = 0x10;
const OCW3 = 0x08;
const OCW3_POLL = 0x04;

/** One element per chip, master first. */
const STATE = {
  irr: u8s(2),
  imr: u8s(2),
  isr: u8s(2),
  /** Level of each input, for the edge detector. */
  lines: u8s(2),
  elcr: u8s(2),
  /** Bits 7:3 of the vectors (ICW2). */
  base: u8s(2),
  icw4: u8s(2),
  /** The input of the lowest priority: 7 until rotated. */
  lowest: u8s(2),
  /** The ICW awaited at the odd port: 2, 3, 4, or 0 for none. */
  awaited: u8s(2),
  /** ICW1 as written, while initializing. */
  icw1: u8s(2),
  readIsr: u8s(2),
  poll: u8s(2),
  specialMask: u8s(2),
  rotateInAeoi: u8s(2),
  output: bool,
};

type PicContext = DeviceContext<typeof STATE, PicPort>;

export const pic = defineDevice<PicPort>()({
  name: "pic",
  version: 1,
  ranges: [pio(0x20, 2), pio(0xa0, 2), pio(0x4d0, 2)],
  state: STATE,
  reset({ state }) {
    state.lowest.fill(7);
    // The part leaves this open; masked is how firmware hands it over.
    state.imr.fill(0xff);
  },
  read(context, offset) {
    const { state } = context;
    if (offset >= 4) return state.elcr[offset - 4] ?? 0xff;
    const chip = offset >> 1;
    if (state.poll[chip] !== 0) {
      state.poll[chip] = 0;
      return pollChip(context, chip);
    }
    if ((offset & 1) !== 0) return at(state.imr, chip);
    return at(state.readIsr[chip] === 0 ? state.irr : state.isr, chip);
  },
  write(context, offset, _size, value) {
    const { state } = context;
    if (offset >= 4) {
      const chip = offset - 4;
      if (chip <= SLAVE) state.elcr[chip] = value & (ELCR_WRITABLE[chip] ?? 0);
    } else if ((offset & 1) !== 0) {
      writeOdd(context, offset >> 1, value);
    } else if ((value & ICW1) !== 0) {
      initialize(context, offset >> 1, value);
    } else if ((value & OCW3) !== 0) {
      writeOcw3(context, offset >> 1, value);
    } else {
      writeOcw2(context, offset >> 1, value);
    }
    update(context);
  },
});

const at = (array: Uint8Array, chip: number): number => array[chip] ?? 0;

const initialize = ({ state }: PicContext, chip: number, value: number): void => {
  state.icw1[chip] = value;
  state.awaited[chip] = 2;
  state.imr[chip] = 0;
  state.isr[chip] = 0;
  // Edges seen so far are forgotten; an input must go low and high again. Level-triggered inputs stay requested.
  state.irr[chip] = at(state.irr, chip) & at(state.elcr, chip);
  state.lowest[chip] = 7;
  state.readIsr[chip] = 0;
  state.poll[chip] = 0;
  state.specialMask[chip] = 0;
  state.rotateInAeoi[chip] = 0;
  state.icw4[chip] = 0;
};

const writeOdd = ({ state }: PicContext, chip: number, value: number): void => {
  const icw1 = at(state.icw1, chip);
  const afterIcw3 = (icw1 & ICW1_IC4) !== 0 ? 4 : 0;
  switch (state.awaited[chip]) {
    case 2:
      state.base[chip] = value & 0xf8;
      state.awaited[chip] = (icw1 & ICW1_SNGL) !== 0 ? afterIcw3 : 3;
      break;
    case 3:
      // The cascade is wired, so ICW3 only takes its turn.
      state.awaited[chip] = afterIcw3;
      break;
    case 4:
      state.icw4[chip] = value;
      state.awaited[chip] = 0;
      break;
    default:
      state.imr[chip] = value;
  }
};

const writeOcw3 = ({ state }: PicContext, chip: number, value: number): void => {
  if ((value & 0x40) !== 0) state.specialMask[chip] = (value >> 5) & 1;
  if ((value & OCW3_POLL) !== 0) state.poll[chip] = 1;
  if ((value & 0x02) !== 0) state.readIsr[chip] = value & 1;
};

const writeOcw2 = ({ state }: PicContext, chip: number, value: number): void => {
  const level = value & 7;
  const serving = highest(at(state.isr, chip), at(state.lowest, chip));
  switch (value >> 5) {
    case 0: // rotate in automatic EOI, off
    case 4: // and on
      state.rotateInAeoi[chip] = value >> 7;
      break;
    case 1: // non-specific EOI
    case 5: // and rotate
      if (serving < 0) break;
      state.isr[chip] = at(state.isr, chip) & ~(1 << serving);
      if (value >> 5 === 5) state.lowest[chip] = serving;
      break;
    case 3: // specific EOI
    case 7: // and rotate
      state.isr[chip] = at(state.isr, chip) & ~(1 << level);
      if (value >> 5 === 7) state.lowest[chip] = level;
      break;
    case 6: // set priority
      state.lowest[chip] = level;
      break;
    default: // no operation
  }
};

/** The set input of the highest priority, or -1. */
const highest = (set: number, lowest: number): number => {
  if (set === 0) return -1;
  for (let step = 1; step <= 8; step++) {
    const input = (lowest + step) & 7;
    if ((set & (1 << input)) !== 0) return input;
  }
  return -1;
};

/** The input that a chip asks its INT output for, or -1: it must outrank all that is in service. */
const requested = ({ state }: PicContext, chip: number): number => {
  const lowest = at(state.lowest, chip);
  const imr = at(state.imr, chip);
  const input = highest(at(state.irr, chip) & ~imr, lowest);
  if (input < 0 || at(state.awaited, chip) !== 0) return -1;
  let serving = at(state.isr, chip);
  if (state.specialMask[chip] !== 0) serving &= ~imr;
  // Special fully nested mode: the slave may interrupt again while one of its requests is in service.
  if (chip === MASTER && (at(state.icw4, MASTER) & ICW4_SFNM) !== 0) serving &= ~(1 << CASCADE);
  const current = highest(serving, lowest);
  const rank = (input - lowest - 1) & 7;
  return current < 0 || rank < ((current - lowest - 1) & 7) ? input : -1;
};

const setInput = ({ state }: PicContext, chip: number, input: number, level: boolean): void => {
  const bit = 1 << input;
  const rising = level && (at(state.lines, chip) & bit) === 0;
  const levelTriggered = (at(state.elcr, chip) & bit) !== 0;
  if (level) {
    state.lines[chip] = at(state.lines, chip) | bit;
    if (rising || levelTriggered) state.irr[chip] = at(state.irr, chip) | bit;
  } else {
    state.lines[chip] = at(state.lines, chip) & ~bit;
    if (levelTriggered) state.irr[chip] = at(state.irr, chip) & ~bit;
  }
};

/** Carries the slave's output to the master and the master's to the processor. */
const update = (context: PicContext): void => {
  setInput(context, MASTER, CASCADE, requested(context, SLAVE) >= 0);
  const output = requested(context, MASTER) >= 0;
  if (output === context.state.output) return;
  context.state.output = output;
  context.port.changed();
};

/** Takes a chip's request into service; result: the input, 7 if the request is gone (spurious). */
const take = ({ state }: PicContext, chip: number, input: number): number => {
  if (input < 0) return 7;
  const bit = 1 << input;
  if ((at(state.elcr, chip) & bit) === 0) state.irr[chip] = at(state.irr, chip) & ~bit;
  if ((at(state.icw4, chip) & ICW4_AEOI) === 0) {
    state.isr[chip] = at(state.isr, chip) | bit;
  } else if (state.rotateInAeoi[chip] !== 0) {
    state.lowest[chip] = input;
  }
  return input;
};

/** The poll command: the next read acknowledges, and shows the input with bit 7 set if there was one. */
const pollChip = (context: PicContext, chip: number): number => {
  const input = requested(context, chip);
  if (input < 0) return 0;
  take(context, chip, input);
  afterTake(context, chip);
  return 0x80 | input;
};

/** The slave's output falls with every acknowledge, so that a request still standing gives the master a new edge. */
const afterTake = (context: PicContext, chip: number): void => {
  if (chip === SLAVE) setInput(context, MASTER, CASCADE, false);
  update(context);
};

/** Sets an ISA interrupt line, 0 to 15. Line 2 is the cascade's and has no source. */
export const setPicLine = (context: PicContext, irq: number, level: boolean): void => {
  if (irq === CASCADE) return;
  setInput(context, irq >> 3, irq & 7, level);
  update(context);
};

/** The INT output. */
export const picRequests = ({ state }: PicContext): boolean => state.output;

/** The processor's INTA cycles: takes the request into service and gives its vector. */
export const acknowledgePic = (context: PicContext): number => {
  const { state } = context;
  const input = take(context, MASTER, requested(context, MASTER));
  if (input !== CASCADE) {
    afterTake(context, MASTER);
    return at(state.base, MASTER) | input;
  }
  const slaveInput = take(context, SLAVE, requested(context, SLAVE));
  afterTake(context, SLAVE);
  return at(state.base, SLAVE) | slaveInput;
};
