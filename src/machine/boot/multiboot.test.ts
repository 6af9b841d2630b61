import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IsolaError } from "../../base/errors.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { type LoadKernelOptions, loadKernel } from "./load-kernel.ts";
import { elfOf, multibootHeaderOf, withSections } from "./sample-kernels.ts";

const MIB = 1 << 20;
const LOAD = 0x200000;
const VIDEO = 1 << 2;
const ADDRESSES = 1 << 16;

type Extra = Partial<LoadKernelOptions> & { readonly ramBytes?: number };

async function load(kernel: Uint8Array, { ramBytes = 32 * MIB, ...extra }: Extra = {}) {
  const memory = GuestMemory.create(ramBytes);
  const options = { commandLine: "words", decompress: async (bytes: Uint8Array) => bytes };
  const state = await loadKernel({ memory, kernel, ...options, ...extra });
  return { memory, state, info: viewOf(memory, Number(state.gpr.rbx), 120) };
}

function viewOf(memory: GuestMemory, address: number, length: number): DataView {
  const bytes = memory.slice(address, length);
  assert.ok(bytes !== undefined);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

function textAt(memory: GuestMemory, address: number): string {
  const bytes = Uint8Array.from(memory.slice(address, 256) ?? []);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

/** An ELF whose segment begins with a Multiboot header of these flags. */
function elfKernel(flags = 3, bits: 32 | 64 = 32, fields: readonly number[] = []): Uint8Array {
  const contents = new Uint8Array(256).fill(0x90);
  contents.set(multibootHeaderOf(flags, fields));
  return elfOf({ bits, entry: LOAD + 64, segments: [{ physical: LOAD, contents, zeroBytes: 1000 }] });
}

/** A file that is no ELF: its header, at offset 16, loads all of it at LOAD and 4096 bytes of zeros after it. */
function flatKernel(fields: readonly number[] = [LOAD + 16, LOAD, 0, LOAD + 4096, LOAD + 64]): Uint8Array {
  const bytes = new Uint8Array(512).fill(0x90);
  bytes.set(multibootHeaderOf(ADDRESSES, fields), 16);
  return bytes;
}

function assertEntryState({ gpr, segments, cr0, rflags, rip }: CpuState): void {
  assert.equal(gpr.rax, 0x2badb002n);
  assert.equal(cr0 & 0x8000_0001n, 1n);
  assert.equal(rflags, 2n);
  assert.equal(rip, BigInt(LOAD + 64));
  assert.deepEqual([segments.cs.base, segments.cs.limit, segments.cs.attributes], [0n, 0xffffffff, 0xc09b]);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) assert.equal(segments[name].attributes, 0xc093);
}

describe("Multiboot", () => {
  for (const bits of [32, 64] as const) {
    test(`registers and the information structure of an ELF${bits}`, async () => {
      const { memory, state, info } = await load(elfKernel(3, bits));
      assertEntryState(state);
      assert.equal(info.getUint32(0, true), 0x24d);
      assert.equal(info.getUint32(4, true), 639);
      assert.equal(info.getUint32(8, true), 31 * 1024);
      assert.equal(textAt(memory, info.getUint32(16, true)), "words");
      assert.equal(info.getUint32(20, true), 0);
      assert.equal(textAt(memory, info.getUint32(64, true)), "isola");
    });
  }

  test("the memory map: each entry is led by its size", async () => {
    const { memory, info } = await load(elfKernel());
    const [length, address] = [info.getUint32(44, true), info.getUint32(48, true)];
    const entries: number[][] = [];
    for (let at = address; at < address + length; ) {
      const entry = viewOf(memory, at, 24);
      entries.push([
        Number(entry.getBigUint64(4, true)),
        Number(entry.getBigUint64(12, true)),
        entry.getUint32(20, true),
      ]);
      at += entry.getUint32(0, true) + 4;
    }
    assert.deepEqual(entries, [
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xe0000, 0x20000, 2],
      [MIB, 31 * MIB, 1],
    ]);
  });

  test("modules lie on pages above the kernel, clear of tables, each with its command line", async () => {
    const tables = [{ address: LOAD + 0x2000, bytes: new Uint8Array(100).fill(9) }];
    const modules = [
      { bytes: new Uint8Array(5000).fill(1), commandLine: "first a=1" },
      { bytes: new Uint8Array(10).fill(2), commandLine: "" },
    ];
    const { memory, info } = await load(elfKernel(), { initrd: new Uint8Array(3).fill(7), modules, tables });
    const list = viewOf(memory, info.getUint32(24, true), 48);
    const found = Array.from({ length: info.getUint32(20, true) }, (_, i) => {
      const [start, end] = [list.getUint32(i * 16, true), list.getUint32(i * 16 + 4, true)];
      const bytes = [...(memory.slice(start, end - start) ?? [])];
      return [start, end - start, [...new Set(bytes)], textAt(memory, list.getUint32(i * 16 + 8, true))];
    });
    assert.deepEqual(found, [
      [LOAD + 0x1000, 3, [7], ""],
      [LOAD + 0x3000, 5000, [1], "first a=1"],
      [LOAD + 0x5000, 10, [2], ""],
    ]);
  });

  test("Linux gets initrd and modules as one archive, each part on 4 bytes", async () => {
    const linux = elfOf({ notes: [{ owner: "Linux", type: 257, contents: new Uint8Array(4) }] });
    const modules = [{ bytes: Uint8Array.of(2, 2), commandLine: "lost" }];
    const { memory, state } = await load(linux, { initrd: Uint8Array.of(1, 1, 1, 1, 1), modules });
    const params = viewOf(memory, Number(state.gpr.rsi), 4096);
    assert.equal(params.getUint32(0x21c, true), 12);
    const archive = [...(memory.slice(params.getUint32(0x218, true), 12) ?? [])];
    assert.deepEqual(archive, [1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 0, 0]);
  });

  test("a flat file is loaded by the header's own addresses", async () => {
    const memory = GuestMemory.create(32 * MIB);
    memory.slice(LOAD, 8192)?.fill(0xee);
    const decompress = async (bytes: Uint8Array) => bytes;
    const state = await loadKernel({ memory, kernel: flatKernel(), commandLine: "", decompress });
    assertEntryState(state);
    const loaded = memory.slice(LOAD, 8192) ?? new Uint8Array(0);
    assert.deepEqual([...loaded.subarray(0, 512)], [...flatKernel()]);
    assert.deepEqual([loaded[512], loaded[4095], loaded[4096]], [0, 0, 0xee]);
  });

  test("an entry point given as a virtual address is translated by its segment", async () => {
    const kernel = elfKernel();
    const view = new DataView(kernel.buffer);
    view.setUint32(24, 0xc0000000 + LOAD + 64, true);
    view.setUint32(52 + 8, 0xc0000000 + LOAD, true);
    assertEntryState((await load(kernel)).state);
  });

  for (const bits of [32, 64] as const) {
    test(`section headers of an ELF${bits}, symbols loaded above the kernel`, async () => {
      const symbols = new TextEncoder().encode("symbols");
      const kernel = withSections(elfKernel(3, bits), [
        { type: 1, address: LOAD, contents: new Uint8Array(4) },
        { type: 2, address: 0, contents: symbols },
        { type: 8, address: 0, contents: new Uint8Array(0), size: 0x7000_0000 },
      ]);
      const { memory, info } = await load(kernel, { initrd: Uint8Array.of(1) });
      assert.equal(info.getUint32(0, true) & 0x20, 0x20);
      const [count, entryBytes, address, names] = [28, 32, 36, 40].map((at) => info.getUint32(at, true));
      assert.deepEqual([count, entryBytes, address, names], [4, bits === 64 ? 64 : 40, LOAD + 0x1000, 0]);
      const table = viewOf(memory, LOAD + 0x1000, (count ?? 0) * (entryBytes ?? 0));
      const addressAt = (index: number) => table.getUint32(index * (entryBytes ?? 0) + (bits === 64 ? 16 : 12), true);
      assert.equal(addressAt(1), LOAD);
      assert.deepEqual([...(memory.slice(addressAt(2), symbols.length) ?? [])], [...symbols]);
      // The module comes after them.
      assert.equal(viewOf(memory, info.getUint32(24, true), 16).getUint32(0, true), LOAD + 0x2000);
    });
  }

  test("a text screen for a kernel that asks for one", async () => {
    const text = [0, 0, 0, 0, 0, 1, 80, 25, 0];
    const { info } = await load(elfKernel(VIDEO, 32, text));
    assert.equal(info.getUint32(0, true) & 0x1000, 0x1000);
    assert.deepEqual(
      [info.getUint32(88, true), info.getUint32(96, true), info.getUint32(100, true), info.getUint32(104, true)],
      [0xb8000, 160, 80, 25],
    );
    assert.deepEqual([info.getUint8(108), info.getUint8(109)], [16, 2]);
  });

  test("a gzipped kernel is opened first", async () => {
    const inner = elfKernel();
    const gzip = Uint8Array.of(0x1f, 0x8b, 8, 0);
    const { state } = await load(gzip, { decompress: async () => inner });
    assertEntryState(state);
  });
});

