/** A server whose VMs run on KVM, in a host with hardware virtualization (tests/long/nested-parts.ts). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { testFleet, VmConsole } from "../fleet/fleet-fixture.ts";

const PROMPT = /root@debian:[^\n]*# /;
const PATIENCE_SECONDS = Number(process.env["ISOLA_TEST_PATIENCE"] ?? 120);

test("two Debian guests of a server run at once on KVM; one is saved, and goes on", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  const names = ["one", "two"];
  for (const name of names) await fleet.create({ name, image: "debian", memoryBytes: "96M", append: "quiet" });
  await Promise.all(names.map((name) => fleet.start(name)));
  const consoles = await Promise.all(names.map((name) => VmConsole.open(fleet, name)));
  await Promise.all(consoles.map((console) => console.expect(PROMPT, PATIENCE_SECONDS)));
  const running = await fleet.list();
  assert.deepEqual(
    running.map(({ state, engine }) => [state, engine]),
    [
      ["running", "kvm"],
      ["running", "kvm"],
    ],
  );
  assert.equal(new Set(running.map(({ pid }) => pid)).size, 2);
  for (const [index, console] of consoles.entries()) {
    await console.type(
      `echo $((${index} + 41)); cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n`,
    );
  }
  for (const [index, console] of consoles.entries()) {
    await console.expect(new RegExp(`\n${index + 41}\r\nkvm-clock\r\n`), PATIENCE_SECONDS);
  }
  const [one] = consoles;
  assert.ok(one !== undefined);
  await one.type("i=0; while :; do i=$((i+1)); echo round $i; sleep 0.2; done\n");
  await one.expect(/round 3\r\n/, PATIENCE_SECONDS);
  assert.equal((await fleet.save("one")).saved, true);
  assert.equal((await fleet.start("one")).engine, "kvm");
  const again = await VmConsole.open(fleet, "one");
  await again.expect(/round \d+\r\n[^]*round \d+\r\n/, PATIENCE_SECONDS);
  const text = new TextDecoder().decode(await fleet.log("one"));
  const rounds = [...text.matchAll(/^round (\d+)\r$/gm)].map(([, number]) => Number(number));
  assert.deepEqual(
    rounds,
    Array.from(rounds, (_, number) => number + 1),
  );
  await fleet.stop("two", { graceSeconds: PATIENCE_SECONDS });
  assert.equal((await fleet.inspect("two")).exit?.kind, "power-off");
});
