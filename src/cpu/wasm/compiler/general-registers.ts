/** General registers by their places in the state. */

import { GPR } from "../../../isa/state.ts";

const GPR_BYTES = 16 * 8;

export function isGpr(offset: number): boolean {
  return offset >= GPR && offset < GPR + GPR_BYTES;
}
export function gprNumber(offset: number): number {
  return (offset - GPR) >> 3;
}
