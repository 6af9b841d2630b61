/**
 * The processor's window on a VGA's four memory planes. [IBM VGA hardware reference: Graphics Controller, Sequencer]
 *
 * Planes lie one after the other. Text mode interleaves: even addresses reach plane 0, the characters; odd ones
 * plane 1, their attributes; both at the even offset. Fonts are loaded through the planar modes.
 */

export const PLANE_BYTES = 0x10000;
export const PLANES = 4;

/** The registers that steer an access, and the latches that it goes through. */
export interface VgaMemory {
  readonly memory: Uint8Array;
  readonly sequencer: Uint8Array;
  readonly graphics: Uint8Array;
  /** The last bytes read in planar mode, one a plane. */
  readonly latches: Uint8Array;
}

export const SEQUENCER = { clocking: 1, mapMask: 2, memoryMode: 4 } as const;
export const GRAPHICS = {
  setReset: 0,
  enableSetReset: 1,
  compare: 2,
  rotate: 3,
  readMap: 4,
  mode: 5,
  misc: 6,
  dontCare: 7,
  bitMask: 8,
} as const;
const CHAIN_4 = 0x08;
const ODD_EVEN = 0x10;
const READ_COMPARE = 0x08;

/** Windows by the memory map field of the graphics controller's miscellaneous register, from 0xa0000. */
const WINDOWS = [
  { start: 0, size: 0x20000 },
  { start: 0, size: 0x10000 },
  { start: 0x10000, size: 0x8000 },
  { start: 0x18000, size: 0x8000 },
] as const;

/** The offset in the window that is open, or -1 where the address lies outside of it. */
const within = ({ graphics }: VgaMemory, offset: number): number => {
  const { start, size } = WINDOWS[((graphics[GRAPHICS.misc] ?? 0) >> 2) & 3] ?? WINDOWS[0];
  return offset >= start && offset < start + size ? (offset - start) & (PLANE_BYTES - 1) : -1;
};

const register = (registers: Uint8Array, index: number): number => registers[index] ?? 0;

/** The plane and the offset of an access in the modes that lead each address to one plane; undefined: planar. */
const chained = ({ sequencer, graphics }: VgaMemory, at: number): { plane: number; offset: number } | undefined => {
  if ((register(sequencer, SEQUENCER.memoryMode) & CHAIN_4) !== 0) return { plane: at & 3, offset: at & ~3 };
  if ((register(graphics, GRAPHICS.mode) & ODD_EVEN) === 0) return undefined;
  return { plane: (register(graphics, GRAPHICS.readMap) & 2) | (at & 1), offset: at & ~1 };
};

/** Reads a byte; `offset` counts from 0xa0000. */
export function readVgaMemory(vga: VgaMemory, offset: number): number {
  const at = within(vga, offset);
  if (at < 0) return 0xff;
  const { memory, graphics, latches } = vga;
  const single = chained(vga, at);
  if (single !== undefined) return memory[single.plane * PLANE_BYTES + single.offset] ?? 0;
  for (let plane = 0; plane < PLANES; plane++) latches[plane] = memory[plane * PLANE_BYTES + at] ?? 0;
  if ((register(graphics, GRAPHICS.mode) & READ_COMPARE) === 0) {
    return latches[register(graphics, GRAPHICS.readMap) & 3] ?? 0;
  }
  // Bits that equal the colour to compare in every plane that is cared for.
  let equal = 0xff;
  for (let plane = 0; plane < PLANES; plane++) {
    if (((register(graphics, GRAPHICS.dontCare) >> plane) & 1) === 0) continue;
    const wanted = spread(register(graphics, GRAPHICS.compare), plane);
    equal &= ~((latches[plane] ?? 0) ^ wanted);
  }
  return equal & 0xff;
}

/** Bit `plane` of a register as eight bits. */
const spread = (value: number, plane: number): number => (((value >> plane) & 1) !== 0 ? 0xff : 0);

const rotated = (value: number, count: number): number => ((value >> count) | (value << (8 - count))) & 0xff;

/** The logical unit between the processor's data and a latch. */
const combine = (operation: number, value: number, latch: number): number => {
  if (operation === 1) return value & latch;
  if (operation === 2) return value | latch;
  return operation === 3 ? value ^ latch : value;
};

/** What write mode `mode` stores into a plane. */
const planarByte = ({ graphics, latches }: VgaMemory, mode: number, plane: number, value: number): number => {
  const latch = latches[plane] ?? 0;
  if (mode === 1) return latch;
  const rotate = register(graphics, GRAPHICS.rotate);
  const setReset = register(graphics, GRAPHICS.setReset);
  let mask = register(graphics, GRAPHICS.bitMask);
  let data = rotated(value, rotate & 7);
  if (mode === 3) {
    mask &= data;
    data = spread(setReset, plane);
  } else if (mode === 2) {
    data = spread(value, plane);
  } else if (((register(graphics, GRAPHICS.enableSetReset) >> plane) & 1) !== 0) {
    data = spread(setReset, plane);
  }
  return (combine((rotate >> 3) & 3, data, latch) & mask) | (latch & ~mask & 0xff);
};

/** Writes a byte; `offset` counts from 0xa0000. */
export function writeVgaMemory(vga: VgaMemory, offset: number, value: number): void {
  const at = within(vga, offset);
  if (at < 0) return;
  const { memory, sequencer, graphics } = vga;
  const enabled = register(sequencer, SEQUENCER.mapMask);
  const single = chained(vga, at);
  if (single !== undefined) {
    if (((enabled >> single.plane) & 1) !== 0) memory[single.plane * PLANE_BYTES + single.offset] = value;
    return;
  }
  const mode = register(graphics, GRAPHICS.mode) & 3;
  for (let plane = 0; plane < PLANES; plane++) {
    if (((enabled >> plane) & 1) !== 0) memory[plane * PLANE_BYTES + at] = planarByte(vga, mode, plane, value);
  }
}
