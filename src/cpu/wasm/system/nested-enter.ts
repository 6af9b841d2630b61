/** ENTER with a nesting level: it copies the frame pointers of the enclosing procedures. [SDM 2 ENTER] */

import type { SystemParts } from "./parts.ts";

const RSP = 4;
const RBP = 5;
const MASK64 = 0xffff_ffff_ffff_ffffn;

/** `level` is 1 to 31; sizes are in bits. All stores come before the registers change. */
export function enterNested(
  { host, view }: SystemParts,
  frameBytes: number,
  level: number,
  operandBits: number,
  stackBits: number,
): void {
  const bytes = (operandBits / 8) as 2 | 4 | 8;
  const mask = stackBits === 64 ? MASK64 : (1n << BigInt(stackBits)) - 1n;
  const base = stackBits === 64 ? 0n : view.base(2);
  const linear = (offset: bigint) => (stackBits === 64 ? offset : BigInt.asUintN(32, base + (offset & mask)));
  const size = BigInt(bytes);
  const oldBase = view.gpr(RBP);
  const oldStack = view.gpr(RSP);
  let pointer = oldStack;
  const push = (value: bigint) => {
    pointer = (pointer - size) & mask;
    host.store(linear(pointer), bytes, BigInt.asUintN(operandBits, value));
  };
  push(oldBase);
  const frame = pointer;
  let link = oldBase;
  for (let i = 1; i < level; i++) {
    link = (link - size) & mask;
    push(host.load(linear(link), bytes));
  }
  push(frame);
  const top = (pointer - BigInt(frameBytes)) & mask;
  // The place where the stack ends now must be writable: it is probed by storing what it holds.
  host.store(linear(top), bytes, host.load(linear(top), bytes));
  const keep = (old: bigint, value: bigint) => (stackBits === 16 ? (old & ~0xffffn) | value : value);
  view.setGpr(RBP, operandBits === 16 ? (oldBase & ~0xffffn) | (frame & 0xffffn) : BigInt.asUintN(operandBits, frame));
  view.setGpr(RSP, BigInt.asUintN(64, keep(oldStack, top)));
}
