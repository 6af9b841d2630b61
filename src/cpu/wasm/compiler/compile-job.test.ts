/** What is compiled beside the guest: it is installed as long as the guest has not changed its code meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assembler, mem } from "../../../isa/assembler.ts";
import { CODE, Guest } from "../guest-fixture.ts";
import { besideGuest } from "./beside-fixture.ts";

const MAX_BYTES = 4 << 20;
const STACK = 0x20_0000n;

test("code that is written while it is compiled is not entered as it was", () => {
  // The ADD's immediate is 1 for 300 turns and 7 for 30,000; what was made of the first comes while the second runs.
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  a.mov("rdx", 300n);
  a.label("begin");
  a.emit("MOV", "rcx", "rdx");
  a.label("again");
  a.label("patch");
  a.emit("ADD", "rax", 0x1n);
  a.emit("ADD", "rbx", "rcx");
  a.emit("DEC", "rcx");
  a.emit("JNE", { kind: "label", name: "again" });
  a.emit("CMP", "rdx", 30_000n);
  a.emit("JE", { kind: "label", name: "end" });
  a.mov("rdx", 30_000n);
  a.emit("MOV", mem({ label: "patch", disp: 3, bits: 8 }), 7n);
  a.emit("JMP", { kind: "label", name: "begin" });
  a.label("end");
  a.emit("HLT");
  for (const looks of [1, 20, 40]) {
    const service = besideGuest(looks);
    const guest = new Guest({ compiler: { threshold: 40, maxBytes: MAX_BYTES, service } });
    service.serve(guest.memory);
    const state = guest.run(a.finish(), (s) => {
      s.gpr.rsp = STACK;
    });
    assert.equal(state.gpr.rax, 300n + 7n * 30_000n, `installed after ${looks} looks`);
    assert.ok(service.delivered > 0, "nothing was compiled");
    assert.ok(guest.vcpu.compiled > 10_000n, "the new code was never entered");
  }
});
