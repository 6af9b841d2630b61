import assert from "node:assert/strict";
import { test } from "node:test";
import { DECODE } from "../../../isa/decode.ts";
import { AC, TF } from "../../../isa/flags.ts";
import { TLB } from "../layout.ts";
import { CR4 } from "../state-view.ts";
import { CoreFixture } from "./core-fixture.ts";

/** The view of the TLB after AC changed, or "left" where TypeScript is asked. */
function viewAfter(state: { flags: number; cr4?: number; cpl?: number; context?: number }): number | "left" {
  const fixture = new CoreFixture();
  fixture.set("tlbBase", 1);
  fixture.set("flagsSystem", state.flags);
  fixture.set("cr4", state.cr4 ?? CR4.SMAP);
  fixture.set("cpl", state.cpl ?? 0);
  fixture.set("decodeContext", state.context ?? DECODE.long);
  fixture.core.viewChanged();
  if (fixture.viewChanges > 0) return "left";
  return (Number(fixture.get("tlbBase")) - TLB.base) / TLB.viewBytes;
}

test("AC lifts the supervisor's view where SMAP is on", () => {
  assert.equal(viewAfter({ flags: AC }), 1);
  assert.equal(viewAfter({ flags: 0 }), 0);
  assert.equal(viewAfter({ flags: AC, cr4: CR4.SMEP }), 0);
});

test("what is stepped, checked, a program's or of other modes is left to TypeScript", () => {
  assert.equal(viewAfter({ flags: AC | TF }), "left");
  assert.equal(viewAfter({ flags: AC, cpl: 3 }), "left");
  assert.equal(viewAfter({ flags: AC, context: DECODE.long | DECODE.debug }), "left");
  assert.equal(viewAfter({ flags: AC, context: DECODE.code32 }), "left");
});
