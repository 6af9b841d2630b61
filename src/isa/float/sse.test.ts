import assert from "node:assert/strict";
import { test } from "node:test";
import { BINARY32, BINARY64 } from "./format.ts";
import { DE, IE, OE, PE, UE, ZE } from "./rounding.ts";
import { approximate, binary, sqrt, unmasked } from "./sse.ts";
import { SSE_OPERATIONS, sseBytes, sseCode, ssePacked } from "./sse-packed.ts";

const DEFAULT_MXCSR = 0x1f80;
const TOWARD_ZERO = 0x7f80;
const FTZ_DAZ = 0x9fc0;

function bits64(value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}

test("double arithmetic equals the host's own, over random operands", () => {
  const words = new BigUint64Array(1);
  const floats = new Float64Array(words.buffer);
  let seed = 12345n;
  const next = (): bigint => {
    seed = BigInt.asUintN(64, seed * 6364136223846793005n + 1442695040888963407n);
    return seed ^ (seed >> 29n);
  };
  const near = (): number => {
    // Exponents within 60 of each other, so that sums cancel and align.
    words[0] = (next() & ~(0x7ffn << 52n)) | ((1000n + (next() & 63n)) << 52n);
    return floats[0] ?? 0;
  };
  for (let i = 0; i < 2000; i++) {
    const [a, b] = [near(), near()];
    const wanted = { add: a + b, sub: a - b, mul: a * b, div: a / b } as const;
    for (const [name, value] of Object.entries(wanted)) {
      const { result } = binary(name as keyof typeof wanted, bits64(a), bits64(b), BINARY64, DEFAULT_MXCSR);
      assert.equal(result, bits64(value), `${a} ${name} ${b}`);
    }
    assert.equal(sqrt(bits64(Math.abs(a)), BINARY64, DEFAULT_MXCSR).result, bits64(Math.sqrt(Math.abs(a))));
  }
});

test("the quick way of packed operations agrees with the exact way", () => {
  const view = new DataView(new ArrayBuffer(48));
  let seed = 1;
  const next = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed;
  };
  let inexact = 0;
  for (const name of ["add", "sub", "mul", "div"] as const) {
    const [single, double] = [sseCode(`${name}ss`), sseCode(`${name}sd`)];
    for (let i = 0; i < 2000; i++) {
      // Few fraction bits, so that exact results are as frequent as inexact ones.
      for (const at of [0, 16]) view.setFloat64(at, ((next() >> (next() % 31)) * 2 ** (next() % 9)) / 16, true);
      const [a, b] = [view.getBigUint64(0, true), view.getBigUint64(16, true)];
      const wanted = binary(name, a, b, BINARY64, DEFAULT_MXCSR);
      assert.equal(ssePacked(double, view, 32, 0, 16, DEFAULT_MXCSR), wanted.flags);
      assert.equal(view.getBigUint64(32, true), wanted.result);
      inexact += wanted.flags & PE;
      for (const at of [0, 16]) view.setFloat32(at, view.getFloat64(at, true), true);
      const [c, d] = [BigInt(view.getUint32(0, true)), BigInt(view.getUint32(16, true))];
      const wantedSingle = binary(name, c, d, BINARY32, DEFAULT_MXCSR);
      assert.equal(ssePacked(single, view, 32, 0, 16, DEFAULT_MXCSR), wantedSingle.flags);
      assert.equal(BigInt(view.getUint32(32, true)), wantedSingle.result);
    }
  }
  assert.ok(inexact > 1000 * PE && inexact < 7000 * PE, `${inexact / PE} of 8000 are inexact`);
});

test("exceptions and their masked answers", () => {
  const run = (name: "add" | "mul" | "div", a: number, b: number, mxcsr = DEFAULT_MXCSR) =>
    binary(name, bits64(a), bits64(b), BINARY64, mxcsr);
  assert.deepEqual(run("div", 1, 0), { result: bits64(Infinity), flags: ZE });
  assert.deepEqual(run("div", 0, 0), { result: 0xfff8_0000_0000_0000n, flags: IE });
  assert.deepEqual(run("mul", 1e300, 1e300), { result: bits64(Infinity), flags: OE | PE });
  assert.deepEqual(run("mul", 1e300, 1e300, TOWARD_ZERO), { result: bits64(Number.MAX_VALUE), flags: OE | PE });
  assert.deepEqual(run("mul", 1e-200, 1e-200), { result: 0n, flags: UE | PE });
  assert.deepEqual(run("add", 5e-324, 1), { result: bits64(1), flags: DE | PE });
  assert.deepEqual(run("add", 5e-324, 1, FTZ_DAZ), { result: bits64(1), flags: 0 });
  // An exact denormal result raises nothing, unless it is flushed.
  assert.deepEqual(run("mul", 2 ** -1000, 2 ** -50), { result: bits64(2 ** -1050), flags: 0 });
  assert.deepEqual(run("mul", 2 ** -1000, 2 ** -50, FTZ_DAZ), { result: 0n, flags: UE | PE });
});

