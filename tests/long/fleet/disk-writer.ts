/**
 * A guest that writes files for ever and says of each when it is durable, and the judgement of its disk by e2fsprogs
 * after its process was killed: the file system is whole, and what the guest was told is durable is there.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CpioWriter } from "../../../src/images/cpio.ts";
import { ImageStore } from "../../../src/images/store.ts";

export const WRITER = "writer";
const DISK_MIB = 96;
/** Files that the disk has room for. */
const INODES = 60_000;

/** File N holds N and its checksum. Its name is durable before N is said. */
const SESSION = `#!/bin/sh
exec </dev/console >/dev/console 2>&1
mount -t ext4 /dev/vda /mnt && mkdir -p /mnt/d || exec poweroff
n=$(ls /mnt/d | sort -n | tail -n 1)
n=\${n:-0}
while :; do
  n=$((n + 1))
  echo "$n $(echo $n | md5sum)" >/mnt/d/$n && sync && echo "durable $n"
done
`;

/** Makes the guest's initramfs in `folder`: Debian's, with a session of its own. Returns what to make the VM from. */
export async function writerSpec(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const { initrd } = await new ImageStore().open("debian");
  const path = join(folder, "initramfs");
  // Linux unpacks archives one after the other.
  const session = new CpioWriter().file("etc/session", SESSION, 0o755).finish();
  writeFileSync(path, Buffer.concat([initrd ?? new Uint8Array(0), session]));
  const disks = [{ name: "data", sizeBytes: DISK_MIB * 2 ** 20 }];
  return {
    name: WRITER,
    image: "debian",
    engine: "wasm",
    initrds: [{ path, commandLine: "" }],
    append: "quiet",
    memoryBytes: "96M",
    disks,
  };
}

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 28 });
  assert.equal(error, undefined);
  assert.equal(status, 0, `${command} ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout;
}

export function makeFileSystem(disk: string): void {
  run("mke2fs", "-q", "-F", "-t", "ext4", "-N", String(INODES), disk);
}

/** Numbers that a console's text says are durable. */
export function durable(text: string): number[] {
  return [...text.matchAll(/^durable (\d+)\r?$/gm)].map(([, number]) => Number(number));
}

/** Checks a disk that nobody writes: after its journal is replayed it is without fault, and every number is in it. */
export function checkDisk(disk: string, numbers: Iterable<number>): void {
  const folder = mkdtempSync(join(tmpdir(), "isola-disk-"));
  try {
    const copy = join(folder, "disk");
    copyFileSync(disk, copy);
    // Its status is 1 where there was something to replay.
    spawnSync("e2fsck", ["-y", "-E", "journal_only", copy]);
    run("e2fsck", "-f", "-n", copy);
    run("debugfs", "-R", `rdump /d ${folder}`, copy);
    for (const number of numbers) {
      const text = readFileSync(join(folder, "d", String(number)), "latin1");
      assert.match(text, new RegExp(`^${number} [0-9a-f]{32}  -\\n$`), `what was durable as ${number}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
