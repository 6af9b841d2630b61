/** The KVM engine with full hardware virtualization, in a host that QEMU emulates. More of it: tests/long/nested-parts.ts. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "./nested-host.ts";

test("Debian's kernel, its reset, its command line and interrupts through the 8259 pass on KVM", async () => {
  const files = ["tests/guests/debian.test.js", "tests/nested/timer.test.js"];
  await nestedPasses({ command: [...NESTED_TEST, ...files], images: ["debian"], seconds: 600 });
});
