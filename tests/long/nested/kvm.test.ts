/** What KVM's engine alone can do, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("auto is KVM here; two processors, two guests at once, pause, a failure of KVM", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/kvm.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});
