/**
 * The memory and registers that machine/boot prepares, given to QEMU's processor: Debian's kernel must come up from
 * them to its shell and power off. QEMU loads an ELF by PVH; a stub in it moves the low pages into place, sets the
 * registers that the boot protocol names, and jumps.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { CpuState } from "../../src/cpu/vcpu.ts";
import { decompress } from "../../src/images/decompress/decompress.ts";
import { ImageStore } from "../../src/images/store.ts";
import { type BootProtocol, loadKernel } from "../../src/machine/boot/load-kernel.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";

const MIB = 1024 * 1024;
const RAM_BYTES = 256 * MIB;
const LOW = { start: 0x500, end: 0x30000 };
const STUB_ADDRESS = 0x200000;
const LOW_COPY_ADDRESS = 0x300000;

function u32(value: number | bigint): number[] {
  const low = Number(BigInt.asUintN(32, BigInt(value)));
  return [low & 255, (low >>> 8) & 255, (low >>> 16) & 255, low >>> 24];
}

/** 32-bit code that puts the processor into `state`, as far as a kernel's entry defines it. */
function stub(state: CpuState): Uint8Array {
  const { gpr, segments } = state;
  const efer = state.msrs.get(0xc0000080) ?? 0n;
  const code = [
    0xfa,
    0xfc, // cli; cld
    0xbe,
    ...u32(LOW_COPY_ADDRESS),
    0xbf,
    ...u32(LOW.start),
    0xb9,
    ...u32((LOW.end - LOW.start) / 4), // esi, edi, ecx
    0xf3,
    0xa5, // rep movsd
    0xb8,
    ...u32(state.cr4),
    0x0f,
    0x22,
    0xe0, // mov cr4, eax
    0xb8,
    ...u32(state.cr3),
    0x0f,
    0x22,
    0xd8, // mov cr3, eax
    0xb9,
    ...u32(0xc0000080),
    0xb8,
    ...u32(efer & 0x100n),
    0x31,
    0xd2,
    0x0f,
    0x30, // wrmsr
    0x0f,
    0x01,
    0x15,
    ...u32(STUB_ADDRESS + 0x100), // lgdt
    0xb8,
    ...u32(state.cr0),
    0x0f,
    0x22,
    0xc0, // mov cr0, eax
    0xb8,
    ...u32(segments.ds.selector), // eax
    0x8e,
    0xd8,
    0x8e,
    0xc0,
    0x8e,
    0xe0,
    0x8e,
    0xe8,
    0x8e,
    0xd0, // ds, es, fs, gs, ss
    0xbc,
    ...u32(gpr.rsp),
    0xbe,
    ...u32(gpr.rsi),
    0xbb,
    ...u32(gpr.rbx), // esp, esi, ebx
    0x31,
    0xc0,
    0x31,
    0xc9,
    0x31,
    0xff,
    0x31,
    0xed, // eax, ecx, edi, ebp = 0
    0xea,
    ...u32(state.rip),
    segments.cs.selector,
    0, // ljmp
  ];
  const bytes = new Uint8Array(0x108);
  assert.ok(code.length < 0x100);
  bytes.set(code);
  bytes.set([state.gdtr.limit & 255, state.gdtr.limit >> 8, ...u32(state.gdtr.base)], 0x100);
  return bytes;
}

/** A 32-bit ELF with a PVH note, of the given parts. */
function pvhElf(parts: readonly { address: number; bytes: Uint8Array }[]): Uint8Array {
  const note = Uint8Array.from([...u32(4), ...u32(4), ...u32(18), 0x58, 0x65, 0x6e, 0, ...u32(STUB_ADDRESS)]);
  const headerBytes = 52 + 32 * (parts.length + 1);
  const total = parts.reduce((sum, { bytes }) => sum + bytes.length, headerBytes + note.length);
  const elf = new Uint8Array(total);
  const u16 = (value: number) => [value & 255, value >> 8];
  elf.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  elf.set([...u16(2), ...u16(3), ...u32(1), ...u32(STUB_ADDRESS), ...u32(52), ...u32(0), ...u32(0)], 16);
  elf.set([...u16(52), ...u16(32), ...u16(parts.length + 1)], 40);
  let header = 52;
  let at = headerBytes;
  for (const { type, address, bytes } of [
    { type: 4, address: 0, bytes: note },
    ...parts.map((p) => ({ type: 1, ...p })),
  ]) {
    const fields = [type, at, address, address, bytes.length, bytes.length, 7, 4];
    elf.set(fields.flatMap(u32), header);
    elf.set(bytes, at);
    header += 32;
    at += bytes.length;
  }
  return elf;
}

