import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { IsolaError } from "../base/errors.ts";
import { readAr } from "./ar.ts";
import { CpioWriter, readCpio } from "./cpio.ts";
import { readDeb } from "./deb.ts";
import { arOf, debOf, tarEntry, tarOf } from "./sample-archives.ts";
import { type TarEntry, type TarHeader, readTar } from "./tar.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const hasCode = (code: string) => (error: unknown) => error instanceof IsolaError && error.code === code;

/** The same bytes in pieces of `step`, as a decompressor might give them. */
async function* pieces(bytes: Uint8Array, step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
}

async function tarEntries(
  bytes: Uint8Array,
  wanted?: (header: TarHeader) => boolean,
  step = 1000,
): Promise<TarEntry[]> {
  return Array.fromAsync(readTar(pieces(bytes, step), wanted));
}

/** Runs `read` on `sample` with some bytes changed or cut off; only an IsolaError of one line may come out. */
async function mutate(sample: Uint8Array, read: (bytes: Uint8Array) => unknown): Promise<void> {
  const change = fc.tuple(fc.nat(sample.length - 1), fc.constantFrom(0, 1, 0x30, 0x37, 0x39, 0x7f, 0x80, 0xff));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 6 }), fc.nat(sample.length), async (changes, cut) => {
      const bytes = sample.slice(0, sample.length - (changes.length % 2 === 0 ? cut : 0));
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      try {
        await read(bytes);
      } catch (error) {
        assert.ok(error instanceof IsolaError, String(error));
        assert.doesNotMatch(error.message, /\n/);
      }
    }),
    { numRuns: 400 },
  );
}

describe("ar", () => {
  const sample = arOf([
    ["debian-binary", "2.0\n"],
    ["odd/", "abc"],
    ["even", "abcd"],
  ]);

  test("members in order, names without GNU's slash, odd sizes padded", () => {
    const members = readAr(sample).map(({ name, bytes }) => [name, text(bytes)]);
    assert.deepEqual(members, [
      ["debian-binary", "2.0\n"],
      ["odd", "abc"],
      ["even", "abcd"],
    ]);
  });

  test("damage is refused", () => {
    assert.throws(() => readAr(new Uint8Array(4)), hasCode("ar-damaged"));
    assert.throws(() => readAr(sample.subarray(0, sample.length - 1)), /claims 4 bytes, 3 are left/);
    assert.throws(() => readAr(sample.subarray(0, 30)), /cut off/);
  });

  test("hostile archives", () => mutate(sample, readAr));
});

describe("tar", () => {
  const longName = `${"d/".repeat(80)}file`;
  const sample = tarOf([
    { path: "./", type: "5", mode: 0o755 },
    { path: "./boot/vmlinuz", data: "k".repeat(1500) },
    { path: "bin/sh", type: "2", link: "busybox" },
    { path: "././@LongLink", type: "L", data: `${longName}\0` },
    { path: "short", data: "long" },
    { path: "pax", type: "x", data: "26 path=some/other/place\n\n".slice(0, 25).replace("26", "25") },
    { path: "short", data: "pax", mode: 0o4755 },
  ]);

  test("entries with types, modes, links and long names", async () => {
    const entries = await tarEntries(sample);
    assert.deepEqual(
      entries.map(({ path, type, mode, linkPath, bytes }) => [path, type, mode, linkPath, bytes.length]),
      [
        ["", "directory", 0o755, "", 0],
        ["boot/vmlinuz", "file", 0o644, "", 1500],
        ["bin/sh", "symlink", 0o644, "busybox", 0],
        [longName, "file", 0o644, "", 4],
        ["some/other/place", "file", 0o4755, "", 3],
      ],
    );
  });

  test("only wanted entries come, however the stream is cut", async () => {
    for (const step of [1, 7, 512, 100_000]) {
      const entries = await tarEntries(sample, ({ path }) => path === "boot/vmlinuz", step);
      assert.deepEqual(
        entries.map(({ bytes }) => text(bytes)),
        ["k".repeat(1500)],
      );
    }
  });

  test("stopping early ends the source", async () => {
    let closed = false;
    const source = (async function* () {
      try {
        yield* pieces(sample, 512);
      } finally {
        closed = true;
      }
    })();
    for await (const _ of readTar(source)) break;
    assert.ok(closed);
  });

  test("damage is refused", async () => {
    await assert.rejects(tarEntries(sample.subarray(0, 1200)), hasCode("tar-damaged"));
    await assert.rejects(tarEntries(tarOf([{ path: "../etc/passwd" }])), /a path with "\.\."/);
    const wrong = tarEntry({ path: "a" });
    wrong[0] = 0x62;
    await assert.rejects(tarEntries(wrong), /wrong checksum/);
    const vast = tarOf([{ path: "x", type: "L", data: new Uint8Array(70_000) }]);
    await assert.rejects(tarEntries(vast), /extension header of 70000 bytes/);
  });

  test("hostile archives", () => mutate(sample, (bytes) => tarEntries(bytes)));

  test("hostile archives with right checksums", () =>
    mutate(tarEntry({ path: "a", data: "b" }), (bytes) => {
      if (bytes.length >= 512) {
        let sum = 8 * 0x20;
        for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += bytes[i] ?? 0;
        bytes.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
      }
      return tarEntries(bytes);
    }));
});

