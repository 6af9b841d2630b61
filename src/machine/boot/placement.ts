/**
 * Puts a guest's parts into its RAM: kernel segments, initrd, command line, tables. Every part is checked against RAM
 * and against the others; what does not fit is the user's error, in one line.
 */

import { IsolaError } from "../../base/errors.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type ElfFile, invalidKernel } from "./elf.ts";
import type { AddressRange } from "./memory-map.ts";

const MIB = 1024 * 1024;
const PAGE_BYTES = 4096;
/** Below it lie boot parameters, page tables and the video window. */
const KERNEL_MIN_ADDRESS = MIB;
/** Where the command line goes; up to 64 KiB of it. */
export const COMMAND_LINE_ADDRESS = 0x20000;
const COMMAND_LINE_SPACE = 0x10000;
/** COMMAND_LINE_SIZE of Linux on x86, without the NUL, where no setup header says. */
export const DEFAULT_COMMAND_LINE_LIMIT = 2047;

/** Bytes that the board wants at an address before the guest starts, such as ACPI tables. */
export interface BootTable {
  readonly address: number;
  readonly bytes: Uint8Array;
}

function memoryTooSmall(memory: GuestMemory, what: string, neededBytes: number): IsolaError {
  const wanted = Math.ceil(neededBytes / MIB);
  return new IsolaError({
    code: "memory-too-small",
    message:
      `loading ${what}: it needs ${wanted} MiB of memory, the guest has ` +
      `${Math.floor(memory.ramBytes / MIB)} MiB; give more by --memory (Debian's kernel wants 96M or more)`,
  });
}

/** End of the RAM that begins at 0: 3 GiB at the most. */
export function lowRamEnd(memory: GuestMemory): number {
  return memory.regions[0]?.size ?? 0;
}

/** Copies a part to a place in RAM that the layout has for it. */
export function place(memory: GuestMemory, what: string, address: number, bytes: Uint8Array): void {
  const target = memory.slice(address, bytes.length);
  if (target === undefined) throw memoryTooSmall(memory, what, address + bytes.length);
  target.set(bytes);
}

/**
 * Loads the segments at their physical addresses and gives the span they take, in bytes.
 * @throws IsolaError `kernel-invalid` for addresses below 1 MiB, `memory-too-small`
 */
export function placeElf(memory: GuestMemory, elf: ElfFile): AddressRange {
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  for (const { physical, memoryBytes } of elf.segments) {
    if (physical < KERNEL_MIN_ADDRESS) {
      throw invalidKernel(`it loads at address 0x${physical.toString(16)}`, "wanted 1 MiB or above");
    }
    start = Math.min(start, physical);
    end = Math.max(end, physical + memoryBytes);
  }
  // A kernel in high RAM would pass `slice`, but no protocol here could enter it.
  if (end > lowRamEnd(memory)) {
    if (end > 0xffff_ffff) throw invalidKernel("it loads above 4 GiB", "wanted a kernel that loads below");
    throw memoryTooSmall(memory, "the kernel", end);
  }
  for (const { physical, contents, memoryBytes } of elf.segments) {
    const target = memory.slice(physical, memoryBytes);
    if (target === undefined) throw memoryTooSmall(memory, "the kernel", end);
    target.set(contents);
    target.fill(0, contents.length);
  }
  return { start, size: end - start };
}

/**
 * Copies the initrd as high as it may go, on a page of its own, clear of `occupied`. Linux frees it once unpacked, and
 * high up it does not stand in the kernel's way.
 * @param addressMax highest address that a byte of it may have
 * @throws IsolaError `initrd-too-large`
 */
export function placeInitrd(
  memory: GuestMemory,
  initrd: Uint8Array,
  addressMax: number,
  occupied: readonly AddressRange[],
): AddressRange {
  const size = initrd.length;
  const top = Math.min(lowRamEnd(memory), addressMax + 1);
  let start = Math.floor((top - size) / PAGE_BYTES) * PAGE_BYTES;
  for (;;) {
    const obstacle = occupied.find((one) => start < one.start + one.size && one.start < start + size);
    if (obstacle === undefined) break;
    start = Math.floor((obstacle.start - size) / PAGE_BYTES) * PAGE_BYTES;
  }
  if (start < KERNEL_MIN_ADDRESS) {
    const taken = occupied.reduce((sum, one) => sum + (one.start >= KERNEL_MIN_ADDRESS ? one.size : 0), 0);
    const free = Math.max(0, top - KERNEL_MIN_ADDRESS - taken);
    throw new IsolaError({
      code: "initrd-too-large",
      message:
        `loading the initrd: it has ${size} bytes, beside the kernel there is room for ${free}; ` +
        "give more by --memory, or a smaller initrd",
    });
  }
  place(memory, "the initrd", start, initrd);
  return { start, size };
}

/**
 * Copies a part to the first place at or above `from`, aligned to `alignment` bytes, that is clear of `occupied`.
 * @throws IsolaError `memory-too-small`
 */
export function placeAbove(
  memory: GuestMemory,
  what: string,
  bytes: Uint8Array,
  from: number,
  alignment: number,
  occupied: readonly AddressRange[],
): AddressRange {
  const size = bytes.length;
  let start = Math.ceil(from / alignment) * alignment;
  for (;;) {
    const obstacle = occupied.find((one) => start < one.start + one.size && one.start < start + size);
    if (obstacle === undefined) break;
    start = Math.ceil((obstacle.start + obstacle.size) / alignment) * alignment;
  }
  if (start + size > lowRamEnd(memory)) throw memoryTooSmall(memory, what, start + size);
  place(memory, what, start, bytes);
  return { start, size };
}

/**
 * Writes the command line, ended by NUL, at COMMAND_LINE_ADDRESS.
 * @param limit most bytes that the kernel takes, without the NUL
 * @throws IsolaError `command-line-invalid`
 */
export function placeCommandLine(memory: GuestMemory, commandLine: string, limit: number): void {
  const bytes = new TextEncoder().encode(commandLine);
  const most = Math.min(limit, COMMAND_LINE_SPACE - 1);
  if (bytes.length > most || bytes.includes(0)) {
    const found = bytes.length > most ? `it has ${bytes.length} bytes` : "it holds a NUL";
    throw new IsolaError({
      code: "command-line-invalid",
      message: `setting the kernel's command line: ${found}, wanted at most ${most} without NUL; shorten --append`,
    });
  }
  const ended = new Uint8Array(bytes.length + 1);
  ended.set(bytes);
  place(memory, "the command line", COMMAND_LINE_ADDRESS, ended);
}
