/** Disk images judged by programs that isola did not write: e2fsprogs makes and checks their file systems, qemu-img reads them. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { GuestProcess } from "../guests/guest.ts";

const PROMPT = /root@debian:[^\n]*# /;
const SIZE = 64 * 2 ** 20;
const directory = mkdtempSync(join(tmpdir(), "isola-peer-disk-"));
after(() => rmSync(directory, { recursive: true }));
// Debian's administrators' programs are not on everybody's PATH.
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };

const output = (program: string, ...args: string[]): string => execFileSync(program, args, { env, encoding: "utf8" });
const isola = (disk: string): GuestProcess =>
  new GuestProcess(["run", "--memory", "128M", "--append", "quiet", "--disk", disk]);

/** A sparse image with an ext4 file system and its journal. */
function formatted(name: string): string {
  const path = join(directory, name);
  output("qemu-img", "create", "-q", "-f", "raw", path, String(SIZE));
  output("mke2fs", "-q", "-t", "ext4", path);
  return path;
}

test("a file system of e2fsprogs', used in a guest, is clean and holds what was written", async () => {
  const path = formatted("clean.img");
  await using guest = isola(path);
  await guest.expect(PROMPT);
  guest.type("mount /dev/vda /mnt && seq 1 50000 >/mnt/numbers && umount /mnt && poweroff\n");
  assert.equal((await guest.end()).status, 0);
  output("e2fsck", "-fn", path);
  assert.equal(output("debugfs", "-R", "cat /numbers", path), output("seq", "1", "50000"));
  const info = JSON.parse(output("qemu-img", "info", "--output=json", "-f", "raw", path)) as Record<string, number>;
  assert.equal(info["virtual-size"], SIZE);
  assert.ok((info["actual-size"] ?? SIZE) < SIZE / 2, "the image is sparse");
});

test("kill -9 among writes: every file whose fsync returned is whole, and the file system is sound", async () => {
  const path = formatted("killed.img");
  let acknowledged = 0;
  {
    await using guest = isola(path);
    await guest.expect(PROMPT);
    guest.type("mount /dev/vda /mnt; i=0; while i=$((i+1)); do seq $i $((i+2000)) | ");
    guest.type("dd of=/mnt/$i bs=64k conv=fsync 2>/dev/null; echo d''one $i; done\n");
    for (;;) {
      const [, count = "0"] = await guest.expect(/done (\d+)\r\n/);
      acknowledged = Number(count);
      if (acknowledged >= 40) break;
    }
    guest.child.kill("SIGKILL");
    await guest.end();
  }
  // 1: errors were corrected; that is what replaying the journal counts as.
  const { status, stdout } = spawnSync("e2fsck", ["-fy", path], { env, encoding: "utf8" });
  assert.ok(status === 0 || status === 1, stdout);
  output("e2fsck", "-fn", path);
  for (let i = 1; i <= acknowledged; i++) {
    assert.equal(output("debugfs", "-R", `cat /${i}`, path), output("seq", String(i), String(i + 2000)), `file ${i}`);
  }
});

test("a qcow2 image is refused with the way out, which works", async () => {
  const qcow2 = join(directory, "disk.qcow2");
  const raw = join(directory, "disk.raw");
  output("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M");
  await using refused = isola(qcow2);
  const { status, stderr } = await refused.end();
  assert.equal(status, 1);
  assert.match(stderr, /it is a qcow2 image; wanted: a raw image \(qemu-img convert -O raw makes one\)/);
  output("qemu-img", "convert", "-O", "raw", qcow2, raw);
  await using guest = isola(`${raw},readonly`);
  await guest.expect(PROMPT);
  guest.type("cat /sys/block/vda/size; poweroff\n");
  await guest.expect(/\n2048\r\n/);
  assert.equal((await guest.end()).status, 0);
});
