import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IsolaError } from "../../base/errors.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { type LoadKernelOptions, loadKernel } from "./load-kernel.ts";
import { bzImageOf, elfOf } from "./sample-kernels.ts";

const MIB = 1 << 20;
const GIB = 1 << 30;
const KERNEL = 0x1000000;
const linuxNote = { owner: "Linux", type: 257, contents: Uint8Array.from([0, 0, 0, 0]) };
const xenNote = { owner: "Xen", type: 18, contents: Uint8Array.from([4, 0, 0, 1, 0, 0, 0, 0]) };

type Extra = Partial<LoadKernelOptions> & { ramBytes?: number };

async function load({ ramBytes = 64 * MIB, ...extra }: Extra = {}): Promise<{ memory: GuestMemory; state: CpuState }> {
  const memory = GuestMemory.create(ramBytes);
  const options = { kernel: elfOf(), commandLine: "console=ttyS0", decompress: async (bytes: Uint8Array) => bytes };
  return { memory, state: await loadKernel({ memory, ...options, ...extra }) };
}

function at(memory: GuestMemory, address: number | bigint, length: number): DataView {
  const bytes = memory.slice(Number(address), length);
  assert.ok(bytes !== undefined);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

function textAt(memory: GuestMemory, address: number): string {
  const bytes = Uint8Array.from(memory.slice(address, 4096) ?? []);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

function e820(memory: GuestMemory, params: bigint): [number, number, number][] {
  const view = at(memory, params, 4096);
  return Array.from({ length: view.getUint8(0x1e8) }, (_, i) => {
    const entry = 0x2d0 + i * 20;
    return [
      Number(view.getBigUint64(entry, true)),
      Number(view.getBigUint64(entry + 8, true)),
      view.getUint32(entry + 16, true),
    ];
  });
}

/** Follows the page tables that CR3 names; 2 MiB pages only, as the loader makes. */
function translate(memory: GuestMemory, cr3: bigint, address: number): number {
  let table = Number(cr3);
  for (const shift of [39, 30]) {
    const entry = at(memory, table + (Math.floor(address / 2 ** shift) % 512) * 8, 8).getBigUint64(0, true);
    assert.equal(entry & 3n, 3n);
    table = Number(entry & ~0xfffn);
  }
  const entry = at(memory, table + (Math.floor(address / 2 ** 21) % 512) * 8, 8).getBigUint64(0, true);
  assert.equal(entry & 0x83n, 0x83n);
  return Number(entry & ~0xfffn) + (address % 2 ** 21);
}

describe("the 64-bit boot protocol", () => {
  test("registers: long mode, flat segments with the protocol's selectors, interrupts off", async () => {
    const { memory, state } = await load();
    assert.equal(state.rip, BigInt(KERNEL));
    assert.equal(state.rflags, 2n);
    assert.equal(state.cr0 & 0x80000001n, 0x80000001n);
    assert.equal(state.cr4, 0x20n);
    assert.equal(state.msrs.get(0xc0000080), 0x500n);
    assert.deepEqual(state.segments.cs, { selector: 0x10, base: 0n, limit: 0xffffffff, attributes: 0xa09b });
    assert.deepEqual(state.segments.ss, { selector: 0x18, base: 0n, limit: 0xffffffff, attributes: 0xc093 });
    // The descriptors in memory must say what the segment registers hold.
    const gdt = at(memory, state.gdtr.base, state.gdtr.limit + 1);
    assert.equal(gdt.getBigUint64(0x10, true), 0x00af9b000000ffffn);
    assert.equal(gdt.getBigUint64(0x18, true), 0x00cf93000000ffffn);
  });

  test("memory is write-back, the devices' window below 4 GiB uncacheable", async () => {
    const { state } = await load();
    assert.equal(state.msrs.get(0x2ff), 0x806n);
    assert.equal(state.msrs.get(0x200), 0xc000_0000n);
    assert.equal(state.msrs.get(0x201), 0xff_c000_0800n);
  });

  test("the first 4 GiB are mapped one to one", async () => {
    const { memory, state } = await load();
    for (const address of [0, 0x7123, KERNEL, 0xfee00020, 0xffffffff]) {
      assert.equal(translate(memory, state.cr3, address), address);
    }
  });

  test("boot_params of a bare ELF", async () => {
    const initrd = new Uint8Array(5000).fill(7);
    const { memory, state } = await load({ initrd, rsdp: 0xe1230 });
    const params = at(memory, state.gpr.rsi, 4096);
    assert.equal(params.getUint32(0x202, true), 0x53726448);
    assert.equal(params.getUint8(0x210), 0xff);
    assert.equal(params.getBigUint64(0x70, true), 0xe1230n);
    assert.equal(textAt(memory, params.getUint32(0x228, true)), "console=ttyS0");
    const address = params.getUint32(0x218, true);
    assert.equal(params.getUint32(0x21c, true), initrd.length);
    // As high as whole pages allow.
    assert.equal(address, 64 * MIB - 8192);
    assert.deepEqual(Uint8Array.from(memory.slice(address, initrd.length) ?? []), initrd);
    // Linux wipes fields that a careless loader left in place when this byte is not zero.
    assert.equal(params.getUint8(0x1ef), 0);
  });

  test("boot_params of a bzImage keep its header and its limits", async () => {
    const kernel = bzImageOf(elfOf(), { initrdAddressMax: 0x2ffffff, commandLineLimit: 20 });
    const { memory, state } = await load({ kernel, initrd: new Uint8Array(100) });
    const params = at(memory, state.gpr.rsi, 4096);
    assert.equal(params.getUint16(0x206, true), 0x020f);
    assert.equal(params.getUint32(0x238, true), 20);
    assert.equal(params.getUint32(0x218, true), 0x2fff000);
    await assert.rejects(load({ kernel, commandLine: "x".repeat(21) }), /it has 21 bytes, wanted at most 20/);
  });

  test("segments are copied, and the memory after them cleared", async () => {
    const memory = GuestMemory.create(64 * MIB);
    memory.slice(KERNEL, 4096)?.fill(0xee);
    const segments = [{ physical: KERNEL, contents: Uint8Array.from([1, 2, 3]), zeroBytes: 100 }];
    await loadKernel({ memory, kernel: elfOf({ segments }), commandLine: "", decompress: async (bytes) => bytes });
    const loaded = Uint8Array.from(memory.slice(KERNEL, 104) ?? []);
    assert.deepEqual([...loaded.subarray(0, 4)], [1, 2, 3, 0]);
    assert.equal(loaded[102], 0);
    assert.equal(loaded[103], 0xee);
  });
});

describe("the 32-bit boot protocol", () => {
  const elf32 = elfOf({ bits: 32, notes: [linuxNote] });

  for (const [what, kernel] of [
    ["an ELF", elf32],
    ["a bzImage", bzImageOf(elf32)],
  ] as const) {
    test(`registers for ${what}: protected mode without paging, the protocol's selectors, interrupts off`, async () => {
      const { memory, state } = await load({ kernel, rsdp: 0xe0000, initrd: new Uint8Array(100).fill(3) });
      assert.equal(state.rip, BigInt(KERNEL));
      assert.equal(state.rflags, 2n);
      assert.equal(state.cr0 & 0x80000001n, 1n);
      assert.equal(state.cr4, 0n);
      assert.equal(state.msrs.get(0xc0000080), 0n);
      assert.deepEqual(state.segments.cs, { selector: 0x10, base: 0n, limit: 0xffffffff, attributes: 0xc09b });
      for (const name of ["ds", "es", "ss"] as const) {
        assert.deepEqual(state.segments[name], { selector: 0x18, base: 0n, limit: 0xffffffff, attributes: 0xc093 });
      }
      assert.deepEqual([state.gpr.rbx, state.gpr.rbp, state.gpr.rdi], [0n, 0n, 0n]);
      const gdt = at(memory, state.gdtr.base, state.gdtr.limit + 1);
      assert.equal(gdt.getBigUint64(0x10, true), 0x00cf9b000000ffffn);
      const params = at(memory, state.gpr.rsi, 4096);
      assert.equal(textAt(memory, params.getUint32(0x228, true)), "console=ttyS0");
      assert.equal(at(memory, params.getUint32(0x218, true), 1).getUint8(0), 3);
      assert.equal(params.getBigUint64(0x70, true), 0xe0000n);
    });
  }

  for (const [has64, entry] of [
    [false, KERNEL],
    [true, KERNEL + 0x200],
  ] as const) {
    test(`a bzImage without payload is entered as it is, ${has64 ? "in long mode" : "unpaged"}`, async () => {
      const code = new Uint8Array(2000).fill(0x90);
      const { memory, state } = await load({ kernel: bzImageOf(code, { has64, hasPayload: false }) });
      assert.equal(state.rip, BigInt(entry));
      assert.equal((state.cr0 & 0x80000000n) !== 0n, has64);
      const loaded = memory.slice(KERNEL, 0x100000) ?? new Uint8Array(0);
      assert.deepEqual([loaded[0], loaded[1999], loaded[0xfffff]], [0x90, 0x90, 0]);
      assert.equal(at(memory, state.gpr.rsi, 4096).getUint32(0x202, true), 0x53726448);
    });
  }

  test("a protocol of the other width is refused", async () => {
    await assert.rejects(load({ kernel: elf32, protocol: "linux64" }), /it is a 32-bit ELF/);
    await assert.rejects(load({ protocol: "linux32" }), /it is a 64-bit ELF/);
    await assert.rejects(load({ protocol: "multiboot" }), /no Multiboot header/);
  });
});

describe("the memory map", () => {
  test("low RAM, the firmware's areas, and RAM from 1 MiB", async () => {
    const { memory, state } = await load();
    assert.deepEqual(e820(memory, state.gpr.rsi), [
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xe0000, 0x20000, 2],
      [0x100000, 63 * MIB, 1],
    ]);
  });

  test("RAM above 4 GiB, tables in RAM, and device windows", async () => {
    const tables = [{ address: 2 * GIB + 0x123, bytes: new Uint8Array(5000).fill(1) }];
    const reserved = [{ start: 0xe0000000, size: 0x10000000 }];
    const { memory, state } = await load({ ramBytes: 3 * GIB + 512 * MIB, tables, reserved });
    assert.deepEqual(e820(memory, state.gpr.rsi).slice(3), [
      [0x100000, 2 * GIB - MIB, 1],
      [2 * GIB, 8192, 3],
      [2 * GIB + 8192, GIB - 8192, 1],
      [0xe0000000, 0x10000000, 2],
      [4 * GIB, 512 * MIB, 1],
    ]);
    assert.equal(at(memory, 2 * GIB + 0x123, 1).getUint8(0), 1);
  });

  test("tables among the ROMs need no entry of their own", async () => {
    const tables = [{ address: 0xe0000, bytes: new Uint8Array(300).fill(9) }];
    const { memory, state } = await load({ tables });
    assert.equal(e820(memory, state.gpr.rsi).length, 4);
    assert.equal(at(memory, 0xe0000, 1).getUint8(0), 9);
  });

  test("the initrd keeps clear of tables", async () => {
    const tables = [{ address: 63 * MIB, bytes: new Uint8Array(100) }];
    const { memory, state } = await load({ tables, initrd: new Uint8Array(2 * MIB) });
    assert.equal(at(memory, state.gpr.rsi, 4096).getUint32(0x218, true), 61 * MIB);
  });
});

describe("PVH", () => {
  test("taken for a kernel that is not Linux, and on demand", async () => {
    const pvhOnly = await load({ kernel: elfOf({ bits: 32, notes: [xenNote], entry: 0 }) });
    assert.equal(pvhOnly.state.cr0 & 0x80000001n, 1n);
    const linux = elfOf({ notes: [linuxNote, xenNote] });
    assert.equal((await load({ kernel: linux })).state.cr4, 0x20n);
    assert.equal((await load({ kernel: linux, protocol: "pvh" })).state.rip, 0x1000004n);
    await assert.rejects(load({ protocol: "pvh" }), /no PVH entry/);
    await assert.rejects(load({ kernel: elfOf({ bits: 32 }) }), /32-bit ELF that is neither Linux nor Multiboot/);
  });

  test("hvm_start_info tells of the initrd, the command line, the RSDP and memory", async () => {
    const kernel = elfOf({ notes: [xenNote] });
    const { memory, state } = await load({ kernel, initrd: new Uint8Array(100).fill(5), rsdp: 0xe0000 });
    assert.equal(state.segments.cs.attributes, 0xc09b);
    const info = at(memory, state.gpr.rbx, 56);
    assert.equal(info.getUint32(0, true), 0x336ec578);
    assert.equal(info.getUint32(4, true), 1);
    assert.equal(info.getUint32(12, true), 1);
    const module = at(memory, info.getBigUint64(16, true), 32);
    assert.equal(at(memory, module.getBigUint64(0, true), 1).getUint8(0), 5);
    assert.equal(module.getBigUint64(8, true), 100n);
    assert.equal(textAt(memory, Number(info.getBigUint64(24, true))), "console=ttyS0");
    assert.equal(info.getBigUint64(32, true), 0xe0000n);
    assert.equal(info.getUint32(48, true), 4);
    const last = at(memory, info.getBigUint64(40, true) + 72n, 24);
    assert.equal(last.getBigUint64(0, true), 0x100000n);
    assert.equal(last.getBigUint64(8, true), BigInt(63 * MIB));
    assert.equal(last.getUint32(16, true), 1);
  });
});

describe("what does not fit", () => {
  const big = elfOf({ segments: [{ physical: KERNEL, contents: new Uint8Array(16), zeroBytes: 40 * MIB }] });

  for (const [what, extra, code, message] of [
    [
      "too little memory",
      { kernel: big, ramBytes: 32 * MIB },
      "memory-too-small",
      /needs 57 MiB of memory, the guest has 32 MiB/,
    ],
    ["an initrd larger than RAM", { initrd: new Uint8Array(65 * MIB) }, "initrd-too-large", /it has 68157440 bytes/],
    [
      "an initrd that only fits over the kernel",
      { kernel: big, initrd: new Uint8Array(20 * MIB) },
      "initrd-too-large",
      /room for/,
    ],
    [
      "a long command line",
      { commandLine: "x".repeat(2048) },
      "command-line-invalid",
      /2048 bytes, wanted at most 2047/,
    ],
    ["a NUL in the command line", { commandLine: "a\0b" }, "command-line-invalid", /NUL/],
    ["an entry outside", { kernel: elfOf({ entry: 0x2000000 }) }, "kernel-invalid", /entry point 0x2000000 is outside/],
    [
      "a kernel over the boot parameters",
      { kernel: elfOf({ entry: 0x7000, segments: [{ physical: 0x7000, contents: new Uint8Array(9) }] }) },
      "kernel-invalid",
      /loads at address 0x7000; wanted 1 MiB or above/,
    ],
  ] as const) {
    test(`${what} is refused in one line`, async () => {
      await assert.rejects(load(extra), (error) => {
        assert.ok(error instanceof IsolaError);
        assert.equal(error.code, code);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      });
    });
  }

  test("a command line of just the limit is taken", async () => {
    const { memory } = await load({ commandLine: "x".repeat(2047) });
    assert.equal(textAt(memory, 0x20000).length, 2047);
  });
});
