/**
 * What the 32-bit and the 64-bit Linux boot protocols share: boot_params, the "zero page", and the selectors.
 * [Linux Documentation/arch/x86/boot.rst; arch/x86/zero-page.rst]
 */

import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type BzImage, SETUP_HEADER_START } from "./bzimage.ts";
import type { AddressRange, MemoryMapEntry } from "./memory-map.ts";
import { COMMAND_LINE_ADDRESS, place } from "./placement.ts";

/** Guest-physical places of both protocols, below the video window. */
export const GDT_ADDRESS = 0x500;
export const BOOT_PARAMS_ADDRESS = 0x7000;
const BOOT_PARAMS_BYTES = 4096;
/** Linux brings a stack of its own. */
export const STACK_ADDRESS = 0x8ff0;

/** Fields of boot_params. [zero-page.rst; boot.rst; screen_info at 0: include/uapi/linux/screen_info.h] */
const SCREEN_VIDEO_MODE = 0x006;
const SCREEN_COLUMNS = 0x007;
const SCREEN_EGA_MEMORY = 0x00a;
const SCREEN_LINES = 0x00e;
const SCREEN_IS_VGA = 0x00f;
const SCREEN_CHARACTER_HEIGHT = 0x010;
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
/** Colour text; not the 0x10 by which Linux knows a CGA. */
const EGA_MEMORY_256K = 3;
/** 2.15, for an ELF that came without its setup header; Linux reads only a few fields of it. */
const OWN_VERSION = 0x020f;
export const DEFAULT_INITRD_ADDRESS_MAX = 0x7fff_ffff;

/** Selectors that the protocols fix. */
export const BOOT_CS = 0x10;
export const BOOT_DS = 0x18;

export interface LinuxBoot {
  readonly memory: GuestMemory;
  /** Physical entry point. */
  readonly entry: number;
  readonly map: readonly MemoryMapEntry[];
  readonly initrd?: AddressRange;
  /** Address of ACPI's RSDP. */
  readonly rsdp?: number;
  /** The bzImage that the kernel came in, for its header. */
  readonly image?: BzImage;
}

function bootParams(boot: LinuxBoot): Uint8Array {
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
  // The VGA as it is after power-on, which a BIOS would be asked for.
  view.setUint8(SCREEN_VIDEO_MODE, 3);
  view.setUint8(SCREEN_COLUMNS, 80);
  view.setUint16(SCREEN_EGA_MEMORY, EGA_MEMORY_256K, true);
  view.setUint8(SCREEN_LINES, 25);
  view.setUint8(SCREEN_IS_VGA, 1);
  view.setUint16(SCREEN_CHARACTER_HEIGHT, 16, true);
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

/** Writes boot_params; its address goes into ESI or RSI. */
export function placeBootParams(boot: LinuxBoot): void {
  place(boot.memory, "boot parameters", BOOT_PARAMS_ADDRESS, bootParams(boot));
}
