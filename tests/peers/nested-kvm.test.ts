/** The KVM engine with full hardware virtualization, in a host that QEMU emulates. More of it: tests/long/nested-kvm.test.ts. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "./nested-host.ts";

test("Debian's kernel, its reset and its command line pass on KVM what they pass on the portable engine", async () => {
  await nestedPasses({ command: [...NESTED_TEST, "tests/guests/debian.test.js"], images: ["debian"], seconds: 600 });
});
