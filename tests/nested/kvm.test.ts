/** What KVM's engine alone can do; run in a host with hardware virtualization (tests/peers/nested-kvm.test.ts). */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { chooseEngine, kvmReport } from "../../src/fleet/engine-choice.ts";
import { createNodeVm } from "../../src/fleet/node-vm.ts";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, MIB } from "../guests/guest.ts";

const PROMPT = /root@debian:[^\n]*# /;
const QUIET = " quiet";

async function debian({ cpus = 1, append = "" } = {}): Promise<Guest> {
  const image = await new ImageStore().open("debian");
  const commandLine = image.commandLine + QUIET + append;
  return await Guest.start({ memoryBytes: 192 * MIB, ...image, commandLine, cpus });
}

test("the probe finds ring 0 at the processor's own speed, and auto takes KVM", () => {
  const report = kvmReport();
  assert.deepEqual([report.usable, report.missing, report.reason], [true, [], undefined]);
  assert.deepEqual(chooseEngine(), { engine: "kvm" });
});

test("two processors and a second guest beside them; a pause stands still, and the guest goes on", async () => {
  await using first = await debian({ cpus: 2 });
  await using second = await debian();
  await first.expect(PROMPT);
  first.type("grep -c ^processor /proc/cpuinfo; echo 1 > /sys/devices/system/cpu/cpu1/online; nproc\n");
  await first.expect(/\n2\r\n2\r\n/);
  await second.expect(PROMPT);
  second.type("echo $((6 * 7)); cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n");
  await second.expect(/\n42\r\nkvm-clock\r\n/);
  await first.expect(PROMPT);
  // Every processor is inside the guest, one of them spinning, when the pause comes.
  first.type("(while :; do :; done) & i=0; while :; do i=$((i+1)); echo tick $i; done\n");
  await first.expect(/tick 20\r\n/);
  await first.vm.pause();
  await sleep(200);
  const before = first.text;
  await sleep(500);
  assert.equal(first.text, before);
  first.vm.resume();
  await first.expect(/tick \d+\r\n[^]*tick \d+\r\n/);
  second.type("poweroff\n");
  assert.deepEqual(await second.end(), { kind: "power-off" });
  first.vm.stop();
  assert.deepEqual(await first.end(), { kind: "stopped" });
});

test("a guest of sixteen processors brings all of them up, and works on all", async () => {
  // One after the other: sixteen that wait for each other on the few of an emulated host take minutes to boot.
  await using guest = await debian({ cpus: 16, append: " maxcpus=1" });
  await guest.expect(PROMPT);
  guest.type("cd /sys/devices/system/cpu; for i in $(seq 15); do echo 1 > cpu$i/online; echo $(nproc) on; done\n");
  const all = Array.from({ length: 15 }, (_, before) => `${before + 2} on\r\n`);
  await guest.expect(new RegExp(`\n${all.join("")}`));
  guest.type("for i in $(seq 16); do (dd if=/bin/busybox bs=64k 2>/dev/null | md5sum) & done | sort -u | wc -l\n");
  await guest.expect(/\n1\r\n/);
  guest.type("poweroff\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.doesNotMatch(guest.text, /(BUG|WARNING|Oops|rcu[^\n]*stall):?/);
});

/** A multiboot-less kernel: an ELF of one segment with `code` at 1 MiB, entered in 64-bit mode. */
function kernelOf(code: readonly number[]): Uint8Array {
  const at = 0x1000;
  const elf = new Uint8Array(at + code.length);
  const view = new DataView(elf.buffer);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, 0x100000n, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setUint32(68, 7, true);
  view.setBigUint64(72, BigInt(at), true);
  view.setBigUint64(80, 0x100000n, true);
  view.setBigUint64(88, 0x100000n, true);
  view.setBigUint64(96, BigInt(code.length), true);
  view.setBigUint64(104, BigInt(code.length), true);
  view.setBigUint64(112, 4096n, true);
  elf.set(code, at);
  return elf;
}

test("code that KVM cannot run ends that guest alone, with the cause, the instruction and the registers", async () => {
  // MOV RAX, 0xe1000000 (no device is there); JMP RAX: nothing can be fetched from a device.
  const kernel = kernelOf([0x48, 0xc7, 0xc0, 0x00, 0x00, 0x00, 0x61, 0xff, 0xe0]);
  const vm = createNodeVm({ memoryBytes: 16 * MIB, kernel, commandLine: "", engine: "kvm" });
  await vm.start();
  const result = await vm.done;
  assert.equal(result.kind, "internal-error");
  assert.match(result.message, /^KVM stopped the processor: .*; instruction .* at rip 0x61000000$/);
  assert.match(result.details?.join("\n") ?? "", /rax 0000000061000000/);
});
