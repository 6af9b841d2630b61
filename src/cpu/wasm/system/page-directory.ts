/** CR3 and what is loaded with it. [SDM 3 §4.10.4] */

import { STATE } from "../../../isa/state.ts";
import { CR4 } from "../state-view.ts";
import type { SystemParts } from "./parts.ts";

/** Loads CR3, whose reserved bits are the caller's to check, and forgets translations. */
export function loadPageDirectory({ host, view }: SystemParts, low: number, high: number): void {
  view.setHalves(STATE.cr3, low, high);
  host.flushTlb((view.low(STATE.cr4) & CR4.PGE) === 0 ? "all" : "non-global");
}
