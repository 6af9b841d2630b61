/** Control groups around a server's VMs, in a host that is isola's own: what the kernel says of them. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "./nested-host.ts";

test("VMs are held by control groups of their own, which hold hostile processes too and leave nothing behind", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/cgroup.test.js"],
    images: [],
    processors: 2,
    seconds: 900,
  });
});
