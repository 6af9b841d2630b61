/** A guest that is paused, resumed, limited and switched off by its power button. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, MIB } from "./guest.ts";

const PROMPT = /root@debian:[^\n]*# /;

test("a pause stops guest and clock, a resume goes on, the power button ends", async () => {
  const image = await new ImageStore().open("debian");
  await using guest = await Guest.start({ memoryBytes: 128 * MIB, bootTime: 981_173_106_000_000_000n, ...image });
  await guest.expect(PROMPT);
  guest.type("date -u +%Y; while :; do cut -d. -f1 /proc/uptime; done\n");
  await guest.expect(/\n2001\r\n\d+\r\n/);

  await guest.vm.pause();
  await guest.vm.pause();
  const before = guest.vm.stats();
  await sleep(300);
  const text = guest.text;
  await sleep(1700);
  assert.equal(guest.text, text);
  assert.equal(guest.vm.stats().instructions, before.instructions);
  assert.equal(guest.vm.stats().guestNanoseconds, before.guestNanoseconds);
  const [stopped] = /\d+(?=\r\n[^\n]*$)/.exec(text) ?? ["0"];
  guest.vm.resume();
  guest.vm.resume();
  const [, next] = await guest.expect(/\n(\d+)\r\n\d+\r\n/);
  assert.ok(Number(next) <= Number(stopped) + 1, `the guest's uptime went from ${stopped} to ${next}`);

  // Held to a tenth of a processor, it runs on.
  assert.equal(guest.vm.stats().throttledMs, 0);
  guest.vm.setCpuBudget(0.1);
  await guest.expect(/\n(\d+)\r\n\d+\r\n/);
  await sleep(1000);
  assert.ok(guest.vm.stats().throttledMs > 0);
  await guest.vm.pause();
  guest.vm.setCpuBudget(Infinity);
  guest.vm.resume();
  guest.type("\x03");
  await guest.expect(PROMPT);
  guest.vm.pressPowerButton();
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.match(guest.text, /reboot: Power down/);
});
