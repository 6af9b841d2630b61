/** How traces are found in the engine's memory: a table of slots with a key and the trace's first record. [layout.ts, TRACE_KEY] */

import { TRACE_HASH, TRACE_KEY } from "./layout.ts";

/** The two words of a trace's key. */
export function traceKey(physical: number, mode: number): [low: number, high: number] {
  const high = Math.floor(physical / 2 ** 32) | (mode << (TRACE_KEY.context - 32)) | (1 << (TRACE_KEY.mark - 32));
  return [physical | 0, high];
}

/** The slot at which the search for a key begins. */
export const traceSlot = (low: number): number => Math.imul(low, 0x9e37_79b1) >>> (32 - Math.log2(TRACE_HASH.entries));

/** Byte address of a slot; numbers wrap round. */
export const slotAddress = (slot: number): number => TRACE_HASH.base + (slot & (TRACE_HASH.entries - 1)) * 16;

/** Whether a trace of a mode begins at a physical address. `words`: the engine's memory. */
export function hasTrace(words: Int32Array, physical: number, mode: number): boolean {
  const [low, high] = traceKey(physical, mode);
  const first = traceSlot(low);
  for (let i = 0; i < TRACE_HASH.probes; i++) {
    const slot = slotAddress(first + i) >> 2;
    const keyHigh = words[slot + 1] ?? 0;
    if (keyHigh === 0) return false;
    if (keyHigh === high && words[slot] === low) return true;
  }
  return false;
}
