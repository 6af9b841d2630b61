/** Makes a failing case simpler as long as it still fails: NOPs for instructions, zeros for state. */

import { flagsOf, followFlags, type TestCase } from "./cases.ts";
import { BLOCK } from "./layout.ts";

const NOP = 0x90;
/** The name of an instruction that gave way to NOPs. */
export const DROPPED = "(dropped)";

type Change = (test: TestCase) => TestCase;

function withInput(test: TestCase, change: (input: Uint8Array) => void): TestCase {
  const input = new Uint8Array(test.input);
  change(input);
  return { ...test, input };
}

const NOTHING = {
  name: DROPPED,
  undefinedFlags: 0,
  readsFlags: 0,
  definesFlags: false,
  approximate: false,
  wild: false,
  jumps: false,
};

/** NOPs of the same length keep every address. */
function withoutInstruction(index: number): Change {
  return (test) => {
    const code = new Uint8Array(test.code);
    const start = test.instructions.slice(0, index).reduce((sum, { bytes }) => sum + bytes.length, 0);
    code.fill(NOP, start, start + (test.instructions[index]?.bytes.length ?? 0));
    const instructions = test.instructions.map((instruction, i) =>
      i === index ? { ...instruction, ...NOTHING } : instruction,
    );
    return { ...test, code, instructions, ...flagsOf(instructions) };
  };
}

const zero =
  (from: number, to: number): Change =>
  (test) =>
    withInput(test, (input) => input.fill(0, from, to));

const CHANGES: readonly Change[] = [
  zero(BLOCK.hot, BLOCK.size),
  zero(BLOCK.fx + 160, BLOCK.fx + 416),
  (test) => withInput(test, (input) => new DataView(input.buffer).setUint32(BLOCK.rflags, 2, true)),
  (test) => withInput(test, (input) => new DataView(input.buffer).setUint32(BLOCK.fx + 24, 0x1f80, true)),
  ...Array.from({ length: 16 }, (_, i) => zero(BLOCK.gpr + 8 * i, BLOCK.gpr + 8 * i + 8)),
  ...Array.from({ length: 16 }, (_, i) => zero(BLOCK.fx + 160 + 16 * i, BLOCK.fx + 176 + 16 * i)),
  ...Array.from({ length: 8 }, (_, i) => zero(BLOCK.hot + 64 * i, BLOCK.hot + 64 * i + 64)),
];

/** `fails` tells whether the engines still disagree. */
export function shrink(test: TestCase, fails: (test: TestCase) => boolean): TestCase {
  let best = test;
  const attempt = (change: Change): void => {
    const candidate = change(best);
    // Without what defined a flag, an instruction that reads it would differ for no fault of anyone.
    if (followFlags(candidate.instructions).wellDefined && fails(candidate)) best = candidate;
  };
  // From the end: the last instruction is often the one that shows what an earlier one did.
  for (let i = test.instructions.length - 1; i >= 0; i--) attempt(withoutInstruction(i));
  for (const change of CHANGES) attempt(change);
  return best;
}
