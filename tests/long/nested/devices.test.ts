/** Disks, the screen, pause and saved state on KVM, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

test("disks, the text screen, pause and saved state pass on KVM what they pass on the portable engine", async () => {
  const command = [
    ...NESTED_TEST,
    ...["disk", "screen", "pause", "save"].map((name) => `tests/guests/${name}.test.js`),
  ];
  await nestedPasses({ command, images: ["debian", "memtest86+"], seconds: 1800 });
});