describe("Multiboot headers that are refused, in one line", () => {
  for (const [what, kernel, message] of [
    ["an unknown requirement", elfKernel(0x8003), /requires 0x8000 in its flags/],
    ["a graphics mode", elfKernel(VIDEO, 32, [0, 0, 0, 0, 0, 0, 800, 600, 32]), /asks for a graphics mode/],
    ["a header above its own place", flatKernel([LOAD, LOAD + 16, 0, 0, LOAD]), /lies at 0x200000, below its load/],
    ["a begin before the file", flatKernel([LOAD + 17, LOAD, 0, 0, LOAD]), /would load from 1 bytes before the file/],
    ["an end below the begin", flatKernel([LOAD + 16, LOAD, LOAD - 1, 0, LOAD]), /loads from 0x200000 to 0x1fffff/],
    ["more than the file has", flatKernel([LOAD + 16, LOAD, LOAD + 600, 0, LOAD]), /needs 600 bytes, the file has 512/],
    ["a bss within the data", flatKernel([LOAD + 16, LOAD, 0, LOAD + 8, LOAD]), /ends its bss at 0x200008, within/],
    ["an entry outside", flatKernel([LOAD + 16, LOAD, 0, 0, LOAD + 512]), /entry point 0x200200 is outside/],
    ["a load address below 1 MiB", flatKernel([0x7c10, 0x7c00, 0, 0, 0x7c00]), /loads at address 0x7c00/],
    ["more memory than there is", flatKernel([LOAD + 16, LOAD, 0, 64 * MIB, LOAD]), /needs 64 MiB of memory/],
    ["neither ELF nor addresses", Uint8Array.from(multibootHeaderOf(0)), /gives no load addresses/],
    ["a header cut off", Uint8Array.from(multibootHeaderOf(ADDRESSES)), /its Multiboot header needs 32 bytes/],
    ["a wrong checksum", flatKernel().fill(0, 16, 20), /neither bzImage, ELF nor Multiboot/],
  ] as const) {
    test(what, async () => {
      await assert.rejects(load(kernel), (error) => {
        assert.ok(error instanceof IsolaError, String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      });
    });
  }

  test("modules that do not fit, and too many words", async () => {
    const bytes = new Uint8Array(31 * MIB);
    await assert.rejects(load(elfKernel(), { modules: [{ bytes, commandLine: "" }] }), /module 1: it needs .* memory/);
    const wordy = Array.from({ length: 50 }, () => ({ bytes: Uint8Array.of(1), commandLine: "x".repeat(2000) }));
    await assert.rejects(load(elfKernel(), { modules: wordy }), /command lines take .* give fewer --initrd/);
  });
});

describe("hostile Multiboot kernels", () => {
  const sections = [
    { type: 2, address: 0, contents: new Uint8Array(20) },
    { type: 3, address: 0, contents: new Uint8Array(9) },
  ];
  const samples = {
    "ELF32 with sections": withSections(elfKernel(), sections),
    "ELF64 with sections": withSections(elfKernel(3, 64), sections),
    "flat file": flatKernel(),
  };
  const edge = fc.constantFrom(0, 1, 0x7f, 0x80, 0xff);
  for (const [name, sample] of Object.entries(samples)) {
    test(`${name} with bytes changed loads or gives an IsolaError of one line`, async () => {
      const memory = GuestMemory.create(16 * MIB);
      const at = fc.oneof(fc.nat(Math.min(sample.length, 400) - 1), fc.nat(sample.length - 1));
      const changes = fc.array(fc.tuple(at, fc.oneof(fc.nat(255), edge)), { minLength: 1, maxLength: 6 });
      let loaded = 0;
      await fc.assert(
        fc.asyncProperty(changes, fc.boolean(), fc.nat(40), async (list, mend, cut) => {
          const kernel = sample.slice(0, cut < 10 ? sample.length - cut : sample.length);
          for (const [offset, byte] of list) if (offset < kernel.length) kernel[offset] = byte;
          if (mend) mendChecksum(kernel);
          try {
            await loadKernel({ memory, kernel, commandLine: "", decompress: async (bytes) => bytes });
            loaded++;
          } catch (error) {
            assert.ok(error instanceof IsolaError, String(error));
            assert.doesNotMatch(error.message, /\n/);
          }
        }),
        { numRuns: 600 },
      );
      assert.ok(loaded > 10, `only ${loaded} of the changed files still loaded`);
    });
  }
});

/** Makes the checksum right again, so that changed fields are reached. */
function mendChecksum(kernel: Uint8Array): void {
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  for (let at = 0; at + 12 <= kernel.length; at += 4) {
    if (view.getUint32(at, true) === 0x1badb002) {
      view.setUint32(at + 8, -(0x1badb002 + view.getUint32(at + 4, true)), true);
      return;
    }
  }
}
