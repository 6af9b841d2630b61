import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { type DiskOptions, type FileDisk, openFileDisk } from "./file-disk.ts";

const root = mkdtempSync(join(tmpdir(), "isola-disk-"));
after(() => rmSync(root, { recursive: true }));
let count = 0;
let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, `${count++}-`));
  path = join(directory, "disk.img");
});

const refused = async (options: Partial<DiskOptions>, code: string, message: RegExp): Promise<void> => {
  await assert.rejects(openFileDisk({ path, ...options }), (error: Error & { code: string }) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
};
const read = async (disk: FileDisk, position: number, length: number): Promise<Uint8Array> => {
  const bytes = new Uint8Array(length);
  await disk.read(position, [bytes.subarray(0, 1), bytes.subarray(1)]);
  return bytes;
};

test("a disk is made sparse, keeps what is written, and leaves nothing else behind", async () => {
  {
    await using disk = await openFileDisk({ path, sizeBytes: 2 ** 30 });
    assert.deepEqual(disk.info, { sectors: 2 ** 21, readOnly: false, serial: "disk.img" });
    await disk.write(2 ** 30 - 1024, [Uint8Array.of(1, 2, 3), new Uint8Array(1021).fill(9)]);
    await disk.flush();
    assert.deepEqual([...(await read(disk, 2 ** 30 - 1024, 4))], [1, 2, 3, 9]);
  }
  const { size, blocks, mode } = statSync(path);
  assert.equal(size, 2 ** 30);
  assert.ok(blocks * 512 < 2 ** 20, `${blocks} blocks`);
  assert.equal(mode & 0o077, 0, "nobody else reads it");
  assert.deepEqual(readdirSync(directory), ["disk.img"]);
  await using again = await openFileDisk({ path, sizeBytes: 2 ** 30 });
  assert.deepEqual([...(await read(again, 2 ** 30 - 1024, 4))], [1, 2, 3, 9]);
});

test("what cannot be a disk is refused with what was found and what is wanted", async () => {
  await refused({}, "disk-missing", /there is no such file; wanted: a file, or size=SIZE/);
  await refused({ sizeBytes: 512, readOnly: true }, "disk-missing", /wanted: a file to read/);
  await refused({ sizeBytes: 1000 }, "disk-size", /1000 bytes; wanted: a multiple of 512/);
  await refused({ sizeBytes: 0 }, "disk-size", /0 bytes/);
  await refused({ sizeBytes: 1024, quotaBytes: 512 }, "disk-quota", /size=1024 asked for; wanted: at most 512/);
  await refused({ path: directory }, "disk-unusable", /no regular file/);
  await refused({ path: "/dev/null" }, "disk-unusable", /no regular file/);
  await refused({ path: join(directory, "no", "such"), sizeBytes: 512 }, "disk-unusable", /no such file or directory/);
  await refused({ path: join(directory, "x".repeat(300)), sizeBytes: 512 }, "disk-unusable", /ENAMETOOLONG/);
  assert.deepEqual(readdirSync(directory), []);
  writeFileSync(path, new Uint8Array(1536));
  await refused({ sizeBytes: 1024 }, "disk-size", /the file has 1536 bytes, size= says 1024; wanted: the same/);
  writeFileSync(path, new Uint8Array(700));
  await refused({}, "disk-size", /700 bytes/);
  writeFileSync(path, "");
  await refused({}, "disk-size", /0 bytes/);
  assert.deepEqual(readdirSync(directory), ["disk.img"]);
});

test("a qcow2 image is not taken for raw bytes, unless that is what is asked", async () => {
  writeFileSync(path, Buffer.concat([Buffer.from([0x51, 0x46, 0x49, 0xfb]), Buffer.alloc(508)]));
  await refused({}, "disk-format", /it is a qcow2 image; wanted: a raw image/);
  truncateSync(path, 196_616);
  await refused({}, "disk-format", /it is a qcow2 image/);
  truncateSync(path, 512);
  await using disk = await openFileDisk({ path, raw: true });
  assert.equal(disk.info.sectors, 1);
});

test("one writer at a time, by whatever name the file goes; the refusal names the holder", async () => {
  const first = await openFileDisk({ path, sizeBytes: 4096, holder: "db" });
  const other = join(directory, "other.img");
  symlinkSync(path, other);
  const holder = new RegExp(`VM db \\(process ${process.pid}\\) writes it`);
  await refused({}, "disk-locked", holder);
  await refused({ path: other, readOnly: true }, "disk-locked", holder);
  await first.close();
  await first.close();
  await using reader = await openFileDisk({ path, readOnly: true, holder: "web" });
  await using second = await openFileDisk({ path: other, readOnly: true });
  await refused({}, "disk-locked", /reads it/);
  await reader.close();
  await second.close();
  await using writer = await openFileDisk({ path });
  assert.equal(writer.info.readOnly, false);
});

test("the lock of a process that was killed is taken over; its id alone does not hold it", async () => {
  const program = `
    import { openFileDisk } from ${JSON.stringify(new URL("file-disk.ts", import.meta.url).href)};
    await openFileDisk({ path: ${JSON.stringify(path)}, sizeBytes: 4096, holder: "gone" });
    console.log("open");
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  await refused({}, "disk-locked", new RegExp(`VM gone \\(process ${child.pid}\\) writes it`));
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.ok(existsSync(`${path}.lock`));
  await using disk = await openFileDisk({ path });
  await disk.close();
  // This process's id, with another start time: the id was used again.
  writeFileSync(`${path}.lock`, `${process.pid} 1 old\n`);
  writeFileSync(`${path}.lock.r-1-0`, "no pid at all");
  await using again = await openFileDisk({ path });
  assert.match(readFileSync(`${path}.lock`, "utf8"), new RegExp(`^${process.pid} [0-9]+\n$`));
  assert.equal(again.info.sectors, 8);
});

test("two that come at once never both write", async () => {
  writeFileSync(path, new Uint8Array(4096));
  const attempts = Array.from({ length: 20 }, (_, i) => openFileDisk({ path, readOnly: i % 2 === 0 }));
  const results = await Promise.allSettled(attempts);
  const disks = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const writers = disks.filter(({ info }) => !info.readOnly);
  assert.ok(writers.length <= 1);
  if (writers.length === 1) assert.equal(disks.length, 1);
  for (const disk of disks) await disk.close();
  assert.deepEqual(readdirSync(directory), ["disk.img"]);
});

test("a reader of a directory that it may not write needs no lock", async () => {
  const NOBODY = 65534;
  writeFileSync(path, new Uint8Array(512));
  chmodSync(root, 0o755);
  chmodSync(directory, 0o555);
  // The superuser may write everywhere.
  const superuser = process.geteuid?.() === 0;
  if (superuser) process.seteuid?.(NOBODY);
  try {
    await refused({}, "disk-unusable", /permission denied/);
    await using disk = await openFileDisk({ path, readOnly: true });
    assert.deepEqual([...(await read(disk, 510, 2))], [0, 0]);
    assert.deepEqual(readdirSync(directory), ["disk.img"]);
  } finally {
    if (superuser) process.seteuid?.(0);
    chmodSync(directory, 0o755);
  }
});

test("a file that shrank, or a full host, is told once, until writing works again", async () => {
  await using disk = await openFileDisk({ path, sizeBytes: 4096 });
  const told: string[] = [];
  disk.onTrouble = (message) => told.push(message);
  truncateSync(path, 512);
  await assert.rejects(read(disk, 1024, 512));
  await assert.rejects(read(disk, 1024, 512));
  assert.equal(told.length, 1);
  assert.match(told[0] ?? "", /^disk .*disk\.img: reading: .*shorter than it was; the guest gets an I\/O error$/);
  await disk.write(1024, [new Uint8Array(512)]);
  await read(disk, 1024, 512);
  truncateSync(path, 512);
  await assert.rejects(read(disk, 1024, 512));
  assert.equal(told.length, 2);
});