test("NaNs: the first operand's payload, made quiet", () => {
  const signalling = 0x7ff0_0000_0000_0123n;
  const quiet = 0xfff8_0000_0000_0456n;
  assert.deepEqual(binary("add", signalling, quiet, BINARY64, DEFAULT_MXCSR), {
    result: 0x7ff8_0000_0000_0123n,
    flags: IE,
  });
  assert.deepEqual(binary("add", bits64(1), quiet, BINARY64, DEFAULT_MXCSR), { result: quiet, flags: 0 });
  // MIN and MAX give the second operand as it is.
  assert.deepEqual(binary("min", quiet, signalling, BINARY64, DEFAULT_MXCSR), { result: signalling, flags: IE });
});

test("an unmasked exception leaves the destination alone", () => {
  const view = new DataView(new SharedArrayBuffer(48));
  view.setFloat32(0, 1, true);
  view.setFloat32(4, 2, true);
  view.setFloat32(20, 4, true);
  const unmaskedZero = DEFAULT_MXCSR & ~(ZE << 7);
  const flags = ssePacked(sseCode("divps"), view, 0, 0, 16, unmaskedZero);
  assert.equal(flags, IE | ZE);
  assert.equal(unmasked(flags, unmaskedZero), ZE);
  assert.deepEqual([view.getFloat32(0, true), view.getFloat32(4, true)], [1, 2]);
  assert.equal(ssePacked(sseCode("divps"), view, 0, 0, 16, DEFAULT_MXCSR), IE | ZE);
  assert.deepEqual([view.getFloat32(0, true), view.getFloat32(4, true)], [Infinity, 0.5]);
});

test("scalar forms keep the rest of the register; compares give EFLAGS", () => {
  const view = new DataView(new ArrayBuffer(32));
  view.setFloat64(0, 2.5, true);
  view.setFloat64(8, 7, true);
  view.setFloat64(16, -3.5, true);
  assert.equal(ssePacked(sseCode("ucomisd"), view, 0, 0, 16, DEFAULT_MXCSR), 0);
  assert.equal(ssePacked(sseCode("ucomisd"), view, 0, 16, 0, DEFAULT_MXCSR), 1 << 8);
  assert.equal(ssePacked(sseCode("cvtsd2si32"), view, 0, 0, 16, DEFAULT_MXCSR), PE);
  assert.equal(view.getInt32(0, true), -4);
  assert.equal(view.getFloat64(8, true), 7);
  assert.equal(sseBytes(sseCode("cvtsd2si32")), 4);
});

test("approximations stay within 1.5 * 2^-12", () => {
  const view = new DataView(new ArrayBuffer(4));
  for (let bits = 0x0100_0000; bits < 0x7e00_0000; bits += 65_521) {
    view.setUint32(0, bits);
    const value = view.getFloat32(0);
    view.setUint32(0, approximate(bits, false));
    assert.ok(Math.abs(view.getFloat32(0) * value - 1) < 1.5 * 2 ** -12, `1/${value}`);
    view.setUint32(0, approximate(bits, true));
    assert.ok(Math.abs(view.getFloat32(0) * Math.sqrt(value) - 1) < 1.5 * 2 ** -12, `1/sqrt(${value})`);
  }
});

test("operation codes fit a byte and unknown names are refused", () => {
  assert.ok(SSE_OPERATIONS.length <= 256);
  assert.equal(new Set(SSE_OPERATIONS).size, SSE_OPERATIONS.length);
  assert.throws(() => sseCode("fadd"), RangeError);
  assert.deepEqual(binary("add", 0x3f80_0000n, 0x4000_0000n, BINARY32, DEFAULT_MXCSR).result, 0x4040_0000n);
});
