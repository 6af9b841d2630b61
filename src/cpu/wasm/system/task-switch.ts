/**
 * Hardware task switching [SDM 3 §7]: not done yet. A task gate, a TSS as a far target and IRET with NT raise #TS with
 * the selector, as for a TSS that cannot be used.
 */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { GuestFault } from "../engine-host.ts";
import { selectorError } from "./segments.ts";

export function refuseTaskSwitch(selector: number, ext: number): never {
  throw new GuestFault(EXCEPTION.TS, selectorError(selector, ext));
}
