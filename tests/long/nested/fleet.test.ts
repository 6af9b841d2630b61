/** VMs of a server on KVM, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("a server's VMs run on KVM, two at once", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/fleet.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});
