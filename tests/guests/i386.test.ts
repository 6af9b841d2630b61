/** 32-bit systems: Debian's 686 kernel, kernels that boot by Multiboot, Memtest86+. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageStore } from "../../src/images/store.ts";
import { gnumach } from "./gnumach.ts";
import { Guest, MIB } from "./guest.ts";
import { testMemory } from "./memtest/session.ts";
import { multibootProgram } from "./multiboot-program.ts";

test("Debian's 32-bit kernel boots to a shell that answers, and powers off", async () => {
  const image = await new ImageStore().open("debian-i386");
  await using guest = await Guest.start({ memoryBytes: 128 * MIB, ...image });
  const prompt = /root@debian:[^\n]*# /;
  await guest.expect(prompt);
  // awk computes in x87 registers, the kernel's own work in 32-bit ones.
  guest.type("uname -m; awk 'BEGIN { printf \"%.15g %.17g\\n\", 10 / 3, 0.1 + 0.2 }'; md5sum /bin/busybox | wc -c\n");
  await guest.expect(/\ni686\r\n3\.33333333333333 0\.30000000000000004\r\n47\r\n/);
  await guest.expect(prompt);
  // Each command of the pipe is a process of its own: fork, copied pages, exec and exit, many times.
  guest.type("i=0; while [ $i -lt 20 ]; do echo $i | cat | sed s/^/n/; i=$((i + 1)); done | tail -1\n");
  await guest.expect(/\nn19\r\n/);
  guest.type("poweroff\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.match(guest.text, /reboot: Power down/);
  assert.doesNotMatch(guest.text, /(BUG|WARNING|Oops|segfault|traps):/);
});

test("a Multiboot kernel reads its modules and its memory map", async () => {
  const modules = [
    { bytes: new Uint8Array(5000).fill(0x5a), commandLine: "abcd words" },
    { bytes: Uint8Array.of(7), commandLine: "" },
  ];
  const kernel = multibootProgram();
  await using guest = await Guest.start({ memoryBytes: 32 * MIB, kernel, modules, commandLine: "" });
  assert.deepEqual(await guest.end(), { kind: "reset" });
  assert.deepEqual(guest.text.trim().split(/ *\n/), [
    "2badb002 0000024d",
    "0000005a 00001388 64636261",
    "00000007 00000001 00000000",
    "00000000 00000000 00000000 0009fc00 00000001",
    "00000000 0009fc00 00000000 00000400 00000002",
    "00000000 000e0000 00000000 00020000 00000002",
    "00000000 00100000 00000000 01f00000 00000001",
    "00000000 e0000000 00000000 10000000 00000002",
  ]);
});

test("GNU Mach, loaded by Multiboot, finds memory, clock and its module", async () => {
  const modules = [{ bytes: new Uint8Array(100), commandLine: "not-a-server words" }];
  const kernel = await gnumach();
  await using guest = await Guest.start({ memoryBytes: 32 * MIB, kernel, modules, commandLine: "console=com0" });
  await guest.expect(/GNU Mach \d/);
  await guest.expect(/biosmem: 0+100000:0+2000000, available/);
  await guest.expect(/RTC time is \d{4}-\d\d-\d\d/);
  await guest.expect(/not-a-server/);
});

test("Memtest86+ finds no error in a MiB by its tests 0 to 9, and Escape reboots", async () => {
  await testMemory(16, 17, 120);
});
