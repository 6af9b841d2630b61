/** ENTER with a nesting level: it copies the frame pointers of the enclosing procedures. [SDM 2 ENTER] */

import type { SystemParts } from "./parts.ts";

const RSP = 4;
const RBP = 5;
const MASK64 = 0xffff_ffff_ffff_ffffn;

/** The pushes: RBP, `level` - 1 (0 to 30) pointers from below it, the new frame's own. Sizes are in bits. */
export function enterNested({ host, view }: SystemParts, level: number, operandBits: number, stackBits: number): void {
  const bytes = (operandBits / 8) as 2 | 4 | 8;
  const mask = stackBits === 64 ? MASK64 : (1n << BigInt(stackBits)) - 1n;
  const base = stackBits === 64 ? 0n : view.base(2);
  const linear = (offset: bigint) => (stackBits === 64 ? offset : BigInt.asUintN(32, base + (offset & mask)));
  const size = BigInt(bytes);
  let pointer = view.gpr(RSP);
  const push = (value: bigint) => {
    pointer = (pointer - size) & mask;
    host.store(linear(pointer), bytes, BigInt.asUintN(operandBits, value));
  };
  let link = view.gpr(RBP);
  push(link);
  const frame = pointer;
  for (let i = 1; i < level; i++) {
    link = (link - size) & mask;
    push(host.load(linear(link), bytes));
  }
  push(frame);
}
