/**
 * The three binary floating-point formats of x86 [SDM 1 §4.2.2]: single (32 bits), double (64 bits) and the double
 * extended format of the x87 unit (80 bits, explicit integer bit). Values are unpacked into one common shape, which
 * the arithmetic works on, and packed again.
 */

export interface FloatFormat {
  /** Bits of the significand, the integer bit included. */
  readonly precision: number;
  /** Unbiased exponents of the smallest and the largest normal number. */
  readonly minExponent: number;
  readonly maxExponent: number;
  readonly bias: number;
  readonly exponentBits: number;
}

export const BINARY32: FloatFormat = { precision: 24, minExponent: -126, maxExponent: 127, bias: 127, exponentBits: 8 };
export const BINARY64: FloatFormat = {
  precision: 53,
  minExponent: -1022,
  maxExponent: 1023,
  bias: 1023,
  exponentBits: 11,
};
export const EXTENDED: FloatFormat = {
  precision: 64,
  minExponent: -16382,
  maxExponent: 16383,
  bias: 16383,
  exponentBits: 15,
};

/** Classes of a value; every class from QUIET_NAN on is no number. */
export const ZERO = 0;
export const FINITE = 1;
export const INFINITE = 2;
export const QUIET_NAN = 3;
export const SIGNALLING_NAN = 4;
/** An unnormal, pseudo-infinity or pseudo-NaN of the x87 format: an invalid operand [SDM 1 §8.2.2]. */
export const UNSUPPORTED = 5;

/**
 * An unpacked value. A finite one is (-1)^sign * significand * 2^exponent, its significand a positive integer that
 * need not be normalised. Of a NaN the significand holds 64 bits as in the x87 format, so that changing the format
 * of a NaN is a shift.
 */
export interface Float {
  readonly kind: number;
  readonly sign: number;
  readonly exponent: number;
  readonly significand: bigint;
  /** Read from a denormal (or x87 pseudo-denormal) encoding: such an operand raises DE. */
  readonly denormal: boolean;
}

export const INTEGER_BIT = 1n << 63n;
export const QUIET_BIT = 1n << 62n;
const LOW_63 = INTEGER_BIT - 1n;

export function finite(sign: number, significand: bigint, exponent: number): Float {
  return { kind: FINITE, sign, exponent, significand, denormal: false };
}

const zeros: readonly Float[] = [0, 1].map((sign) => ({
  kind: ZERO,
  sign,
  exponent: 0,
  significand: 0n,
  denormal: false,
}));
const infinities: readonly Float[] = [0, 1].map((sign) => ({
  kind: INFINITE,
  sign,
  exponent: 0,
  significand: INTEGER_BIT,
  denormal: false,
}));

export function zero(sign: number): Float {
  return zeros[sign] as Float;
}

export function infinity(sign: number): Float {
  return infinities[sign] as Float;
}

/** QNaN floating-point indefinite: the masked answer to an invalid operation [SDM 1 §4.8.3.7]. */
export const INDEFINITE: Float = {
  kind: QUIET_NAN,
  sign: 1,
  exponent: 0,
  significand: INTEGER_BIT | QUIET_BIT,
  denormal: false,
};

const smallIntegers = Array.from({ length: 256 }, (_, n) => BigInt(n));

/** A shift count as bigint, without an allocation for the usual ones. */
export function small(count: number): bigint {
  return smallIntegers[count] ?? BigInt(count);
}

const scratch = new DataView(new ArrayBuffer(8));

/** Bits of a positive integer below 2^1023, without leading zeros; 0 for 0. */
export function bitLength(value: bigint): number {
  const near = Number(value);
  if (near < 0x8000_0000) return 32 - Math.clz32(near);
  scratch.setFloat64(0, near);
  const high = scratch.getUint32(0);
  const top = (high >> 20) - 1023;
  // Only a power of two may come from rounding up a smaller value.
  if ((high & 0xf_ffff) === 0 && scratch.getUint32(4) === 0 && value >> small(top) === 0n) return top;
  return top + 1;
}