/** Spans of RAM that are not zero, in steps of 1 MiB from 1 MiB up. */
function usedParts(memory: GuestMemory): { address: number; bytes: Uint8Array }[] {
  const parts: { address: number; bytes: Uint8Array }[] = [];
  let start: number | undefined;
  for (let at = MIB; at <= RAM_BYTES; at += MIB) {
    const bytes = at < RAM_BYTES ? memory.slice(at, MIB) : undefined;
    const used = bytes?.some((byte) => byte !== 0) ?? false;
    if (used) start ??= at;
    if (!used && start !== undefined) {
      // A copy: the guest's RAM is shared memory, which files do not take.
      parts.push({ address: start, bytes: new Uint8Array(memory.slice(start, at - start) ?? []) });
      start = undefined;
    }
  }
  return parts;
}

/** Runs QEMU until it ends, answering the shell's first prompt. Gives its output. */
async function runQemu(args: readonly string[], answer: string): Promise<string> {
  const child = spawn("qemu-system-x86_64", [...args, "-display", "none", "-serial", "stdio", "-no-reboot"]);
  const timer = setTimeout(() => child.kill("SIGKILL"), 90_000);
  let output = "";
  let answered = false;
  child.stderr.on("data", (data: Buffer) => (output += data.toString()));
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString();
    if (answered || !output.includes("root@debian:~# ")) return;
    answered = true;
    child.stdin.end(answer);
  });
  const status = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  clearTimeout(timer);
  assert.equal(status, 0, output.slice(-2000));
  return output;
}

for (const protocol of ["linux64", "pvh"] as const satisfies readonly BootProtocol[]) {
  for (const form of ["kernel", "vmlinux"] as const) {
    test(`QEMU's processor boots Debian's ${form} as prepared by ${protocol}`, async () => {
      const store = new ImageStore();
      await store.pull("debian");
      const image = await store.find("debian");
      assert.ok(image !== undefined);
      const memory = GuestMemory.create(RAM_BYTES);
      const state = await loadKernel({
        memory,
        kernel: await readFile(image.paths[form]),
        initrd: await readFile(image.paths.initramfs),
        commandLine: "console=ttyS0 panic=-1",
        decompress,
        protocol,
        // QEMU's own firmware leaves its ACPI tables here.
        reserved: [{ start: RAM_BYTES - MIB, size: MIB }],
      });
      const low = new Uint8Array(memory.slice(LOW.start, LOW.end - LOW.start) ?? []);
      const elf = pvhElf([
        { address: STUB_ADDRESS, bytes: stub(state) },
        { address: LOW_COPY_ADDRESS, bytes: low },
        ...usedParts(memory),
      ]);
      const directory = await mkdtemp(join(tmpdir(), "isola-boot-"));
      try {
        const path = join(directory, "guest.elf");
        await writeFile(path, elf);
        const machine = ["-M", "pc", "-accel", "tcg", "-m", "256M", "-kernel", path];
        const output = await runQemu(machine, "cat /proc/cmdline; grep MemTotal /proc/meminfo; poweroff\n");
        assert.match(output, /\nconsole=ttyS0 panic=-1\r?\n/);
        assert.match(output, /MemTotal: +2[0-9]{5} kB/);
        assert.match(output, /reboot: Power down/);
      } finally {
        await rm(directory, { recursive: true });
      }
    });
  }
}
