/**
 * The state before a case: registers with roles, so that memory operands mostly hit the window; values that lie on
 * boundaries more often than chance would have it; XMM lanes that are special floating-point values.
 */

import { BLOCK, HOT_REACH, PAGE, WINDOW_HIGH, WINDOW_LOW, WINDOW_SEAM } from "./layout.ts";
import { FINISHED } from "./image.ts";
import type { Random } from "./random.ts";

/**
 * What a general register holds before the case. The generator prefers bases that are pointers, and for indirect jumps
 * registers that hold `code`: the address to which a case jumps at its end.
 */
export const ROLE = { any: 0, pointer: 1, small: 2, code: 3 } as const;
export type Role = (typeof ROLE)[keyof typeof ROLE];

/** The seam's two addresses; the high one as low and high half. */
const SEAM_LOW = Number(WINDOW_LOW) + WINDOW_SEAM;
const SEAM_HIGH = [Number(WINDOW_HIGH & 0xffff_ffffn) + WINDOW_SEAM, Number(WINDOW_HIGH >> 32n)] as const;
const FINISHED_LOW = Number(FINISHED & 0xffff_ffffn);
const FINISHED_HIGH = Number(FINISHED >> 32n);
const CODE_CHANCE = 0.06;
const POOL_BYTES = 1 << 16;
const RSP = 4;
/** How often a register is a pointer, by number: those with implicit uses (RBX, RSP, RBP, RSI, RDI) more often. */
const POINTER_CHANCE = [0.1, 0.05, 0.1, 0.5, 0.95, 0.6, 0.75, 0.75, 0.25, 0.25, 0.25, 0.25, 0.4, 0.4, 0.4, 0.4];
const SMALL_CHANCE = [0.2, 0.5, 0.3, 0.2, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2];

const F32 = [
  0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f812345,
  0xff800001, 0x00000001, 0x807fffff, 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000,
  0x4effffff, 0x5f000000, 0x3effffff, 0x3f000000, 0x3fc00000, 0x40200000, 0x4b000001, 0x33800000, 0x1f800000,
];
const F64: readonly (readonly [high: number, low: number])[] = [
  [0x00000000, 0],
  [0x80000000, 0],
  [0x3ff00000, 0],
  [0xbff00000, 0],
  [0x7ff00000, 0],
  [0xfff00000, 0],
  [0x7ff80000, 0],
  [0xfff81234, 0x5678],
  [0x7ff00000, 1],
  [0xfff12345, 0],
  [0, 1],
  [0x800fffff, 0xffffffff],
  [0x00100000, 0],
  [0x7fefffff, 0xffffffff],
  [0xffefffff, 0xffffffff],
  [0x41e00000, 0],
  [0xc1e00000, 0],
  [0x41dfffff, 0xffc00000],
  [0x43e00000, 0],
  [0xc3e00000, 0],
  [0x3fe00000, 0],
  [0x3ff80000, 0],
  [0x40040000, 0],
  [0x47efffff, 0xe0000000],
  [0x47efffff, 0xf0000000],
  [0x38100000, 0],
  [0x36a00000, 0],
  [0x43300000, 1],
];

export class InputMaker {
  /** Bytes of special and random values, 16-byte aligned: cases take slices of it. */
  readonly #pool = new Uint8Array(POOL_BYTES);
  readonly roles: Role[] = new Array<Role>(16).fill(ROLE.any);

