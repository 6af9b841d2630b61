import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IsolaError } from "../../base/errors.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { extractVmlinux, isBzImage, readBzImage, unpackKernel } from "./bzimage.ts";
import { readElf } from "./elf.ts";
import { loadKernel } from "./load-kernel.ts";
import { bzImageOf, elfOf } from "./sample-kernels.ts";

const plain = async (bytes: Uint8Array) => bytes;
const hasCode = (code: string) => (error: unknown) => error instanceof IsolaError && error.code === code;
const bytes = (...values: number[]) => Uint8Array.from(values);

describe("ELF", () => {
  for (const bits of [32, 64] as const) {
    test(`segments, entry and notes of an ELF${bits}`, () => {
      const notes = [
        { owner: "Xen", type: 18, contents: bytes(0, 0, 0, 1) },
        { owner: "GNU", type: 3, contents: bytes(7) },
      ];
      const segments = [
        { physical: 0x200000, contents: bytes(1, 2, 3), zeroBytes: 5 },
        { physical: 0x300000, contents: bytes(4) },
      ];
      const elf = readElf(elfOf({ bits, entry: 0x200001, notes, segments }));
      assert.deepEqual(elf, {
        bits,
        entry: 0x200001,
        segments: [
          { physical: 0x200000, virtual: 0x200000, contents: bytes(1, 2, 3), memoryBytes: 8 },
          { physical: 0x300000, virtual: 0x300000, contents: bytes(4), memoryBytes: 1 },
        ],
        notes,
      });
    });
  }

  test("another architecture is named", () => {
    assert.throws(() => readElf(elfOf({ machine: 183 })), /built for AArch64; wanted one for x86/);
    assert.throws(() => readElf(elfOf({ machine: 243 })), hasCode("kernel-other-architecture"));
    assert.throws(() => readElf(elfOf({ machine: 999 })), /ELF machine 999/);
  });

  test("big-endian machines are named too", () => {
    const elf = elfOf();
    elf[5] = 2;
    elf.set([0, 22], 18);
    assert.throws(() => readElf(elf), /built for S390/);
  });

  test("an object file and an ELF with nothing to load are refused", () => {
    assert.throws(() => readElf(elfOf({ type: 1 })), /type 1 \(an object, library or core\)/);
    assert.throws(() => readElf(elfOf({ segments: [], notes: [] })), /no program headers/);
  });

  test("every truncation is refused", () => {
    const whole = elfOf();
    for (let length = 4; length < whole.length; length++) {
      assert.throws(() => readElf(whole.subarray(0, length)), IsolaError, `${length} bytes`);
    }
    assert.throws(() => readElf(whole.subarray(0, whole.length - 1)), hasCode("kernel-truncated"));
  });
});

describe("bzImage", () => {
  const elf = elfOf();

  test("the header's fields and the kernel inside", async () => {
    const image = readBzImage(bzImageOf(elf, { commandLineLimit: 100, initrdAddressMax: 0x37ffffff }));
    assert.equal(image.version, 0x020f);
    assert.equal(image.commandLineLimit, 100);
    assert.equal(image.initrdAddressMax, 0x37ffffff);
    assert.equal(image.has64, true);
    assert.equal(image.preferredAddress, 0x1000000);
    assert.equal(image.setupHeader.length, 0x202 + 0x6a - 0x1f1);
    assert.deepEqual(await extractVmlinux(image, plain), elf);
  });

  test("the decompressor gets the payload without its size word, and that size as its limit", async () => {
    let asked: [number, number] | undefined;
    await extractVmlinux(readBzImage(bzImageOf(elf)), async (payload, limit) => {
      asked = [payload.length, limit];
      return payload;
    });
    assert.deepEqual(asked, [elf.length, elf.length]);
  });

  test("an old protocol and a wrong size are refused", async () => {
    assert.throws(() => readBzImage(bzImageOf(elf, { version: 0x0207 })), /boot protocol is 2\.07; wanted 2\.08/);
    const short = readBzImage(bzImageOf(elf, { claimedBytes: elf.length + 1 }));
    await assert.rejects(extractVmlinux(short, plain), hasCode("kernel-truncated"));
    const absurd = readBzImage(bzImageOf(elf, { claimedBytes: 0xffffffff }));
    await assert.rejects(extractVmlinux(absurd, plain), /payload claims 4294967295 bytes/);
    const other = readBzImage(bzImageOf(new Uint8Array(100)));
    await assert.rejects(extractVmlinux(other, plain), /payload is no ELF/);
  });

  test("every truncation is refused", async () => {
    const whole = bzImageOf(elf);
    for (let length = 0; length < whole.length; length += 7) {
      await assert.rejects(unpackKernel(whole.subarray(0, length), plain), IsolaError, `${length} bytes`);
    }
    await assert.rejects(unpackKernel(whole.subarray(0, whole.length - 1), plain), hasCode("kernel-truncated"));
  });
});

