import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { IsolaError } from "../../base/errors.ts";
import { decompress, decompressStream, detectCompression } from "./decompress.ts";
import { decompressLz4Frame, decompressLz4Legacy } from "./lz4.ts";
import { undoX86Filter } from "./xz-x86.ts";

/** What each program made of `TEXT` or `CODE`: xz 5.4, lz4 1.9. */
const TEXT = Array.from({ length: 40 }, (_, i) => `line ${i % 7} of a file that repeats itself\n`).join("");
const MADE = {
  xz:
    "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4AXHAEVdADYaSh8IoCYDTQad7+2JIfzUvkgK2vZPwgZ8sPHyPivKkXlRnHBy5ekHyAJ+7r7oCyHZnOuY" +
    "g9WxnzBYAM0lqyZBmDsIAAAAAABVN9zcqpHYpQABYcgLAAAAOSyZDrHEZ/sCAAAAAARZWg==",
  xzX86:
    "/Td6WFoAAAFpIt42AgEEACEBFgANhjUf4AGsAJ9dAHQBPBk4txkCsKp4+MmSuoyMe59BIWI9Wv5lZ/TrhG/5Y4qKuuV3IDMi3dkUQs29s3AnpFVN" +
    "WNgoQraaeMXkhNm9vRQ4ZeYCD6R81jj5UqqEamRvpWhujm2IoxKORqu8U3AjSjDf5SYIx2afV0CAztmCqYMUYKJSMoVckuih9VFSv/NDWYnc8EOP" +
    "idtFOdHy/SmMPSl05IQaLvVBp6EAAAAAUv+T1gABtwGtAwAAIaG9RD4wDYsCAAAAAAFZWg==",
  lz4Legacy:
    "AiFMGFUAAADxFmxpbmUgMCBvZiBhIGZpbGUgdGhhdCByZXBlYXRzIGl0c2VsZgolAB8xJQARHzIlABEfMyUAER80JQARHzUlABEfNiUADA8DAf//" +
    "//+xUHNlbGYK",
  lz4Frame:
    "BCJNGGRAp1UAAADxFmxpbmUgMCBvZiBhIGZpbGUgdGhhdCByZXBlYXRzIGl0c2VsZgolAB8xJQARHzIlABEfMyUAER80JQARHzUlABEfNiUADA8D" +
    "Af////+xUHNlbGYKAAAAAL2AoXE=",
  lz4Linked:
    "BCJNGHRAvVUAAADxFmxpbmUgMCBvZiBhIGZpbGUgdGhhdCByZXBlYXRzIGl0c2VsZgolAB8xJQARHzIlABEfMyUAER80JQARHzUlABEfNiUADA8D" +
    "Af////+xUHNlbGYKL1s5BwAAAAC9gKFx",
};

/** Branches with near, far, overlapping and look-alike targets, as the x86 filter meets them. */
function code(): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < 24; i++) {
    bytes.push(0xe8, (i * 16) & 255, i, 0, 0, 0x90, 0xe9, 0xf0 - i, 0xff, 0xff, 0xff, 0x0f, 0x84, 1, 2, 0, 0);
  }
  bytes.push(0xe8, 0xe8, 0, 0xe9, 0xff, 0xff, 0xe8, 0, 0, 0, 0xe8, 0xff, 0, 0, 0xff, 0xe8, 0, 0xff, 0xe9, 0, 0);
  return Uint8Array.from(bytes);
}

const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, "base64"));
const textBytes = new TextEncoder().encode(TEXT);
const SAMPLES = {
  gzip: new Uint8Array(gzipSync(textBytes)),
  zstd: new Uint8Array(zstdCompressSync(textBytes)),
  xz: bytesOf(MADE.xz),
  "lz4-legacy": bytesOf(MADE.lz4Legacy),
  lz4: bytesOf(MADE.lz4Frame),
} as const;

const hasCode = (code: string) => (error: unknown) => error instanceof IsolaError && error.code === code;

