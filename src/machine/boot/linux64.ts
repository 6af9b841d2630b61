/**
 * The 64-bit Linux boot protocol: memory and registers as startup_64 wants them.
 * [Linux Documentation/arch/x86/boot.rst "64-bit Boot Protocol"; arch/x86/zero-page.rst]
 *
 * Guest-physical layout, all below the video window:
 *   0x500    GDT      0x7000  boot_params ("zero page")      0x8ff0  stack, unused by Linux
 *   0x9000   PML4     0xa000  PDPT     0xb000-0xefff  four page directories: the first 4 GiB one to one
 *   0x20000  command line
 * The kernel's ELF is entered at its linked physical address, so no relocation is needed; KASLR is the self-extractor's
 * work and does not happen.
 */

import { FLAT_CODE64, FLAT_DATA, MSR, flatDescriptor, flatSegment, resetState } from "../../cpu/reset-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type BzImage, SETUP_HEADER_START } from "./bzimage.ts";
import type { AddressRange, MemoryMapEntry } from "./memory-map.ts";
import { COMMAND_LINE_ADDRESS, place } from "./placement.ts";

const GDT_ADDRESS = 0x500;
const BOOT_PARAMS_ADDRESS = 0x7000;
const BOOT_PARAMS_BYTES = 4096;
const STACK_ADDRESS = 0x8ff0;
const PML4_ADDRESS = 0x9000;
const PDPT_ADDRESS = 0xa000;
const PD_ADDRESS = 0xb000;
const PAGE_BYTES = 4096;
const MAPPED_GIB = 4;

/** Fields of boot_params. [zero-page.rst; boot.rst] */
const ACPI_RSDP_ADDR = 0x070;
const EXT_RAMDISK_IMAGE = 0x0c0;
const E820_ENTRIES = 0x1e8;
const VID_MODE = 0x1fa;
const BOOT_FLAG = 0x1fe;
const HEADER_MAGIC = 0x202;
const VERSION = 0x206;
const TYPE_OF_LOADER = 0x210;
const LOADFLAGS = 0x211;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const CMD_LINE_PTR = 0x228;
const INITRD_ADDR_MAX = 0x22c;
const E820_TABLE = 0x2d0;
const E820_ENTRY_BYTES = 20;
const E820_MAX_ENTRIES = 128;

const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1;
const VIDEO_NORMAL = 0xffff;
/** 2.15, for an ELF that came without its setup header; Linux reads only a few fields of it. */
const OWN_VERSION = 0x020f;
export const DEFAULT_INITRD_ADDRESS_MAX = 0x7fff_ffff;

/** Selectors that the protocol fixes. */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;

const CR0_PE = 1n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_PG = 0x8000_0000n;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const PRESENT_WRITABLE = 3n;
/** Present, writable, 2 MiB page. */
const PDE_LARGE = 0x83n;

export interface Linux64Boot {
  readonly memory: GuestMemory;
  /** Physical address of startup_64. */
  readonly entry: number;
  readonly map: readonly MemoryMapEntry[];
  readonly initrd?: AddressRange;
  /** Address of ACPI's RSDP. */
  readonly rsdp?: number;
  /** The bzImage that the kernel came in, for its header. */
  readonly image?: BzImage;
}

function bootParams(boot: Linux64Boot): Uint8Array {
  const bytes = new Uint8Array(BOOT_PARAMS_BYTES);
  const view = new DataView(bytes.buffer);
  if (boot.image === undefined) {
    view.setUint16(BOOT_FLAG, 0xaa55, true);
    view.setUint32(HEADER_MAGIC, 0x53726448, true);
    view.setUint16(VERSION, OWN_VERSION, true);
    view.setUint32(INITRD_ADDR_MAX, DEFAULT_INITRD_ADDRESS_MAX, true);
  } else {
    bytes.set(boot.image.setupHeader, SETUP_HEADER_START);
  }
  view.setUint16(VID_MODE, VIDEO_NORMAL, true);
  view.setUint8(TYPE_OF_LOADER, LOADER_UNDEFINED);
  view.setUint8(LOADFLAGS, view.getUint8(LOADFLAGS) | LOADED_HIGH);
  view.setUint32(CMD_LINE_PTR, COMMAND_LINE_ADDRESS, true);
  if (boot.initrd !== undefined) {
    // The initrd lies in low RAM, so the upper halves at EXT_RAMDISK_IMAGE stay zero.
    view.setUint32(RAMDISK_IMAGE, boot.initrd.start, true);
    view.setUint32(RAMDISK_SIZE, boot.initrd.size, true);
    view.setBigUint64(EXT_RAMDISK_IMAGE, 0n, true);
  }
  if (boot.rsdp !== undefined) view.setBigUint64(ACPI_RSDP_ADDR, BigInt(boot.rsdp), true);
  const map = boot.map.slice(0, E820_MAX_ENTRIES);
  view.setUint8(E820_ENTRIES, map.length);
  map.forEach(({ start, size, type }, index) => {
    const at = E820_TABLE + index * E820_ENTRY_BYTES;
    view.setBigUint64(at, BigInt(start), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setUint32(at + 16, type, true);
  });
  return bytes;
}

/** One PML4 entry, four PDPT entries, 2048 large pages. [SDM 3 §4.5] */
function pageTables(): Uint8Array {
  const bytes = new Uint8Array(PD_ADDRESS - PML4_ADDRESS + MAPPED_GIB * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(PDPT_ADDRESS) | PRESENT_WRITABLE, true);
  for (let gib = 0; gib < MAPPED_GIB; gib++) {
    const entry = BigInt(PD_ADDRESS + gib * PAGE_BYTES) | PRESENT_WRITABLE;
    view.setBigUint64(PDPT_ADDRESS - PML4_ADDRESS + gib * 8, entry, true);
  }
  for (let page = 0; page < MAPPED_GIB * 512; page++) {
    view.setBigUint64(PD_ADDRESS - PML4_ADDRESS + page * 8, (BigInt(page) << 21n) | PDE_LARGE, true);
  }
  return bytes;
}

/** Writes boot_params, GDT and page tables; gives the state in which the boot processor enters the kernel. */
export function prepareLinux64(boot: Linux64Boot): CpuState {
  const gdt = new Uint8Array(BOOT_DS + 8);
  const gdtView = new DataView(gdt.buffer);
  gdtView.setBigUint64(BOOT_CS, flatDescriptor(FLAT_CODE64), true);
  gdtView.setBigUint64(BOOT_DS, flatDescriptor(FLAT_DATA), true);
  place(boot.memory, "the GDT", GDT_ADDRESS, gdt);
  place(boot.memory, "boot parameters", BOOT_PARAMS_ADDRESS, bootParams(boot));
  place(boot.memory, "page tables", PML4_ADDRESS, pageTables());

  const state = resetState();
  state.segments.cs = flatSegment(BOOT_CS, FLAT_CODE64);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) {
    state.segments[name] = flatSegment(BOOT_DS, FLAT_DATA);
  }
  state.gdtr = { base: BigInt(GDT_ADDRESS), limit: gdt.length - 1 };
  // Nothing may interrupt before the kernel has an IDT of its own.
  state.idtr = { base: 0n, limit: 0 };
  state.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
  state.cr3 = BigInt(PML4_ADDRESS);
  state.cr4 = CR4_PAE;
  state.msrs.set(MSR.IA32_EFER, EFER_LME | EFER_LMA);
  state.gpr.rsi = BigInt(BOOT_PARAMS_ADDRESS);
  state.gpr.rsp = BigInt(STACK_ADDRESS);
  state.rip = BigInt(boot.entry);
  return state;
}
