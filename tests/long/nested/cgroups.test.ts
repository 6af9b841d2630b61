/** Control groups of a server's VMs, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("VMs are held by control groups of their own, which hold hostile processes too and leave nothing behind", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/cgroup.test.js"],
    images: [],
    processors: 2,
    seconds: 1800,
  });
});
