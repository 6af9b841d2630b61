/** The kernel's interrupt controllers as programs meet them; run in a host with hardware virtualization. */

import { test } from "node:test";
import { moveTicks } from "../guests/saved-guest.ts";

test("a program lives by the interval timer's interrupts through the 8259, and after a move to another VM", async () => {
  await moveTicks("kvm", ["kvm"]);
});
