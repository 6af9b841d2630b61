/** 32-bit guests, a kernel by Multiboot and Memtest86+ on KVM, in a host with hardware virtualization that QEMU emulates. */

import { test } from "node:test";
import { GNUMACH_FILE, gnumach } from "../../guests/gnumach.ts";
import { NESTED_TEST, nestedPasses } from "../../peers/nested-host.ts";

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
