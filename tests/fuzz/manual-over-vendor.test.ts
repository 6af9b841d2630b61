/** Where the vendors' processors differ, the portable engine does as the SDM says, whichever of them runs the fuzzer. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ARITHMETIC } from "../../src/isa/flags.ts";
import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { CaseMaker, CODE_SLOTS, STATES_PER_CODE, toBatch } from "./cases.ts";
import { FormGenerator } from "./form-generator.ts";
import { InterpreterEngine } from "./interpreter-engine.ts";
import { BLOCK } from "./layout.ts";

const VECTOR = { GP: 13, PF: 14 } as const;
const BATCHES = 8;
const RCX = BLOCK.gpr + 8;

interface Outcome {
  readonly before: DataView;
  readonly after: DataView;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** What became of `code` in many random states. */
function outcomes(code: readonly number[]): Outcome[] {
  const engine = new InterpreterEngine();
  const maker = new CaseMaker(1, new FormGenerator(INSTRUCTIONS));
  const bytes = Uint8Array.from(code);
  const flags = { undefinedFlags: 0, readsFlags: 0, definesFlags: false, jumps: false };
  const instructions = [{ name: "code", bytes, approximate: false, wild: false, ...flags }];
  return Array.from({ length: BATCHES }, (_, batch) => batch).flatMap((batch) => {
    const cases = Array.from({ length: CODE_SLOTS }, (_, i) =>
      maker.makeWith((batch * CODE_SLOTS + i) * STATES_PER_CODE, bytes, instructions, 0),
    );
    const { outputs } = engine.run(toBatch(cases, maker.window));
    return cases.map(({ input }, i) => ({
      before: viewOf(input),
      after: viewOf(outputs.slice(i * BLOCK.size, (i + 1) * BLOCK.size)),
    }));
  });
}

test("a repeated comparison that faults leaves RFLAGS as it was [SDM 2, REP]", () => {
  for (const code of [
    [0xf3, 0xa6],
    [0xf2, 0x48, 0xaf],
  ]) {
    const stopped = outcomes(code).filter(
      ({ before, after }) =>
        after.getUint32(BLOCK.vector, true) === VECTOR.PF &&
        before.getBigUint64(RCX, true) !== after.getBigUint64(RCX, true),
    );
    assert.ok(stopped.length > 0, "no state in which it stopped after some elements");
    for (const { before, after } of stopped) {
      const changed = before.getUint32(BLOCK.rflags, true) ^ after.getUint32(BLOCK.rflags, true);
      assert.equal(changed & ARITHMETIC, 0);
    }
  }
});

test("SHA instructions want their operand in memory aligned [SDM 2, SHA1RNDS4]", () => {
  const SHA1MSG1_FROM_RBX = [0x0f, 0x38, 0xc9, 0x03];
  const found = outcomes(SHA1MSG1_FROM_RBX).filter(
    ({ before }) =>
      before.getUint8(BLOCK.gpr + 8 * 3) % 16 !== 0 && before.getUint32(BLOCK.gpr + 8 * 3 + 4, true) < 2 ** 15,
  );
  assert.ok(found.length > 0, "no state with a misaligned operand");
  for (const { after } of found) assert.equal(after.getUint32(BLOCK.vector, true), VECTOR.GP);
});
