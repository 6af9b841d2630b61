/**
 * A VGA as text-mode programs use it: four planes of memory, all register files, and the screen as characters.
 * [IBM VGA hardware reference; FreeVGA project, register descriptions]
 *
 * It starts in mode 3, 80 x 25 characters, since no firmware sets it. Nothing draws pixels: in a graphics mode registers
 * and memory behave, but there is no screen to show. The monochrome addresses 0x3b4 to 0x3ba are not decoded.
 */

import { VGA_WINDOW } from "../../memory/guest-memory.ts";
import { defineDevice, type DeviceContext, mmio, pio } from "../device.ts";
import { bool, bytes, u8, u8s } from "../state.ts";
import { CRTC, type TextScreen, textScreen } from "./text-screen.ts";
import { GRAPHICS, PLANE_BYTES, PLANES, readVgaMemory, writeVgaMemory } from "./vga-memory.ts";

const FIRST_PORT = 0x3c0;
const PORTS = 0x20;
/** Ports, as offsets from 0x3c0. */
const PORT = {
  attribute: 0x00,
  attributeRead: 0x01,
  misc: 0x02,
  sequencerIndex: 0x04,
  sequencer: 0x05,
  dacMask: 0x06,
  dacReadIndex: 0x07,
  dacWriteIndex: 0x08,
  dac: 0x09,
  miscRead: 0x0c,
  graphicsIndex: 0x0e,
  graphics: 0x0f,
  crtcIndex: 0x14,
  crtc: 0x15,
  status: 0x1a,
} as const;

/** Registers in mode 3, as a VGA's BIOS sets them. */
const MODE_3 = {
  misc: 0x67,
  sequencer: [0x03, 0x00, 0x03, 0x00, 0x02],
  crtc: [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x1f,
    0x96, 0xb9, 0xa3, 0xff,
  ],
  graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff],
  attribute: [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0, 0x0f, 0x08, 0],
} as const;
const ATTRIBUTE_REGISTERS = MODE_3.attribute.length;
/** In the attribute controller's index: the palette is the screen's, not the processor's to write. */
const PALETTE_ON = 0x20;
const PALETTE_ENTRIES = 16;
const COLOUR_BITS = 0x3f;
/** Cleared screen: light grey spaces on black. */
const BLANK = { character: 0x20, attribute: 0x07 } as const;
/** CRTC index 0x11, bit 7: registers 0 to 7 are protected, but for a bit of the line compare in 7. */
const CRTC_PROTECT = 0x80;
const PROTECTED_REGISTERS = 7;
const LINE_COMPARE_BIT = 0x10;
/** 400 lines at 70 Hz: ns of a frame and of a line, and how much of them is visible. */
const FRAME_NS = 14_268_000;
const LINE_NS = FRAME_NS / 449;
const VISIBLE_LINES = 400;
const RETRACE_LINES = { start: 412, end: 414 } as const;
const VISIBLE_SHARE = 0.8;
const STATUS_BLANKED = 0x01;
const STATUS_RETRACE = 0x08;
/** Input status 0: a colour monitor answers the sense line. */
const STATUS_0 = 0x10;
const DAC_WRITING = 0;
const DAC_READING = 3;

const STATE = {
  memory: bytes(PLANES * PLANE_BYTES),
  latches: u8s(PLANES),
  misc: u8,
  sequencerIndex: u8,
  sequencer: u8s(8),
  crtcIndex: u8,
  crtc: u8s(32),
  graphicsIndex: u8,
  graphics: u8s(16),
  attributeIndex: u8,
  attribute: u8s(32),
  /** The next write to 0x3c0 is data. */
  attributeData: bool,
  /** 256 colours of red, green and blue, 6 bits each. */
  dac: bytes(768),
  dacMask: u8,
  dacMode: u8,
  dacReadIndex: u8,
  dacWriteIndex: u8,
  /** Which of a colour's three bytes comes next. */
  dacStep: u8,
};

export type VgaContext = DeviceContext<typeof STATE, null>;

export const vga = defineDevice<null>()({
  name: "vga",
  version: 1,
  ranges: [pio(FIRST_PORT, PORTS), mmio(VGA_WINDOW.start, VGA_WINDOW.end - VGA_WINDOW.start)],
  state: STATE,
  reset({ state }) {
    state.misc = MODE_3.misc;
    state.sequencer.set(MODE_3.sequencer);
    state.crtc.set(MODE_3.crtc);
    state.graphics.set(MODE_3.graphics);
    state.attribute.set(MODE_3.attribute);
    state.attributeIndex = PALETTE_ON;
    state.dacMask = 0xff;
    // The first 64 colours: bits 2:0 of the index are the strong halves of red, green, blue; bits 5:3 the weak ones.
    for (let colour = 0; colour < 64; colour++) {
      for (let part = 0; part < 3; part++) {
        const strong = (colour >> (2 - part)) & 1;
        const weak = (colour >> (5 - part)) & 1;
        state.dac[colour * 3 + part] = strong * 0x2a + weak * 0x15;
      }
    }
    for (let at = 0; at < PLANE_BYTES / 2; at += 2) {
      state.memory[at] = BLANK.character;
      state.memory[PLANE_BYTES + at] = BLANK.attribute;
    }
  },
  read: (context, offset) =>
    offset >= PORTS ? readVgaMemory(context.state, offset - PORTS) : readPort(context, offset),
  write(context, offset, _size, value) {
    if (offset >= PORTS) writeVgaMemory(context.state, offset - PORTS, value);
    else writePort(context.state, offset, value);
  },
});

