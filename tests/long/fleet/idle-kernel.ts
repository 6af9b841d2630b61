/** The smallest guest: a Multiboot kernel that halts for ever. It boots in no time, so faults can come thick and fast. */

import { elfOf, multibootHeaderOf } from "../../../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
/** HLT; JMP back to it. */
const LOOP = [0xf4, 0xeb, 0xfd];

export function idleKernel(): Uint8Array {
  const header = multibootHeaderOf(0);
  const contents = new Uint8Array([...header, ...LOOP]);
  return elfOf({ bits: 32, entry: ORIGIN + header.length, segments: [{ physical: ORIGIN, contents }] });
}
