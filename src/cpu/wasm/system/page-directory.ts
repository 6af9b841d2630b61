/** CR3 and what is loaded with it. [SDM 3 §4.4.1, §4.10.4] */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { CR0, CR4 } from "../state-view.ts";
import type { SystemParts } from "./parts.ts";

const POINTERS = [STATE.pdpte0, STATE.pdpte1, STATE.pdpte2, STATE.pdpte3] as const;
const POINTER_BYTES = 8;
const TABLE_MASK = 0xffff_ffe0;
const PRESENT = 1;
/** Bits that must be 0 in a pointer that is present: 2:1, 8:5 and 63:40. */
const RESERVED_LOW = 0x1e6;
const RESERVED_HIGH = 0xffff_ff00;

/** Loads CR3, whose reserved bits are the caller's to check, and forgets translations. #GP(0), with nothing changed, by
 * a bad directory pointer under PAE paging. */
export function loadPageDirectory(parts: SystemParts, low: number, high: number): void {
  const { host, view } = parts;
  const paging = (view.low(STATE.cr0) & CR0.PG) !== 0 && !view.longModeActive;
  const cr4 = view.low(STATE.cr4);
  if (paging && (cr4 & CR4.PAE) !== 0 && !loadDirectoryPointers(parts, low)) throw new GuestFault(EXCEPTION.GP, 0);
  view.setHalves(STATE.cr3, low, high);
  host.flushTlb((cr4 & CR4.PGE) === 0 ? "all" : "non-global");
}

/** Loads PAE's four directory pointers; false, and none loaded, where one has a reserved bit. What lies outside RAM reads
 * as all ones. */
export function loadDirectoryPointers({ host, view }: SystemParts, cr3: number): boolean {
  const wired = ~view.low(STATE.heldAddressBits);
  const bytes = host.memory.slice((cr3 & TABLE_MASK & wired) >>> 0, POINTERS.length * POINTER_BYTES);
  if (bytes === undefined) return false;
  const table = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const halves = POINTERS.map((field, i) => {
    const low = table.getUint32(i * POINTER_BYTES, true);
    return { field, low, high: table.getUint32(i * POINTER_BYTES + 4, true) };
  });
  const bad = halves.some(
    ({ low, high }) => (low & PRESENT) !== 0 && ((low & RESERVED_LOW) !== 0 || (high & RESERVED_HIGH) !== 0),
  );
  if (bad) return false;
  for (const { field, low, high } of halves) view.setHalves(field, low, high);
  return true;
}
