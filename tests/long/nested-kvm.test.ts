/** On KVM in a host that QEMU emulates: the other guests, and what is KVM's own. Ten minutes and more. */

import { test } from "node:test";
import { GNUMACH_FILE, gnumach } from "../guests/gnumach.ts";
import { NESTED_TEST, nestedPasses } from "../peers/nested-host.ts";

test("32-bit Debian, a Multiboot kernel, GNU Mach and Memtest86+ pass on KVM", async () => {
  // That host has no network: what is to be in its cache is made here.
  await gnumach();
  await nestedPasses({
    command: [...NESTED_TEST, "tests/guests/i386.test.js"],
    images: ["debian-i386", "memtest86+"],
    cachedFiles: [GNUMACH_FILE],
    seconds: 1800,
  });
});

test("a Debian guest moves between KVM and the portable engine in the middle of its work", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/moves.test.js"],
    images: ["debian"],
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
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/fleet.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});

test("auto is KVM here; two processors, two guests at once, pause, a failure of KVM", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/kvm.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});

test("ten guests of two processors, one after the other, boot and work on both", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/processors.test.js"],
    images: ["debian"],
    processors: 2,
    seconds: 1800,
  });
});

test("VMs are held by control groups of their own, which hold hostile processes too and leave nothing behind", async () => {
  await nestedPasses({
    command: [...NESTED_TEST, "tests/nested/cgroup.test.js"],
    images: [],
    processors: 2,
    seconds: 1800,
  });
});
