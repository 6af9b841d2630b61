/** Guests that move between engines; run in a host with hardware virtualization (tests/long/nested-parts.ts). */

import { test } from "node:test";
import { moveGuest, moveTicks } from "../guests/saved-guest.ts";

test("a program that lives by the timer's interrupts moves in all four directions", async () => {
  await moveTicks("kvm", ["kvm", "wasm", "wasm", "kvm", "wasm", "kvm"]);
});

test("a Debian guest moves from KVM to the portable engine and back in the middle of its work", async () => {
  await moveGuest(["kvm", "wasm", "kvm"]);
});
