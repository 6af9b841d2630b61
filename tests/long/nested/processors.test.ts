/** Guests of two processors, again and again, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("ten guests of two processors, one after the other, boot and work on both", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/processors.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});