describe("deb", () => {
  const data = tarOf([{ path: "./usr/share/doc" }, { path: "./boot/vmlinuz-6", data: "kernel" }]);
  const wanted = ({ path }: TarHeader) => path.startsWith("boot/");

  for (const [name, bytes] of [
    ["data.tar", data],
    ["data.tar.gz", new Uint8Array(gzipSync(data))],
    ["data.tar.zst", new Uint8Array(zstdCompressSync(data))],
  ] as const) {
    test(`files of a package with ${name}`, async () => {
      const entries = await Array.fromAsync(readDeb(debOf(name, bytes), wanted));
      assert.deepEqual(
        entries.map(({ path, bytes: b }) => [path, text(b)]),
        [["boot/vmlinuz-6", "kernel"]],
      );
    });
  }

  test("what is no package is refused", () => {
    assert.throws(() => readDeb(arOf([["other", ""]])), /first member is other, wanted debian-binary/);
    assert.throws(() => readDeb(arOf([["debian-binary", "2.0\n"]])), /holds no data\.tar/);
  });

  test("hostile packages", () => mutate(debOf("data.tar", data), (bytes) => Array.fromAsync(readDeb(bytes))));
});

describe("cpio", () => {
  const write = () =>
    new CpioWriter()
      .node("dev/console", "character", 5, 1)
      .file("usr/bin/tool", "#!/bin/sh\n", 0o755)
      .symlink("usr/bin/alias", "tool")
      .directory("tmp", 0o1777)
      .node("dev/vda", "block", 254, 0)
      .finish();

  test("what is written is read back, with parents before children", () => {
    const entries = readCpio(write()).map(({ path, type, mode, bytes, major, minor }) => {
      return [path, type, mode.toString(8), text(bytes), major, minor];
    });
    assert.deepEqual(entries, [
      ["dev", "directory", "755", "", 0, 0],
      ["dev/console", "character", "600", "", 5, 1],
      ["usr", "directory", "755", "", 0, 0],
      ["usr/bin", "directory", "755", "", 0, 0],
      ["usr/bin/tool", "file", "755", "#!/bin/sh\n", 0, 0],
      ["usr/bin/alias", "symlink", "777", "tool", 0, 0],
      ["tmp", "directory", "1777", "", 0, 0],
      ["dev/vda", "block", "600", "", 254, 0],
    ]);
  });

  test("the same calls give the same bytes, in whole blocks", () => {
    assert.deepEqual(write(), write());
    assert.equal(write().length % 512, 0);
  });

  test("an entry that comes again replaces the first", () => {
    const entries = readCpio(new CpioWriter().file("a", "1").file("a", "22").finish());
    assert.deepEqual(
      entries.map(({ bytes }) => text(bytes)),
      ["22"],
    );
  });

  test("hostile archives", () => mutate(write(), readCpio));
});
