/** Guests of two processors, one after the other; run in a host with hardware virtualization (tests/long/nested-parts.ts). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, MIB } from "../guests/guest.ts";

const PROMPT = /root@debian:[^\n]*# /;
const RUNS = 10;
/** Two programs that work at once, which tell on which processors they were. */
const WORK =
  "for i in 0 1; do (taskset $((i + 1)) dd if=/bin/busybox bs=64k 2>/dev/null | md5sum) & done; wait; echo $(nproc) on\n";

for (let run = 1; run <= RUNS; run++) {
  test(`a guest of two processors boots, works on both and powers off: run ${run} of ${RUNS}`, async () => {
    const image = await new ImageStore().open("debian");
    const commandLine = `${image.commandLine} quiet`;
    await using guest = await Guest.start({ memoryBytes: 128 * MIB, ...image, commandLine, cpus: 2 });
    await guest.expect(PROMPT);
    guest.type(WORK);
    await guest.expect(/\n2 on\r\n/);
    const [one, two, ...others] = [...guest.text.matchAll(/^([0-9a-f]{32}) {2}-\r$/gm)].map(([, sum]) => sum);
    assert.deepEqual([two, others], [one, []]);
    guest.type("poweroff\n");
    assert.deepEqual(await guest.end(), { kind: "power-off" });
    assert.doesNotMatch(guest.text, /(BUG|WARNING|Oops|rcu[^\n]*stall):?/);
  });
}
