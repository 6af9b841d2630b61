/**
 * The PVH entry: 32-bit protected mode without paging, EBX pointing at hvm_start_info.
 * [Xen docs/misc/pvh.pandoc; Xen public/arch-x86/hvm/start_info.h, version 1; public/elfnote.h]
 */

import { FLAT_CODE32, FLAT_DATA, flatDescriptor, flatSegment, resetState } from "../../cpu/reset-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { ElfFile } from "./elf.ts";
import type { AddressRange, MemoryMapEntry } from "./memory-map.ts";
import { COMMAND_LINE_ADDRESS, place } from "./placement.ts";

const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const START_INFO_MAGIC = 0x336ec578;
const START_INFO_VERSION = 1;
const MAP_ENTRY_BYTES = 24;

const GDT_ADDRESS = 0x500;
const START_INFO_ADDRESS = 0x6000;
const MODULES_ADDRESS = START_INFO_ADDRESS + 64;
const MAP_ADDRESS = MODULES_ADDRESS + 64;
/** So many entries fit before what Linux's other protocol has at 0x7000. */
const MAX_MAP_ENTRIES = 128;

const CODE_SELECTOR = 0x10;
const DATA_SELECTOR = 0x18;
const BUSY_TSS32 = 0x008b;

/** The entry point that the ELF's Xen note gives, or undefined where it has none. */
export function pvhEntry(elf: ElfFile): number | undefined {
  const note = elf.notes.find(({ owner, type }) => owner === "Xen" && type === XEN_ELFNOTE_PHYS32_ENTRY);
  // 4 bytes, or 8 of which the upper half must be zero: the entry is a 32-bit address.
  if (note === undefined || (note.contents.length !== 4 && note.contents.length !== 8)) return undefined;
  const view = new DataView(note.contents.buffer, note.contents.byteOffset, note.contents.byteLength);
  if (note.contents.length === 8 && view.getUint32(4, true) !== 0) return undefined;
  return view.getUint32(0, true);
}

export interface PvhBoot {
  readonly memory: GuestMemory;
  /** Physical entry point, below 4 GiB. */
  readonly entry: number;
  readonly map: readonly MemoryMapEntry[];
  readonly initrd?: AddressRange;
  readonly rsdp?: number;
}

function startInfo(boot: PvhBoot): Uint8Array {
  const map = boot.map.slice(0, MAX_MAP_ENTRIES);
  const bytes = new Uint8Array(MAP_ADDRESS - START_INFO_ADDRESS + map.length * MAP_ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  const modules = boot.initrd === undefined ? 0 : 1;
  view.setUint32(0, START_INFO_MAGIC, true);
  view.setUint32(4, START_INFO_VERSION, true);
  view.setUint32(12, modules, true);
  view.setBigUint64(16, modules === 0 ? 0n : BigInt(MODULES_ADDRESS), true);
  view.setBigUint64(24, BigInt(COMMAND_LINE_ADDRESS), true);
  view.setBigUint64(32, BigInt(boot.rsdp ?? 0), true);
  view.setBigUint64(40, BigInt(MAP_ADDRESS), true);
  view.setUint32(48, map.length, true);
  if (boot.initrd !== undefined) {
    const at = MODULES_ADDRESS - START_INFO_ADDRESS;
    view.setBigUint64(at, BigInt(boot.initrd.start), true);
    view.setBigUint64(at + 8, BigInt(boot.initrd.size), true);
  }
  map.forEach(({ start, size, type }, index) => {
    const at = MAP_ADDRESS - START_INFO_ADDRESS + index * MAP_ENTRY_BYTES;
    view.setBigUint64(at, BigInt(start), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setUint32(at + 16, type, true);
  });
  return bytes;
}

/** Writes hvm_start_info; gives the state in which the boot processor enters the kernel. */
export function preparePvh(boot: PvhBoot): CpuState {
  const gdt = new Uint8Array(DATA_SELECTOR + 8);
  const gdtView = new DataView(gdt.buffer);
  gdtView.setBigUint64(CODE_SELECTOR, flatDescriptor(FLAT_CODE32), true);
  gdtView.setBigUint64(DATA_SELECTOR, flatDescriptor(FLAT_DATA), true);
  // PVH promises no GDT; a kernel that reloads a selector before its own LGDT still finds one.
  place(boot.memory, "the GDT", GDT_ADDRESS, gdt);
  place(boot.memory, "the start information", START_INFO_ADDRESS, startInfo(boot));

  const state = resetState();
  state.segments.cs = flatSegment(CODE_SELECTOR, FLAT_CODE32);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) {
    state.segments[name] = flatSegment(DATA_SELECTOR, FLAT_DATA);
  }
  state.segments.tr = { selector: 0, base: 0n, limit: 0x67, attributes: BUSY_TSS32 };
  state.gdtr = { base: BigInt(GDT_ADDRESS), limit: gdt.length - 1 };
  state.idtr = { base: 0n, limit: 0 };
  state.cr0 = 0x31n; // PE, ET, NE
  state.gpr.rbx = BigInt(START_INFO_ADDRESS);
  state.rip = BigInt(boot.entry);
  return state;
}
