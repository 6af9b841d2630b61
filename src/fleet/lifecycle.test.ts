import assert from "node:assert/strict";
import { test } from "node:test";
import { admits, LIFECYCLE, VM_OPERATIONS, VM_STATES } from "./lifecycle.ts";

test("every operation answers in every state: it works, is there already, or says what it wants", () => {
  for (const operation of VM_OPERATIONS) {
    const { from, already } = LIFECYCLE[operation];
    assert.equal(from.filter((state) => already.includes(state)).length, 0, operation);
    for (const state of VM_STATES) {
      if (from.includes(state)) assert.equal(admits(operation, state, "vm"), true);
      else if (already.includes(state)) assert.equal(admits(operation, state, "vm"), false);
      else {
        assert.throws(() => admits(operation, state, "vm"), {
          code: "illegal-transition",
          message: new RegExp(`^cannot ${operation} vm: it is ${state}, wanted: .+; .+`),
        });
      }
    }
  }
});

test("where an operation leads, it is done already; nothing leaves removing", () => {
  for (const operation of VM_OPERATIONS) {
    const { from, already, to } = LIFECYCLE[operation];
    assert.ok(!from.includes("removing"));
    // A VM that is off has no state to save, or one that was saved before.
    if (to !== undefined && operation !== "reset" && operation !== "save") assert.ok(already.includes(to), operation);
  }
});
