/**
 * STAC and CLAC, which a kernel runs around each access to a program's memory: where nothing is stepped, watched or
 * checked, only the supervisor's view of the TLB changes. All else is left to TypeScript. [SDM 3 §4.6.1]
 */

import { DECODE } from "../../../isa/decode.ts";
import { AC, TF } from "../../../isa/flags.ts";
import { TLB } from "../layout.ts";
import { CR4 } from "../state-view.ts";
import type { CoreModule } from "./core-module.ts";
import { and, both, choose, equal, hasAny, isZero, low32, state } from "./emitter.ts";

/** (): what follows from RFLAGS.AC after an instruction changed it. */
export function defineLiftedRights(core: CoreModule): void {
  const f = core.define([], undefined, "viewChanged");
  const plain = equal(state("decodeContext"), DECODE.long);
  f.if(both(plain, isZero(state("cpl")), isZero(and(state("flagsSystem"), TF))), () => {
    const lifted = both(hasAny(state("flagsSystem"), AC), hasAny(low32(state("cr4")), CR4.SMAP));
    f.setState("tlbBase", choose(lifted, TLB.base + TLB.viewBytes, TLB.base));
    f.return();
  });
  f.call(core.viewChanged);
}