describe("unpackKernel", () => {
  test("an ELF passes, a bzImage is opened", async () => {
    const elf = elfOf();
    assert.equal((await unpackKernel(elf, plain)).elf, elf);
    const { elf: inner, image } = await unpackKernel(bzImageOf(elf), plain);
    assert.deepEqual(inner, elf);
    assert.ok(image !== undefined);
  });

  test("what is no kernel is refused in one line", async () => {
    const arm64 = new Uint8Array(64);
    arm64.set(new TextEncoder().encode("ARMd"), 56);
    await assert.rejects(unpackKernel(arm64, plain), /image for AArch64/);
    await assert.rejects(unpackKernel(new Uint8Array(0), plain), /the file is empty; wanted a Linux bzImage/);
    await assert.rejects(unpackKernel(new Uint8Array(9999), plain), /neither bzImage, ELF nor Multiboot/);
  });
});

describe("hostile kernels", () => {
  const notes = [{ owner: "Xen", type: 18, contents: bytes(0, 0, 0, 1) }];
  const samples = {
    elf64: elfOf({ notes }),
    elf32: elfOf({ bits: 32, notes }),
    bzImage: bzImageOf(elfOf({ notes })),
  };
  for (const [name, sample] of Object.entries(samples)) {
    test(`${name} with bytes changed loads or gives an IsolaError of one line`, async () => {
      const memory = GuestMemory.create(32 << 20);
      const headers = name === "bzImage" ? [0x1f1, 0x268] : [0, Math.min(sample.length, 0x200)];
      const at = fc.integer({ min: headers[0] ?? 0, max: (headers[1] ?? 1) - 1 });
      const value = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
      await fc.assert(
        fc.asyncProperty(fc.array(fc.tuple(at, value), { minLength: 1, maxLength: 6 }), async (changes) => {
          const kernel = sample.slice();
          for (const [offset, byte] of changes) kernel[offset] = byte;
          try {
            await loadKernel({ memory, kernel, commandLine: "", decompress: plain });
          } catch (error) {
            assert.ok(error instanceof IsolaError, String(error));
            assert.doesNotMatch(error.message, /\n/);
          }
        }),
        { numRuns: 600 },
      );
    });
  }

  test("random bytes behind the magics", async () => {
    const memory = GuestMemory.create(32 << 20);
    const prefixes = fc.constantFrom(samples.elf64.subarray(0, 20), samples.elf32.subarray(0, 20));
    await fc.assert(
      fc.asyncProperty(prefixes, fc.uint8Array({ maxLength: 300 }), async (prefix, rest) => {
        const kernel = new Uint8Array([...prefix, ...rest]);
        assert.ok(!isBzImage(kernel));
        await loadKernel({ memory, kernel, commandLine: "", decompress: plain }).catch((error) => {
          assert.ok(error instanceof IsolaError, String(error));
        });
      }),
      { numRuns: 300 },
    );
  });
});
