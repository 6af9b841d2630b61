/** Bad input through the command line: one line that helps, a status other than 0, nothing half-written. */

import assert from "node:assert/strict";
import { constants } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ImageStore } from "../../src/images/store.ts";
import { elfOf } from "../../src/machine/boot/sample-kernels.ts";
import { GuestProcess, MIB } from "./guest.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "isola-bad-input-"));
  await new ImageStore().pull("debian");
});
after(() => rm(directory, { recursive: true }));

async function file(name: string, contents: Uint8Array | string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, contents);
  return path;
}

/** Runs isola to its end; gives the one line that tells what was wrong. */
async function refusal(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<string> {
  await using isola = new GuestProcess(args, { ...process.env, ...environment });
  isola.child.stdin.end();
  const { status, signal, stderr } = await isola.end();
  assert.equal(signal, null);
  assert.ok(status === 1 || status === 2, `status ${status}: ${stderr}`);
  assert.equal(isola.text, "");
  const lines = stderr.split("\n");
  assert.equal(lines.pop(), "");
  const message = lines.pop() ?? "";
  assert.match(message, /^isola: /);
  assert.doesNotMatch(message, /unexpected failure/);
  // Where there is no terminal, each step of a download is a line.
  for (const step of lines) assert.match(step, /^isola: fetching package indexes$/);
  return message;
}

test("kernels that are none, truncated, or for another processor", async () => {
  const { paths } = (await new ImageStore().find("debian")) ?? assert.fail("the image is gone");
  const bzImage = await readFile(paths.kernel);
  const arm64 = new Uint8Array(4096);
  arm64.set(new TextEncoder().encode("ARMd"), 56);
  const cases: readonly (readonly [string, Uint8Array | string, RegExp])[] = [
    ["text", "#!/bin/sh\necho this is no kernel\n", /loading the kernel: .*neither/],
    ["zeros", new Uint8Array(MIB), /loading the kernel: .*neither/],
    ["half-bzimage", bzImage.subarray(0, bzImage.length / 2), /loading the kernel: .*copy the file again/],
    [
      "half-vmlinux",
      (await readFile(paths.vmlinux)).subarray(0, 20 * MIB),
      /loading the kernel: .*copy the file again/,
    ],
    ["aarch64-elf", elfOf({ machine: 183 }), /loading the kernel: .*(AArch64|x86-64)/],
    ["aarch64-image", arm64, /loading the kernel: .*AArch64.*x86/],
    ["elf-at-0", elfOf({ entry: 0, segments: [{ physical: 0, contents: new Uint8Array(16) }] }), /loading the kernel/],
  ];
  for (const [name, contents, message] of cases) {
    assert.match(await refusal(["run", "--kernel", await file(name, contents)]), message);
  }
  const damaged = bzImage.slice();
  damaged.fill(0x5a, 8 * MIB, 8 * MIB + 100_000);
  await refusal(["run", "--kernel", await file("damaged", damaged)]);
  assert.match(await refusal(["run", "--kernel", join(directory, "none")]), /there is no such file/);
  assert.match(await refusal(["run", "--kernel", directory]), /not a regular file|directory/);
});

test("an initrd larger than the memory, or than what the kernel leaves of it", async () => {
  const initrd = await file("initrd", "");
  await truncate(initrd, 300 * MIB);
  assert.match(await refusal(["run", "--initrd", initrd]), /initrd.*300M.*256M/);
  await truncate(initrd, 200 * MIB);
  assert.match(await refusal(["run", "--initrd", initrd]), /loading the initrd: .*there is room for.*--memory/);
});

test("memory sizes that are absurd, too small, or beyond the engine", async () => {
  for (const size of ["0", "-1", "lots", "1K", "99999T", "1e9", "8G", "16M", "72M", ""]) {
    assert.match(await refusal(["run", "--memory", size]), /memory/);
  }
});

test("an unknown image", async () => {
  assert.match(await refusal(["run", "plan9"]), /plan9.*debian/);
  assert.match(await refusal(["image", "pull", "../debian"]), /debian/);
});

/** Files under the cache, but for what Node compiled. */
async function cached(cache: string): Promise<string[]> {
  const entries = await readdir(cache, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(cache.length + 1))
    .filter((path) => !path.startsWith("isola/compiled/"))
    .toSorted();
}

test("no network, and no apt: the cache stays empty", async () => {
  const cache = join(directory, "empty-cache");
  await mkdir(cache);
  // Port 9 of this host, where nobody listens, is the whole of the network.
  const sources = await file("sources.list", "deb [trusted=yes] http://127.0.0.1:9/debian bookworm main\n");
  const configuration = await file(
    "apt.conf",
    `Dir::Etc::SourceList "${sources}"; Dir::Etc::SourceParts "${join(directory, "no-parts")}";\n`,
  );
  const environment = {
    XDG_CACHE_HOME: cache,
    APT_CONFIG: configuration,
    http_proxy: "",
    HTTP_PROXY: "",
    no_proxy: "*",
  };
  const message = await refusal(["run", "debian"], environment);
  assert.match(message, /fetching package .*(connect|refused).*--kernel/i);
  assert.deepEqual(await cached(cache), []);
  assert.match(
    await refusal(["run", "debian"], { XDG_CACHE_HOME: cache, PATH: directory }),
    /no working apt-get.*--kernel/,
  );
  assert.deepEqual(await cached(cache), []);
});

test("a cache that may not be written", async () => {
  const message = await refusal(["run", "debian"], { XDG_CACHE_HOME: await file("cache-file", "") });
  assert.match(message, /XDG_CACHE_HOME/);
});

test("a cached file of another size is named, with the way out; nothing is changed", async () => {
  const { paths } = (await new ImageStore().find("debian")) ?? assert.fail("the image is gone");
  const cache = join(directory, "damaged-cache");
  const home = join(cache, "isola", "images", "debian");
  await mkdir(home, { recursive: true });
  for (const path of [...Object.values(paths), join(paths.kernel, "..", "manifest.json")]) {
    await copyFile(path, join(home, path.slice(path.lastIndexOf("/") + 1)), constants.COPYFILE_FICLONE);
  }
  const vmlinux = join(home, paths.vmlinux.slice(paths.vmlinux.lastIndexOf("/") + 1));
  await truncate(vmlinux, 1000);
  const before = await cached(cache);
  const message = await refusal(["run", "debian"], { XDG_CACHE_HOME: cache });
  assert.match(message, /has 1000 bytes, wanted \d+.*isola image pull debian/);
  assert.deepEqual(await cached(cache), before);
  await writeFile(join(home, "manifest.json"), "{");
  assert.match(await refusal(["run", "debian"], { XDG_CACHE_HOME: cache }), /manifest\.json.*isola image pull debian/);
});
