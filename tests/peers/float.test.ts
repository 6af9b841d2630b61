/** The floating-point library against this machine's processor, with fresh random cases every run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { replaySse, replayX87, SSE_RECORD_BYTES, X87_RECORD_BYTES } from "../../src/isa/float/replay.ts";
import { sseCode } from "../../src/isa/float/sse-packed.ts";
import { buildFloatOracle } from "./float-oracle.ts";

const skip = process.arch === "x64" && process.platform === "linux" ? false : "needs an x86-64 Linux host with gcc";
const SSE_CASES = 300_000;
const X87_CASES = 150_000;
/** Opcode and ModRM of the transcendental functions, and cases of each. */
const TRANSCENDENTAL = [
  ["f2xm1", 0xd9, 0xf0],
  ["fyl2x", 0xd9, 0xf1],
  ["fptan", 0xd9, 0xf2],
  ["fpatan", 0xd9, 0xf3],
  ["fyl2xp1", 0xd9, 0xf9],
  ["fsincos", 0xd9, 0xfb],
  ["fsin", 0xd9, 0xfe],
  ["fcos", 0xd9, 0xff],
] as const;
const TRANSCENDENTAL_CASES = 20_000;
/** Mismatches that a failure shows. */
const SHOWN = 5;

function judge(view: DataView, bytes: number, replay: (at: number) => string | undefined): void {
  const wrong: string[] = [];
  for (let at = 0; at < view.byteLength; at += bytes) {
    const line = replay(at);
    if (line !== undefined) wrong.push(line);
  }
  assert.equal(wrong.length, 0, `${wrong.length} of ${view.byteLength / bytes}:\n${wrong.slice(0, SHOWN).join("\n")}`);
}

test("SSE gives the processor's answers", { skip }, (t) => {
  const oracle = buildFloatOracle();
  const seed = Date.now();
  t.diagnostic(`${oracle.processor}; seed ${seed}`);
  const codes = oracle.sseOperations.map(sseCode);
  const view = oracle.sse(seed, SSE_CASES);
  judge(view, SSE_RECORD_BYTES, (at) => {
    const operation = view.getUint8(at);
    return replaySse(view, at, codes[operation] ?? 0, oracle.sseOperations[operation] ?? "");
  });
});

test("x87 gives the processor's answers", { skip }, (t) => {
  const oracle = buildFloatOracle();
  const seed = Date.now();
  t.diagnostic(`${oracle.processor}; seed ${seed}`);
  const view = oracle.x87(seed, X87_CASES);
  judge(view, X87_RECORD_BYTES, (at) => replayX87(view, at));
});

test("x87's transcendental functions are within one unit in the last place of the processor's", { skip }, (t) => {
  const oracle = buildFloatOracle();
  const seed = Date.now();
  t.diagnostic(`${oracle.processor}; seed ${seed}`);
  for (const [name, opcode, modrm] of TRANSCENDENTAL) {
    const view = oracle.x87(seed, TRANSCENDENTAL_CASES, [opcode, modrm]);
    let worst = 0;
    let different = 0;
    judge(view, X87_RECORD_BYTES, (at) =>
      replayX87(view, at, (_, units) => {
        worst = Math.max(worst, units);
        if (units > 0) different++;
      }),
    );
    assert.ok(worst <= 1, `${name}: ${worst}`);
    t.diagnostic(`${name}: at most ${worst} off, ${different} of ${TRANSCENDENTAL_CASES} cases off by one`);
  }
});
