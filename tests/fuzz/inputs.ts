/**
 * The state before a case: registers with roles, so that memory operands mostly hit the window; values that lie on
 * boundaries more often than chance would have it; XMM lanes that are special floating-point values.
 */

import { BLOCK, type CodeBits, HOT_REACH, PAGE, WINDOW_HIGH, WINDOW_LOW, WINDOW_SEAM } from "./layout.ts";
import { FINISHED, FINISHED_32 } from "./image.ts";
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
  readonly #poolWords = new Int32Array(this.#pool.buffer);
  readonly roles: Role[] = new Array<Role>(16).fill(ROLE.any);

  readonly #bits: CodeBits;

  constructor(random: Random, bits: CodeBits) {
    this.#bits = bits;
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

  /** Draws what each general register is to hold. */
  drawRoles(random: Random): void {
    for (let register = 0; register < 16; register++) {
      const roll = random.u32() / 2 ** 32;
      const pointer = POINTER_CHANCE[register] ?? 0;
      let role: Role = ROLE.any;
      if (roll < pointer) role = ROLE.pointer;
      else if (roll < pointer + (SMALL_CHANCE[register] ?? 0)) role = ROLE.small;
      else if (roll > 1 - CODE_CHANCE) role = ROLE.code;
      this.roles[register] = role;
    }
  }

  /** Writes the block at word `at`, which holds zeros, by `roles`; all but the code's address. */
  fill(random: Random, words: Int32Array, at: number): void {
    words[at] = 0x37f;
    words[at + BLOCK.fx / 4 + 6] = this.#mxcsr(random);
    if (random.chance(0.3)) this.#x87(random, words, at + BLOCK.fx / 4);
    this.#copy(random, words, at + (BLOCK.fx + 160) / 4, 64);
    this.#copy(random, words, at + BLOCK.hot / 4, BLOCK.hotBytes / 4);
    for (let register = 0; register < 16; register++) {
      const place = at + BLOCK.gpr / 4 + 2 * register;
      const role = this.roles[register];
      if (role === ROLE.pointer) this.#pointer(random, words, place, register === RSP);
      else if (role === ROLE.small) words[place] = random.below(random.chance(0.3) ? 80 : 12);
      else if (role === ROLE.code) {
        words[place] = this.#bits === 64 ? FINISHED_LOW : Number(FINISHED_32);
        words[place + 1] = FINISHED_HIGH;
      } else this.#value(random, words, place);
      if (this.#bits === 32) words[place + 1] = 0;
    }
    if (random.chance(0.3)) this.#returnAddress(words, at);
    // Arithmetic flags at random; DF sometimes; AC rarely.
    const flags = (random.u32() & 0x8d5) | 2 | (random.chance(0.15) ? 0x400 : 0) | (random.chance(0.01) ? 0x40000 : 0);
    words[at + BLOCK.rflags / 4] = flags;
  }

  /** `count` words from a random place of the pool. */
  #copy(random: Random, words: Int32Array, at: number, count: number): void {
    const from = random.below((POOL_BYTES - 4 * count) / 16) * 4;
    for (let i = 0; i < count; i++) words[at + i] = this.#poolWords[from + i] ?? 0;
  }

  /** Puts the end's address where RSP points, if that lies in the hot bytes, at a multiple of 4. */
  #returnAddress(words: Int32Array, at: number): void {
    const rsp = (words[at + BLOCK.gpr / 4 + 2 * RSP] ?? 0) >>> 0;
    const high = words[at + BLOCK.gpr / 4 + 2 * RSP + 1] !== 0;
    const place = rsp - (high ? SEAM_HIGH[0] : SEAM_LOW) + HOT_REACH;
    if (place < 0 || place > BLOCK.hotBytes - 8 || (place & 3) !== 0) return;
    words[at + (BLOCK.hot + place) / 4] = this.#bits === 64 ? FINISHED_LOW : Number(FINISHED_32);
    if (this.#bits === 64) words[at + (BLOCK.hot + place) / 4 + 1] = FINISHED_HIGH;
  }

  /** x87 registers in use: values of the pool as significands under near exponents, any precision and rounding. */
  #x87(random: Random, words: Int32Array, fx: number): void {
    const rounding = random.chance(0.5) ? 0x37f : 0x7f | (random.below(16) << 8);
    const control = random.chance(0.05) ? rounding & ~random.below(64) : rounding;
    words[fx] = control | (random.below(8) << 27) | ((random.u32() & 0x4700) << 16);
    words[fx + 1] = random.chance(0.6) ? 0xff : random.below(256);
    for (let register = 0; register < 8; register++) {
      const place = fx + 8 + 4 * register;
      const from = random.below(POOL_BYTES / 8) * 2;
      let low = this.#poolWords[from] ?? 0;
      let high = this.#poolWords[from + 1] ?? 0;
      const kind = random.below(16);
      // Most numbers are normal: the integer bit set, the exponent near that of 1. The rest is zero, special or odd.
      let exponent = 0x3fff + random.below(140) - 70;
      if (kind === 0) exponent = 0;
      else if (kind === 1) exponent = 0x7fff;
      else if (kind === 2) exponent = random.below(0x8000);
      if (kind === 3) {
        low = 0;
        high = 0;
        exponent = 0;
      } else if (kind !== 0 && kind !== 4) high |= 0x8000_0000;
      if (kind === 1 && random.chance(0.5)) {
        low = 0;
        high &= 0xff00_0000;
      }
      words[place] = low;
      words[place + 1] = high;
      words[place + 2] = exponent | (random.below(2) << 15);
    }
  }

  /** Mostly the default; else any rounding, DAZ, FTZ, sticky flags; rarely an exception unmasked. */
  #mxcsr(random: Random): number {
    if (random.chance(0.6)) return 0x1f80;
    const unmasked = random.chance(0.05) ? 0x1f80 & ~random.u32() : 0x1f80;
    return (random.u32() & 0xe07f & (random.chance(0.7) ? 0x607f : 0xffff)) | unmasked;
  }

  #pointer(random: Random, words: Int32Array, place: number, stack: boolean): void {
    let delta: number;
    const roll = random.below(256);
    // The edges: the read-only page below A, and the end of B, beyond which nothing is mapped.
    if (roll < 4 && !stack) delta = (random.chance(0.5) ? -PAGE : PAGE) - 8 + random.below(16);
    else {
      delta = random.below(HOT_REACH) - HOT_REACH / 2;
      if (roll < 200) delta &= ~15;
      else if (stack) delta &= ~7;
    }
    const high = random.chance(0.7) && this.#bits === 64;
    words[place] = (high ? SEAM_HIGH[0] : SEAM_LOW) + delta;
    words[place + 1] = high ? SEAM_HIGH[1] : 0;
  }

  /** A number of a random kind: on a boundary of some width, a power of two, or any bits. */
  #value(random: Random, words: Int32Array, place: number): void {
    let low = random.u32() | 0;
    let high = random.u32() | 0;
    const kind = low & 7;
    if (kind === 0) {
      high = low >> 31;
      low = high;
    } else if (kind === 1) {
      // The greatest or the least number of 8, 16, 32 or 64 bits, give or take one.
      const bit = (8 << ((high >>> 4) & 3)) - ((high >>> 8) & 1);
      const distance = (high & 3) - 1;
      const power = bit < 32 ? 1 << bit : 0;
      low = (power + distance) | 0;
      // Below zero the borrow runs through the high half; the least power is 2^7.
      high = (bit >= 32 && bit < 64 ? 1 << (bit - 32) : 0) - (power === 0 && distance < 0 ? 1 : 0);
    } else if (kind === 2) {
      const bit = high & 63;
      low = bit < 32 ? 1 << bit : 0;
      high = bit < 32 ? 0 : 1 << (bit - 32);
    } else if (kind === 3) high = 0;
    else if (kind === 4) high = low >> 31;
    words[place] = low;
    words[place + 1] = high;
  }
}
