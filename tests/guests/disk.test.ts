/** virtio disks as an unmodified Debian kernel uses them: file systems that outlive guests, flushes that outlive isola. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type FileDisk, openFileDisk } from "../../src/backends/file-disk.ts";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, GuestProcess, MIB } from "./guest.ts";

const PROMPT = /root@debian:[^\n]*# /;
/** Generous: other tests boot guests at the same time. */
const BOOT_SECONDS = 240;
const directory = mkdtempSync(join(tmpdir(), "isola-guest-disk-"));
after(() => rmSync(directory, { recursive: true }));

/** A guest's answer to a command: what stands between the two marks it prints. */
async function ask(guest: Guest | GuestProcess, command: string): Promise<string> {
  // Quotes keep the echo of what is typed from matching.
  guest.type(`echo BE""GIN; ${command}; echo E""ND\n`);
  const [, answer = ""] = await guest.expect(/BEGIN\r\n([\s\S]*?)END\r\n/);
  return answer.replaceAll("\r", "").trim();
}

/** A Debian guest with these disks, at its prompt. */
async function boot(disks: readonly FileDisk[], words: string): Promise<Guest> {
  const image = await new ImageStore().open("debian");
  const guest = await Guest.start({
    ...image,
    memoryBytes: 128 * MIB,
    commandLine: `${image.commandLine} quiet ${words}`,
    disks,
    entropy: true,
  });
  try {
    await guest.expect(PROMPT, BOOT_SECONDS);
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
  return guest;
}

const PAGE = 4096;
const CODE_PAGES = 127;

/** The parts of an ELF64 program at 0x400000 whose exit status is the sum of its pages' numbers. [System V ABI §4] */
function programParts(): { readonly head: Buffer; readonly tail: Buffer } {
  const size = BigInt(PAGE * (CODE_PAGES + 1) + 7);
  const head = Buffer.alloc(0x78);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  head.writeUInt32LE(0x003e_0002, 0x10);
  head.writeUInt32LE(1, 0x14);
  head.writeBigUInt64LE(0x401000n, 0x18);
  head.writeBigUInt64LE(0x40n, 0x20);
  head.writeUInt32LE(0x0038_0040, 0x34);
  head.writeUInt16LE(1, 0x38);
  head.writeUInt32LE(1, 0x40);
  head.writeUInt32LE(5, 0x44);
  head.writeBigUInt64LE(0x400000n, 0x50);
  head.writeBigUInt64LE(0x400000n, 0x58);
  head.writeBigUInt64LE(size, 0x60);
  head.writeBigUInt64LE(size, 0x68);
  head.writeBigUInt64LE(BigInt(PAGE), 0x70);
  // mov eax, 60 (exit); syscall
  return { head, tail: Buffer.from([0xb8, 60, 0, 0, 0, 0x0f, 0x05]) };
}

/** Makes programs 1 to `count` in /mnt: number i adds i in each of its pages, and jumps to the next. */
function makePrograms(count: number): string {
  const { head, tail } = programParts();
  // add edi, i; jmp to the same place in the next page
  const page = `printf "\\203\\307\\\\$(printf %03o $i)\\351\\370\\017\\000\\000" >p; truncate -s ${PAGE} p`;
  const pages =
    "cat p p p p p p p >p7; cat p7 p >p8; cat head p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p8 p7 tail >/mnt/$i";
  return [
    "cd /tmp",
    `echo ${head.toString("base64")} | base64 -d >head; truncate -s ${PAGE} head`,
    `echo ${tail.toString("base64")} | base64 -d >tail`,
    `for i in $(seq 1 ${count}); do ${page}; ${pages}; chmod +x /mnt/$i; done; sync; cd`,
  ].join("; ");
}

test("a file system made in the guest is there after a restart, by MSI-X and by INTx", async () => {
  const path = join(directory, "restart.img");
  let sum: string;
  {
    await using disk = await openFileDisk({ path, sizeBytes: 64 * MIB });
    await using guest = await boot([disk], "");
    assert.equal(
      await ask(guest, "blockdev --getsize64 /dev/vda; cat /sys/block/vda/serial"),
      `${64 * MIB}\nrestart.img`,
    );
    await ask(guest, "mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt");
    await ask(guest, "dd if=/dev/urandom of=/mnt/random bs=1M count=24 2>/dev/null; sync");
    // Read through the device, not from the guest's cache.
    sum = await ask(guest, "echo 3 >/proc/sys/vm/drop_caches; sha256sum </mnt/random");
    assert.match(sum, /^[0-9a-f]{64}/);
    assert.match(await ask(guest, "grep virtio /proc/interrupts"), /PCI-MSI.*virtio0-req/);
    assert.equal(await ask(guest, "dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c"), "64");

    // Each is read into memory where the ones before it ran.
    await ask(guest, makePrograms(12));
    const answer = await ask(
      guest,
      "for i in $(seq 1 12); do echo 3 >/proc/sys/vm/drop_caches; /mnt/$i; echo $?; done",
    );
    assert.deepEqual(
      answer.split("\n").map(Number),
      Array.from({ length: 12 }, (_, i) => ((i + 1) * CODE_PAGES) % 256),
    );
    guest.type("umount /mnt; poweroff\n");
    assert.deepEqual(await guest.end(), { kind: "power-off" });
  }
  assert.ok(statSync(path).blocks * 512 < 40 * MIB, "the image is sparse");
  const readOnly = join(directory, "read-only.img");
  await (await openFileDisk({ path: readOnly, sizeBytes: MIB })).close();
  await using disk = await openFileDisk({ path });
  await using second = await openFileDisk({ path: readOnly, readOnly: true });
  await using guest = await boot([disk, second], "pci=nomsi");
  assert.match(await ask(guest, "mount -t ext4 /dev/vda /mnt; grep virtio /proc/interrupts"), /IO-APIC.*virtio0$/m);
  assert.equal(await ask(guest, "sha256sum </mnt/random"), sum);
  assert.equal(
    await ask(guest, "cat /sys/block/vdb/ro; dd if=/dev/vdb of=/dev/null 2>/dev/null && echo read"),
    "1\nread",
  );
  assert.match(await ask(guest, "dd if=/dev/zero of=/dev/vdb count=1"), /can't open|not permitted|Read-only/);
});

test("what was flushed survives a kill -9 of isola, and the lock does not stand in the way", async () => {
  const path = join(directory, "killed.img");
  const args = ["run", "--memory", "128M", "--append", "quiet", "--disk"];
  {
    await using isola = new GuestProcess([...args, `${path},size=32M`]);
    await isola.expect(PROMPT);
    await ask(isola, "mke2fs -F /dev/vda >/dev/null; mount -t ext4 -o sync /dev/vda /mnt; echo kept >/mnt/file; sync");
    // A second writer is told who holds the disk.
    await using other = new GuestProcess([...args, path]);
    const { status, stderr } = await other.end();
    assert.equal(status, 1);
    assert.match(stderr, /^isola: cannot open the disk .*killed\.img: process \d+ writes it; wanted: [^\n]*\n$/);
    isola.child.kill("SIGKILL");
    await isola.end();
  }
  await using isola = new GuestProcess([...args, path]);
  await isola.expect(PROMPT);
  assert.match(await ask(isola, "mount -t ext4 /dev/vda /mnt && cat /mnt/file"), /^kept$/m);
  isola.type("poweroff\n");
  assert.equal((await isola.end()).status, 0);
});
