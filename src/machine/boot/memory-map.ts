/**
 * The physical memory map that a PC tells its kernel, in the types that BIOS function E820 and PVH share.
 * [ACPI 6.5 §15.1; Xen public/arch-x86/hvm/start_info.h]
 */

import { VGA_WINDOW, type GuestMemory } from "../../memory/guest-memory.ts";

export const MEMORY_RAM = 1;
export const MEMORY_RESERVED = 2;
export const MEMORY_ACPI = 3;

/** Addresses and sizes in bytes. */
export interface MemoryMapEntry {
  readonly start: number;
  readonly size: number;
  readonly type: number;
}

export interface AddressRange {
  readonly start: number;
  readonly size: number;
}

/** Last KiB of low memory: the extended BIOS data area, where kernels look for tables too. */
export const EBDA_START = 0x9fc00;
/** Video memory and ROMs, up to 1 MiB: never usable as RAM. */
export const HIGH_MEMORY_START = 0x100000;
/** The part of it where kernels look for tables. */
const ROM_START = 0xe0000;

/** Cuts `cut` out of RAM entries and puts an entry of `type` there instead. */
function carve(map: readonly MemoryMapEntry[], cut: AddressRange, type: number): MemoryMapEntry[] {
  const end = cut.start + cut.size;
  const rest = map.flatMap((entry) => {
    const entryEnd = entry.start + entry.size;
    if (entry.type !== MEMORY_RAM || entryEnd <= cut.start || entry.start >= end) return [entry];
    const before = { ...entry, size: cut.start - entry.start };
    const after = { ...entry, start: end, size: entryEnd - end };
    return [before, after].filter(({ size }) => size > 0);
  });
  // A range inside what is reserved already needs no entry of its own: E820 entries must not overlap.
  const covered = rest.some(({ start, size }) => start < end && cut.start < start + size);
  return covered ? rest : [...rest, { ...cut, type }];
}

/**
 * The map of `memory`, ordered by address and without overlaps.
 * @param tables ACPI tables; those in RAM become ACPI memory
 * @param reserved device windows that the kernel must see as reserved, such as ECAM
 */
export function memoryMap(
  memory: GuestMemory,
  tables: readonly AddressRange[] = [],
  reserved: readonly AddressRange[] = [],
): MemoryMapEntry[] {
  let map: MemoryMapEntry[] = memory.regions.map(({ start, size }) => ({ start, size, type: MEMORY_RAM }));
  map = carve(map, { start: EBDA_START, size: VGA_WINDOW.start - EBDA_START }, MEMORY_RESERVED);
  map = carve(map, { start: ROM_START, size: HIGH_MEMORY_START - ROM_START }, MEMORY_RESERVED);
  // The video window is neither: nothing is said of it, as on a PC.
  map = map.flatMap((entry) => {
    const hole = entry.type === MEMORY_RAM && entry.start === VGA_WINDOW.start;
    return hole ? [] : [entry];
  });
  const page = 4096;
  for (const { start, size } of tables) {
    // Whole pages: the kernel maps memory types by page.
    const first = Math.floor(start / page) * page;
    map = carve(map, { start: first, size: Math.ceil((start + size) / page) * page - first }, MEMORY_ACPI);
  }
  for (const range of reserved) map = carve(map, range, MEMORY_RESERVED);
  return map.sort((a, b) => a.start - b.start);
}
