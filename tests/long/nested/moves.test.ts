/** A guest that moves between engines, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("a Debian guest moves between KVM and the portable engine in the middle of its work", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/moves.test.js"],
    images: ["debian"],
    seconds: 1800,
  });
});