/** 2^0 to 2^64. */
const powers = Array.from({ length: 65 }, (_, n) => 1n << BigInt(n));

/** Unpacks `bits` of a single or double value. */
export function unpack(format: FloatFormat, bits: bigint): Float {
  const fractionBits = format.precision - 1;
  const head = Number(bits >> small(fractionBits));
  const fraction = BigInt.asUintN(fractionBits, bits);
  const exponentMask = (1 << format.exponentBits) - 1;
  const biased = head & exponentMask;
  const sign = (head >> format.exponentBits) & 1;
  if (biased === 0) {
    if (fraction === 0n) return zero(sign);
    const exponent = format.minExponent - fractionBits;
    return { kind: FINITE, sign, exponent, significand: fraction, denormal: true };
  }
  if (biased === exponentMask) {
    if (fraction === 0n) return infinity(sign);
    const significand = INTEGER_BIT | (fraction << small(63 - fractionBits));
    const kind = (significand & QUIET_BIT) === 0n ? SIGNALLING_NAN : QUIET_NAN;
    return { kind, sign, exponent: 0, significand, denormal: false };
  }
  return finite(sign, fraction | (powers[fractionBits] ?? 0n), biased - format.bias - fractionBits);
}

/** Packs a value that has been rounded to `format` (single or double). */
export function pack(format: FloatFormat, value: Float): bigint {
  const fractionBits = format.precision - 1;
  const exponentMask = (1 << format.exponentBits) - 1;
  let biased = exponentMask;
  let fraction = 0n;
  if (value.kind === ZERO) biased = 0;
  else if (value.kind === FINITE) {
    const length = bitLength(value.significand);
    const top = value.exponent + length - 1;
    if (top < format.minExponent) {
      biased = 0;
      fraction = value.significand << small(value.exponent - format.minExponent + fractionBits);
    } else {
      biased = top + format.bias;
      fraction = BigInt.asUintN(fractionBits, align(value.significand, format.precision - length));
    }
  } else if (value.kind >= QUIET_NAN) fraction = (value.significand & LOW_63) >> small(63 - fractionBits);
  const head = (value.sign << format.exponentBits) | biased;
  return (BigInt(head) << small(fractionBits)) | fraction;
}

/** Unpacks an x87 register: `head` is sign and biased exponent (16 bits), `significand` its low 64 bits. */
export function unpackExtended(head: number, significand: bigint): Float {
  const sign = (head >> 15) & 1;
  const biased = head & 0x7fff;
  if (biased === 0) {
    if (significand === 0n) return zero(sign);
    return { kind: FINITE, sign, exponent: EXTENDED.minExponent - 63, significand, denormal: true };
  }
  if ((significand & INTEGER_BIT) === 0n) return { kind: UNSUPPORTED, sign, exponent: 0, significand, denormal: false };
  if (biased === 0x7fff) {
    if (significand === INTEGER_BIT) return infinity(sign);
    const kind = (significand & QUIET_BIT) === 0n ? SIGNALLING_NAN : QUIET_NAN;
    return { kind, sign, exponent: 0, significand, denormal: false };
  }
  return finite(sign, significand, biased - EXTENDED.bias - 63);
}

/** Writes ten bytes at `at`: a value that has been rounded to the x87 format. */
export function storeExtended(view: DataView, at: number, value: Float): void {
  let head = value.sign << 15;
  let { significand } = value;
  if (value.kind === FINITE) {
    const length = bitLength(significand);
    const top = value.exponent + length - 1;
    if (top < EXTENDED.minExponent) significand = align(significand, value.exponent - EXTENDED.minExponent + 63);
    else {
      significand = align(significand, 64 - length);
      head |= top + EXTENDED.bias;
    }
  } else if (value.kind !== ZERO) head |= 0x7fff;
  view.setBigUint64(at, significand, true);
  view.setUint16(at + 8, head, true);
}

/** Shifts left by a count that may be negative; the bits shifted out are zeros, as the value has been rounded. */
function align(significand: bigint, count: number): bigint {
  if (count === 0) return significand;
  return count > 0 ? significand << small(count) : significand >> small(-count);
}
