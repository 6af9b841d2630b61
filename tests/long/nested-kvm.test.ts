/** On KVM in a host that QEMU emulates: the other guests, and what is KVM's own. Ten minutes and more. */

import { test } from "node:test";
import { NESTED_TEST, nestedPasses } from "../peers/nested-host.ts";

// GNU Mach is left out: there it stops behind its memory map, which nobody has found the cause of yet.
test("32-bit Debian, a Multiboot kernel and Memtest86+ pass on KVM", async () => {
  const images = ["debian-i386", "memtest86+"];
  const command = [...NESTED_TEST, "--test-skip-pattern=GNU Mach", "tests/guests/i386.test.js"];
  await nestedPasses({ command, images, seconds: 600 });
});

test("a Debian guest moves between KVM and the portable engine in the middle of its work", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/moves.test.js"],
    images: ["debian"],
    environment: { ISOLA_TEST_PATIENCE: "600" },
    seconds: 1800,
  });
});

test("disks, the text screen, pause and saved state pass on KVM what they pass on the portable engine", async () => {
  const command = [
    ...NESTED_TEST,
    ...["disk", "screen", "pause", "save"].map((name) => `tests/guests/${name}.test.js`),
  ];
  await nestedPasses({ command, images: ["debian", "memtest86+"], seconds: 1800 });
});

test("a server's VMs run on KVM, two at once", async () => {
  await nestedPasses({ command: [...NESTED_TEST, "tests/nested/fleet.test.js"], images: ["debian"], seconds: 900 });
});

test("auto is KVM here; two processors, two guests at once, pause, a failure of KVM", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/kvm.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 600,
  });
});
