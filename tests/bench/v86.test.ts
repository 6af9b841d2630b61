/** The bench beside v86: its table, and how it tells what went wrong. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { disagreements, PROGRAMS, type V86Round, v86Report } from "../../bench/v86.ts";

const versions = { isola: "1.0", qemu: "2.0", v86: "3.0" };

/** A boot whose every time is `seconds`, on the clock and of the processor; `checksum` is what gzip's output had. */
function round(machine: V86Round["machine"], seconds: number, checksum = "00aa"): V86Round {
  const mark = { wallSeconds: seconds, cpuSeconds: seconds };
  const programs = PROGRAMS.map(({ name }) => ({ ...mark, name, checksum: name === "gzip" ? checksum : "00ff" }));
  return { machine, kernel: mark, init: mark, shell: mark, programs };
}

test("medians of the three side by side; a speed above 1 means that isola is faster", () => {
  const rounds = [round("isola", 1), round("isola", 9), round("isola", 2), round("qemu", 1), round("v86", 7)];
  const report = v86Report({ versions, image: { "linux-image": "6.1" }, rounds, failures: [] });
  assert.match(report, /isola 1\.0, QEMU 2\.0 \(microvm, TCG\), v86 3\.0: linux-image 6\.1\n/);
  assert.match(report, /\n"Run \/init", CPU s +2\.00 +1\.00 +7\.00 +0\.50 +3\.50\n/);
  assert.match(report, /\ngzip, wall s +2\.00 +1\.00 +7\.00 +0\.50 +3\.50\n/);
  assert.match(report, /\nprograms, geometric mean, CPU s +0\.50 +3\.50\n$/);
});

test("a machine that failed has no figures, and the reason stands below the table", () => {
  const rounds = [round("isola", 1), round("qemu", 1)];
  const report = v86Report({ versions, image: {}, rounds, failures: ["v86 FAILED: no prompt"] });
  assert.match(report, /\nprompt, wall s +1\.00 +1\.00 +- +1\.00 +-\n/);
  assert.match(report, /\n\nv86 FAILED: no prompt\n$/);
});

test("programs must print the same in every round of every machine", () => {
  assert.deepEqual(disagreements([round("isola", 1), round("qemu", 1), round("v86", 1)]), []);
  assert.deepEqual(disagreements([round("isola", 1), round("qemu", 1), round("isola", 2, "00ab"), round("v86", 1)]), [
    "gzip: checksums differ: isola 00aa, qemu 00aa, isola 00ab, v86 00aa",
  ]);
});
