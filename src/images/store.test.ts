import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { IsolaError } from "../base/errors.ts";
import { withLock } from "./lock.ts";
import type { ImageRecipe } from "./recipe.ts";
import { ImageStore, defaultImageDirectory } from "./store.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "isola-store-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** A recipe that counts how often it ran and writes the count into its files. */
function recipe(prepare: (count: number) => Promise<void> = async () => undefined) {
  const state = { builds: 0 };
  const made: ImageRecipe = {
    name: "tiny",
    description: "a tiny image",
    commandLine: "console=ttyS0",
    minimumMemoryBytes: 8 * 2 ** 20,
    revision: 1,
    async build({ directory: work, progress }) {
      state.builds++;
      await writeFile(join(work, "scratch"), "left behind");
      progress({ step: "building" });
      await prepare(state.builds);
      const file = (name: string) => new TextEncoder().encode(`${name} ${state.builds}`);
      return {
        versions: { tiny: String(state.builds) },
        files: { kernel: file("kernel"), vmlinux: file("vmlinux"), initramfs: file("initramfs") },
      };
    },
  };
  return { state, made };
}

const rejectsWith = (work: Promise<unknown>, code: string, message: RegExp) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof IsolaError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("the image store", () => {
  test("pulls once, then opens from the cache", async () => {
    const { made, state } = recipe();
    const store = new ImageStore(directory, [made]);
    assert.deepEqual(await store.list(), [
      { name: "tiny", description: "a tiny image", minimumMemoryBytes: 8 * 2 ** 20 },
    ]);
    const contents = await store.open("tiny");
    assert.equal(text(contents.kernel), "vmlinux 1");
    assert.equal(text(contents.initrd), "initramfs 1");
    assert.equal(contents.commandLine, "console=ttyS0");
    await store.open("tiny");
    await store.pull("tiny");
    assert.equal(state.builds, 1);
    assert.deepEqual(await store.list(), [
      {
        name: "tiny",
        description: "a tiny image",
        minimumMemoryBytes: 8 * 2 ** 20,
        cachedBytes: 8 + 9 + 11 + 0,
        versions: { tiny: "1" },
      },
    ]);
  });

  test("an image of another revision of its recipe is made anew", async () => {
    const { made, state } = recipe();
    await new ImageStore(directory, [made]).pull("tiny");
    const store = new ImageStore(directory, [{ ...made, revision: 2 }]);
    assert.equal(await store.find("tiny"), undefined);
    assert.equal(text((await store.open("tiny")).kernel), "vmlinux 2");
    await store.open("tiny");
    assert.equal(state.builds, 2);
  });

  test("a refreshed image replaces the old one and leaves nothing else", async () => {
    const { made } = recipe();
    const store = new ImageStore(directory, [made]);
    await store.pull("tiny");
    await store.pull("tiny", { refresh: true });
    assert.equal(text((await store.open("tiny")).kernel), "vmlinux 2");
    assert.deepEqual(await readdir(directory), ["tiny"]);
    assert.equal((await readdir(join(directory, "tiny"))).length, 4);
  });

  test("a build that fails leaves the old image, and nothing half-written", async () => {
    const failure = new IsolaError({ code: "no-network", message: "no network" });
    const { made } = recipe(async (count) => {
      if (count === 2) throw failure;
    });
    const store = new ImageStore(directory, [made]);
    await store.pull("tiny");
    await assert.rejects(store.pull("tiny", { refresh: true }), failure);
    assert.equal(text((await store.open("tiny")).kernel), "vmlinux 1");
    assert.deepEqual(await readdir(directory), ["tiny"]);
  });

  test("what a killed pull left behind does not count, and goes away", async () => {
    const { made } = recipe();
    const store = new ImageStore(directory, [made]);
    await mkdir(join(directory, "tiny.tmp/build"), { recursive: true });
    await mkdir(join(directory, "tiny"));
    await writeFile(join(directory, "tiny/vmlinux-000000000000"), "half");
    assert.equal(await store.find("tiny"), undefined);
    await store.pull("tiny");
    assert.equal((await readdir(join(directory, "tiny"))).length, 4);
    assert.deepEqual(await readdir(directory), ["tiny"]);
  });

  test("damage is seen: sizes always, contents on demand; a pull mends it", async () => {
    const { made } = recipe();
    const store = new ImageStore(directory, [made]);
    await store.pull("tiny");
    const image = await store.find("tiny");
    assert.ok(image !== undefined);
    await writeFile(image.paths.vmlinux, "VMLINUX 1");
    assert.ok((await store.find("tiny")) !== undefined);
    await rejectsWith(store.find("tiny", { verify: "full" }), "image-damaged", /SHA-256 of .* is not/);
    await writeFile(image.paths.vmlinux, "vm");
    await rejectsWith(store.open("tiny"), "image-damaged", /has 2 bytes, wanted 9; .*isola image pull tiny/);
    await rm(image.paths.vmlinux);
    await rejectsWith(store.open("tiny"), "image-damaged", /is missing/);
    await store.pull("tiny");
    assert.equal(text((await store.open("tiny")).kernel), "vmlinux 2");
  });

  test("a manifest that is no manifest, or leads out of its directory, is damage", async () => {
    const { made } = recipe();
    const store = new ImageStore(directory, [made]);
    await store.pull("tiny");
    const path = join(directory, "tiny/manifest.json");
    const manifest = await readFile(path, "utf8");
    for (const bad of [
      "",
      "{}",
      "[]",
      manifest.replace(/"vmlinux-[0-9a-f]+"/, '"../../etc/passwd"'),
      manifest.slice(9),
    ]) {
      await writeFile(path, bad);
      await rejectsWith(store.find("tiny"), "image-damaged", /is no manifest of version 1/);
    }
    assert.deepEqual(await store.list(), [
      { name: "tiny", description: "a tiny image", minimumMemoryBytes: 8 * 2 ** 20 },
    ]);
  });

  test("an unknown name lists the known ones", async () => {
    const store = new ImageStore(directory, [recipe().made]);
    const odd = "../x\n";
    for (const work of [store.open(odd), store.pull(odd), store.find(odd), store.remove(odd)]) {
      await rejectsWith(work, "image-unknown", /"\.\.\/x\\n": no such image; known ones are: tiny/);
    }
  });

  test("removing", async () => {
    const store = new ImageStore(directory, [recipe().made]);
    assert.equal(await store.remove("tiny"), false);
    await store.pull("tiny");
    assert.equal(await store.remove("tiny"), true);
    assert.deepEqual(await readdir(directory), []);
  });

  test("two pulls at once build once", async () => {
    const { made, state } = recipe(() => new Promise((resolve) => setTimeout(resolve, 50)));
    const steps: string[] = [];
    const progress = ({ step }: { step: string }) => steps.push(step);
    const stores = [new ImageStore(directory, [made]), new ImageStore(directory, [made])];
    await Promise.all(stores.map((store) => store.pull("tiny", { refresh: true, progress })));
    assert.equal(state.builds, 1);
    assert.ok(steps.includes(`waiting for process ${process.pid}, which pulls the same image`));
  });

  test("a cache that cannot be written is one line", async () => {
    await writeFile(join(directory, "file"), "");
    const store = new ImageStore(join(directory, "file/images"), [recipe().made]);
    await rejectsWith(store.pull("tiny"), "cache-unwritable", /no directory; .*XDG_CACHE_HOME/);
  });

  test("XDG_CACHE_HOME is used where it is absolute", () => {
    assert.equal(defaultImageDirectory({ XDG_CACHE_HOME: "/var/x" }), "/var/x/isola/images");
    const home = join(homedir(), ".cache/isola/images");
    assert.equal(defaultImageDirectory({ XDG_CACHE_HOME: "x" }), home);
    assert.equal(defaultImageDirectory({}), home);
  });
});