describe("decompress", () => {
  for (const [format, sample] of Object.entries(SAMPLES)) {
    test(`${format} is detected and gives its data`, async () => {
      assert.equal(detectCompression(sample), format);
      assert.equal(new TextDecoder().decode(await decompress(sample)), TEXT);
    });

    test(`${format} beyond the limit is refused`, async () => {
      await assert.rejects(decompress(sample, TEXT.length - 1), hasCode("decompress-too-large"));
      assert.equal((await decompress(sample, TEXT.length)).length, TEXT.length);
    });

    test(`${format} cut off gives an error or, for a format without an end, a prefix`, async () => {
      for (const length of [6, 20, sample.length >> 1, sample.length - 1]) {
        const cut = sample.subarray(0, length);
        if (format === "lz4-legacy") await decompress(cut).catch((error) => assert.ok(error instanceof IsolaError));
        else await assert.rejects(decompress(cut), hasCode("decompress-damaged"), `${length} bytes`);
      }
    });

    test(`${format} with any bytes changed never fails but by an IsolaError`, async () => {
      const change = fc.tuple(fc.nat(sample.length - 1), fc.nat(255));
      const changes = fc.array(change, { minLength: 1, maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(changes, async (list) => {
          const bytes = sample.slice();
          for (const [at, value] of list) bytes[at] = value;
          try {
            assert.ok((await decompress(bytes, 1 << 20)).length <= 1 << 20);
          } catch (error) {
            assert.ok(error instanceof IsolaError, String(error));
            assert.doesNotMatch(error.message, /\n/);
          }
        }),
        { numRuns: 150 },
      );
    });
  }

  test("plain data passes as it is, in one piece", async () => {
    const pieces: Uint8Array[] = [];
    for await (const piece of decompressStream(textBytes)) pieces.push(piece);
    assert.deepEqual(pieces, [textBytes]);
    assert.equal((await decompress(new Uint8Array(0))).length, 0);
  });

  test("a format that is known but not read is named", async () => {
    const bzip2 = new TextEncoder().encode("BZh91AY");
    await assert.rejects(decompress(bzip2), /the data is bzip2, wanted gzip, zstd, xz or LZ4/);
  });
});

describe("xz with the x86 filter", () => {
  test("gives the code that went in", async () => {
    assert.deepEqual(new Uint8Array(await decompress(bytesOf(MADE.xzX86))), code());
  });

  test("a changed byte of data is caught by its check", async () => {
    const sample = bytesOf(MADE.xzX86);
    sample[60] = (sample[60] ?? 0) ^ 1;
    await assert.rejects(decompress(sample), hasCode("decompress-damaged"));
  });

  test("any changed bytes give an IsolaError or data", async () => {
    const sample = bytesOf(MADE.xzX86);
    await fc.assert(
      fc.asyncProperty(fc.nat(sample.length - 1), fc.nat(255), async (at, value) => {
        const bytes = sample.slice();
        bytes[at] = value;
        await decompress(bytes, 1 << 20).catch((error) => assert.ok(error instanceof IsolaError, String(error)));
      }),
      { numRuns: 200 },
    );
  });

  test("undoing the filter keeps what is no branch", () => {
    const bytes = Uint8Array.from([0x90, 0xe8, 1, 2, 3, 0x7f, 0x90]);
    const copy = bytes.slice();
    undoX86Filter(bytes);
    assert.deepEqual(bytes, copy);
  });
});

describe("LZ4", () => {
  const legacy = (...block: number[]) => Uint8Array.from([2, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block]);

  test("overlapping matches repeat what they have just written", () => {
    // One literal "a", then 4 + 15 + 5 bytes from one byte back; the block ends with the literal "b".
    assert.equal(
      new TextDecoder().decode(decompressLz4Legacy(legacy(0x1f, 97, 1, 0, 5, 0x10, 98), 100)),
      `${"a".repeat(25)}b`,
    );
  });

  test("frames with linked blocks and block checksums", () => {
    assert.equal(new TextDecoder().decode(decompressLz4Frame(bytesOf(MADE.lz4Linked), 1 << 20)), TEXT);
  });

  test("two legacy frames one after the other", () => {
    const sample = bytesOf(MADE.lz4Legacy);
    const twice = new Uint8Array(Buffer.concat([sample, sample]));
    assert.equal(new TextDecoder().decode(decompressLz4Legacy(twice, 1 << 20)), TEXT + TEXT);
  });

  for (const [what, bytes] of [
    ["a match before the start", legacy(0x10, 97, 2, 0)],
    ["a match at distance 0", legacy(0x10, 97, 0, 0)],
    ["literals past the block", legacy(0x50, 97)],
    ["a length without an end", legacy(0xf0, 255, 255)],
    ["half an offset", legacy(0x10, 97, 1)],
    ["a block past the file", Uint8Array.from([2, 0x21, 0x4c, 0x18, 9, 0, 0, 0, 0])],
  ] as const) {
    test(`${what} is refused`, () => {
      assert.throws(() => decompressLz4Legacy(bytes, 1 << 20), hasCode("decompress-damaged"));
    });
  }

  test("a bomb stops at the limit", () => {
    // One literal, then a match of 15 + 255 * 4000 bytes and more.
    const bomb = legacy();
    const block = [0x1f, 97, 1, 0, ...new Array<number>(4000).fill(255), 0];
    const bytes = Uint8Array.from([...bomb.subarray(0, 4), block.length & 255, block.length >> 8, 0, 0, ...block]);
    assert.throws(() => decompressLz4Legacy(bytes, 65536), hasCode("decompress-too-large"));
  });

  test("a dictionary is refused by name", () => {
    const frame = Uint8Array.from([4, 0x22, 0x4d, 0x18, 0x61, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    assert.throws(() => decompressLz4Frame(frame, 100), /needs a dictionary/);
  });
});