const readPort = ({ state, clock }: VgaContext, port: number): number => {
  switch (port) {
    case PORT.attribute:
      return state.attributeIndex;
    case PORT.attributeRead:
      return state.attribute[state.attributeIndex & 0x1f] ?? 0;
    case PORT.misc:
      return STATUS_0;
    case PORT.sequencerIndex:
      return state.sequencerIndex;
    case PORT.sequencer:
      return state.sequencer[state.sequencerIndex & 7] ?? 0;
    case PORT.dacMask:
      return state.dacMask;
    case PORT.dacReadIndex:
      return state.dacMode;
    case PORT.dacWriteIndex:
      return state.dacWriteIndex;
    case PORT.dac:
      return readColour(state);
    case PORT.miscRead:
      return state.misc;
    case PORT.graphicsIndex:
      return state.graphicsIndex;
    case PORT.graphics:
      return state.graphics[state.graphicsIndex & 0xf] ?? 0;
    case PORT.crtcIndex:
      return state.crtcIndex;
    case PORT.crtc:
      return state.crtc[state.crtcIndex & 0x1f] ?? 0;
    case PORT.status:
      state.attributeData = false;
      return beamStatus(clock.now());
    default:
      return port === 0x0a ? 0 : 0xff;
  }
};

/** Where the beam is: programs wait for the retrace before they change what is shown. */
const beamStatus = (now: number): number => {
  const inFrame = now % FRAME_NS;
  const line = Math.floor(inFrame / LINE_NS);
  const visible = line < VISIBLE_LINES && inFrame % LINE_NS < LINE_NS * VISIBLE_SHARE;
  const retrace = line >= RETRACE_LINES.start && line < RETRACE_LINES.end;
  return (visible ? 0 : STATUS_BLANKED) | (retrace ? STATUS_RETRACE : 0);
};

const writePort = (state: VgaContext["state"], port: number, value: number): void => {
  switch (port) {
    case PORT.attribute:
      writeAttribute(state, value);
      break;
    case PORT.misc:
      state.misc = value;
      break;
    case PORT.sequencerIndex:
      state.sequencerIndex = value & 7;
      break;
    case PORT.sequencer:
      state.sequencer[state.sequencerIndex & 7] = value;
      break;
    case PORT.dacMask:
      state.dacMask = value;
      break;
    case PORT.dacReadIndex:
      state.dacReadIndex = value;
      state.dacStep = 0;
      state.dacMode = DAC_READING;
      break;
    case PORT.dacWriteIndex:
      state.dacWriteIndex = value;
      state.dacStep = 0;
      state.dacMode = DAC_WRITING;
      break;
    case PORT.dac:
      writeColour(state, value);
      break;
    case PORT.graphicsIndex:
      state.graphicsIndex = value & 0xf;
      break;
    case PORT.graphics:
      state.graphics[state.graphicsIndex & 0xf] = value;
      break;
    case PORT.crtcIndex:
      state.crtcIndex = value & 0x1f;
      break;
    case PORT.crtc:
      writeCrtc(state.crtc, state.crtcIndex & 0x1f, value);
  }
};

const writeCrtc = (crtc: Uint8Array, index: number, value: number): void => {
  if (((crtc[CRTC.protect] ?? 0) & CRTC_PROTECT) === 0 || index > PROTECTED_REGISTERS) {
    crtc[index] = value;
  } else if (index === CRTC.overflow) {
    crtc[index] = ((crtc[index] ?? 0) & ~LINE_COMPARE_BIT) | (value & LINE_COMPARE_BIT);
  }
};

/** Index and data alternate at one port; reading the status register begins with the index again. */
const writeAttribute = (state: VgaContext["state"], value: number): void => {
  if (!state.attributeData) {
    state.attributeIndex = value & 0x3f;
  } else {
    const index = state.attributeIndex & 0x1f;
    const paletteLocked = index < PALETTE_ENTRIES && (state.attributeIndex & PALETTE_ON) !== 0;
    if (index < ATTRIBUTE_REGISTERS && !paletteLocked) {
      state.attribute[index] = index < PALETTE_ENTRIES ? value & COLOUR_BITS : value;
    }
  }
  state.attributeData = !state.attributeData;
};

const readColour = (state: VgaContext["state"]): number => {
  const value = state.dac[state.dacReadIndex * 3 + (state.dacStep % 3)] ?? 0;
  state.dacStep = (state.dacStep + 1) % 3;
  if (state.dacStep === 0) state.dacReadIndex++;
  return value;
};

const writeColour = (state: VgaContext["state"], value: number): void => {
  state.dac[state.dacWriteIndex * 3 + (state.dacStep % 3)] = value & COLOUR_BITS;
  state.dacStep = (state.dacStep + 1) % 3;
  if (state.dacStep === 0) state.dacWriteIndex++;
};

/** What a text mode shows now; undefined in a graphics mode. */
export function readScreen({ state }: VgaContext): TextScreen | undefined {
  const graphicsMode = ((state.graphics[GRAPHICS.misc] ?? 0) & 1) !== 0;
  return graphicsMode ? undefined : textScreen(state);
}
