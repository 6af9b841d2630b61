/** IN and OUT: the I/O permission bitmap, and the bus. [SDM 1 §19.5] */

import { EXCEPTION } from "../../../isa/semantics.ts";
import type { AccessSize } from "../../vcpu.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, TR } from "../state-view.ts";
import { addLow, carry } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";

/** Where a 32- or 64-bit TSS keeps the offset of its bitmap. */
const BITMAP_OFFSET = 0x66;

/** #GP(0) unless the TSS's bitmap allows all of the ports. */
export function checkPort({ view, memory }: SystemParts, port: number, bytes: number): void {
  const attributes = view.attributes(TR);
  const wide = (attributes & ATTRIBUTE.present) !== 0 && (attributes & ATTRIBUTE.code) !== 0;
  const limit = view.limit(TR);
  if (!wide || limit < BITMAP_OFFSET + 1) throw new GuestFault(EXCEPTION.GP, 0);
  const low = view.baseLow(TR);
  const high = view.baseHigh(TR);
  const at = (offset: number) => memory.load16(addLow(low, offset), high + carry(low, offset), true);
  const offset = at(BITMAP_OFFSET) + ((port & 0xffff) >> 3);
  // Two bytes are read always: accesses may cross a byte of the map.
  if (offset + 1 > limit) throw new GuestFault(EXCEPTION.GP, 0);
  const mask = ((1 << bytes) - 1) << (port & 7);
  if ((at(offset) & mask) !== 0) throw new GuestFault(EXCEPTION.GP, 0);
}

export function readPort({ host, breakpoints }: SystemParts, port: number, bytes: number): number {
  breakpoints.portAccessed(port & 0xffff, bytes);
  return host.bus.readPort(port & 0xffff, bytes as AccessSize) | 0;
}

export function writePort({ host, breakpoints }: SystemParts, port: number, bytes: number, value: number): void {
  const unsigned = bytes === 4 ? value >>> 0 : value & ((1 << (bytes * 8)) - 1);
  breakpoints.portAccessed(port & 0xffff, bytes);
  host.bus.writePort(port & 0xffff, bytes as AccessSize, unsigned);
}