  constructor(random: Random) {
    const view = new DataView(this.#pool.buffer);
    for (let at = 0; at < POOL_BYTES; at += 16) {
      const kind = random.below(13);
      for (let lane = 0; lane < 16; lane += 8) {
        const [high, low] = random.pick(F64);
        if (kind === 0) {
          view.setUint32(at + lane, low, true);
          view.setUint32(at + lane + 4, high, true);
        } else if (kind === 1) {
          view.setUint32(at + lane, random.pick(F32), true);
          view.setUint32(at + lane + 4, random.pick(F32), true);
        } else if (kind === 2) {
          // Near each other in magnitude, so that additions round and cancel.
          view.setUint32(at + lane, random.u32(), true);
          view.setUint32(at + lane + 4, 0x3fe00000 + random.below(0x400000) + (random.below(2) << 31), true);
        } else if (kind === 3) {
          view.setUint32(at + lane, 0x3f000000 + random.below(0x2000000), true);
          view.setUint32(at + lane + 4, 0xbf000000 + random.below(0x2000000), true);
        } else if (kind === 4) {
          // Words, and words for MXCSR.
          view.setUint32(at + lane, random.below(0x10000), true);
          view.setUint32(at + lane + 4, random.below(0x10000) | 0x1f80, true);
        } else if (kind === 5) {
          view.setUint32(at + lane, FINISHED_LOW, true);
          view.setUint32(at + lane + 4, FINISHED_HIGH, true);
        } else {
          view.setUint32(at + lane, random.u32(), true);
          view.setUint32(at + lane + 4, random.u32(), true);
        }
      }
    }
  }

  /** The window's pages before a batch. */
  window(bytes: number): Uint8Array {
    const window = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += PAGE)
      window.set(this.#pool.subarray(at % POOL_BYTES, (at % POOL_BYTES) + PAGE), at);
    return window;
  }

  /** Writes a block, all but the code's address, and sets `roles`. `view` is over the buffer that `block` lies in. */
  fill(random: Random, view: DataView, block: Uint8Array): void {
    const at = block.byteOffset - view.byteOffset;
    block.fill(0, 0, BLOCK.hot);
    view.setUint16(at + BLOCK.fx, 0x37f, true);
    view.setUint32(at + BLOCK.fx + 24, this.#mxcsr(random), true);
    if (random.chance(0.3)) this.#x87(random, view, at, block);
    const xmm = random.below((POOL_BYTES - 256) / 16) * 16;
    block.set(this.#pool.subarray(xmm, xmm + 256), BLOCK.fx + 160);
    const hot = random.below((POOL_BYTES - BLOCK.hotBytes) / 16) * 16;
    block.set(this.#pool.subarray(hot, hot + BLOCK.hotBytes), BLOCK.hot);
    for (let register = 0; register < 16; register++) {
      const place = at + BLOCK.gpr + 8 * register;
      const roll = random.u32() / 2 ** 32;
      const pointer = POINTER_CHANCE[register] ?? 0;
      if (roll < pointer) {
        this.roles[register] = ROLE.pointer;
        this.#pointer(random, view, place, register === RSP);
      } else if (roll < pointer + (SMALL_CHANCE[register] ?? 0)) {
        this.roles[register] = ROLE.small;
        view.setUint32(place, random.below(random.chance(0.3) ? 80 : 12), true);
      } else if (roll > 1 - CODE_CHANCE) {
        this.roles[register] = ROLE.code;
        view.setUint32(place, FINISHED_LOW, true);
        view.setUint32(place + 4, FINISHED_HIGH, true);
      } else {
        this.roles[register] = ROLE.any;
        this.#value(random, view, place);
      }
    }
    if (random.chance(0.3)) this.#returnAddress(view, at);
    // Arithmetic flags at random; DF sometimes; AC rarely.
    const flags = (random.u32() & 0x8d5) | 2 | (random.chance(0.15) ? 0x400 : 0) | (random.chance(0.002) ? 0x40000 : 0);
    view.setUint32(at + BLOCK.rflags, flags, true);
  }

  /** Puts the end's address where RSP points, if that lies in the hot bytes. */
  #returnAddress(view: DataView, at: number): void {
    const rsp = view.getUint32(at + BLOCK.gpr + 8 * RSP, true);
    const high = view.getUint32(at + BLOCK.gpr + 8 * RSP + 4, true) !== 0;
    const place = rsp - (high ? SEAM_HIGH[0] : SEAM_LOW) + HOT_REACH;
    if (place < 0 || place > BLOCK.hotBytes - 8) return;
    view.setUint32(at + BLOCK.hot + place, FINISHED_LOW, true);
    view.setUint32(at + BLOCK.hot + place + 4, FINISHED_HIGH, true);
  }

  /** x87 registers in use: values of the pool as significands under near exponents, any precision and rounding. */
  #x87(random: Random, view: DataView, at: number, block: Uint8Array): void {
    const rounding = random.chance(0.5) ? 0x37f : 0x7f | (random.below(16) << 8);
    view.setUint16(at + BLOCK.fx, random.chance(0.05) ? rounding & ~random.below(64) : rounding, true);
    view.setUint16(at + BLOCK.fx + 2, (random.below(8) << 11) | (random.u32() & 0x4700), true);
    view.setUint8(at + BLOCK.fx + 4, random.chance(0.6) ? 0xff : random.below(256));
    for (let register = 0; register < 8; register++) {
      const place = BLOCK.fx + 32 + 16 * register;
      const from = random.below(POOL_BYTES / 8) * 8;
      block.set(this.#pool.subarray(from, from + 8), place);
      const kind = random.below(16);
      // Most numbers are normal: the integer bit set, the exponent near that of 1. The rest is zero, special or odd.
      let exponent = 0x3fff + random.below(140) - 70;
      if (kind === 0) exponent = 0;
      else if (kind === 1) exponent = 0x7fff;
      else if (kind === 2) exponent = random.below(0x8000);
      if (kind === 3) {
        block.fill(0, place, place + 8);
        exponent = 0;
      } else if (kind !== 0 && kind !== 4) block[place + 7] = (block[place + 7] ?? 0) | 0x80;
      if (kind === 1 && random.chance(0.5)) block.fill(0, place, place + 7);
      view.setUint16(at + place + 8, exponent | (random.below(2) << 15), true);
    }
  }

  /** Mostly the default; else any rounding, DAZ, FTZ, sticky flags; rarely an exception unmasked. */
  #mxcsr(random: Random): number {
    if (random.chance(0.6)) return 0x1f80;
    const unmasked = random.chance(0.05) ? 0x1f80 & ~random.u32() : 0x1f80;
    return (random.u32() & 0xe07f & (random.chance(0.7) ? 0x607f : 0xffff)) | unmasked;
  }

  #pointer(random: Random, view: DataView, place: number, stack: boolean): void {
    let delta: number;
    const roll = random.below(256);
    // The edges: the read-only page below A, and the end of B, beyond which nothing is mapped.
    if (roll < 4 && !stack) delta = (random.chance(0.5) ? -PAGE : PAGE) - 8 + random.below(16);
    else {
      delta = random.below(HOT_REACH) - HOT_REACH / 2;
      if (roll < 200) delta &= ~15;
      else if (stack) delta &= ~7;
    }
    const high = random.chance(0.7);
    view.setUint32(place, (high ? SEAM_HIGH[0] : SEAM_LOW) + delta, true);
    view.setUint32(place + 4, high ? SEAM_HIGH[1] : 0, true);
  }

  /** A number of a random kind: on a boundary of some width, a power of two, or any bits. */
  #value(random: Random, view: DataView, place: number): void {
    let low = random.u32();
    let high = random.u32();
    const kind = low & 7;
    if (kind === 0) {
      high = -(low >>> 31);
      low = high;
    } else if (kind === 1) {
      // The greatest or the least number of 8, 16, 32 or 64 bits, give or take one.
      const width = [8, 16, 32, 64][(high >>> 4) & 3] ?? 8;
      const value = (1n << BigInt(width - ((high >>> 8) & 1))) + BigInt((high & 3) - 1);
      low = Number(value & 0xffff_ffffn);
      high = Number((value >> 32n) & 0xffff_ffffn);
    } else if (kind === 2) {
      const bit = high & 63;
      low = bit < 32 ? 1 << bit : 0;
      high = bit < 32 ? 0 : 1 << (bit - 32);
    } else if (kind === 3) high = 0;
    else if (kind === 4) high = low >> 31;
    view.setInt32(place, low | 0, true);
    view.setInt32(place + 4, high | 0, true);
  }
}