describe("the lock", () => {
  const options = { action: "pulling image tiny", waitMs: 0 };

  test("a living holder is named", async () => {
    const lock = join(directory, "lock");
    const child = spawn("sleep", ["60"]);
    try {
      await writeFile(lock, `${child.pid}\n`);
      const message = new RegExp(`pulling image tiny: process ${child.pid} is doing the same`);
      await rejectsWith(
        withLock(lock, options, async () => undefined),
        "locked",
        message,
      );
      assert.equal(await readFile(lock, "utf8"), `${child.pid}\n`);
    } finally {
      child.kill();
    }
  });

  test("a lock of a process that is gone, was replaced by another, or is no lock at all, is taken over", async () => {
    const lock = join(directory, "lock");
    const child = spawn("true");
    await new Promise((resolve) => child.once("close", resolve));
    for (const stale of [`${child.pid} 1\n`, `${process.pid} 1\n`, "", "garbage", "-1", "0"]) {
      await writeFile(lock, stale);
      assert.equal(await withLock(lock, options, async () => "done"), "done");
      assert.deepEqual(await readdir(directory), []);
    }
  });

  test("it is released when the work fails", async () => {
    const lock = join(directory, "lock");
    await assert.rejects(
      withLock(lock, options, () => Promise.reject(new Error("no"))),
      /no/,
    );
    await assert.rejects(stat(lock));
  });
});
