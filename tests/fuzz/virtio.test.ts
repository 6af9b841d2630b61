import assert from "node:assert/strict";
import { test } from "node:test";
import { runHostileDrivers } from "./virtio-driver.ts";

/** What so many drivers must have met, or they would test less than they seem to. */
const KINDS = [
  "N chains available in a queue of N",
  "chain begins at descriptor N of N",
  "chain goes on at descriptor N of N",
  "chain of more than N descriptors",
  "chain of N GiB or more",
  "descriptor of N bytes at N, outside RAM",
  "descriptor of length N",
  "indirect descriptor inside an indirect table",
  "indirect descriptor with a next one",
  "indirect descriptor without its feature",
  "indirect table at N, outside RAM or not aligned",
  "indirect table of N bytes",
  "readable descriptor after a writable one",
  "reset in flight",
  "several in flight",
];

test("two thousand hostile virtio drivers do no harm", async () => {
  const met = await runHostileDrivers(2, 0, 2000);
  for (const kind of KINDS) assert.ok((met[kind] ?? 0) > 0, `none met: ${kind}`);
});
