/**
 * The Multiboot protocol, version 1: 32-bit protected mode without paging, EAX holding the loader's magic, EBX pointing
 * at the information structure. [Multiboot 0.6.96 §3.2, §3.3]
 *
 * Guest-physical layout:
 *   0x500    GDT, which the protocol does not promise
 *   0x9000   information structure, memory map, module list, strings
 *   0x20000  command line
 *   kernel   at its own addresses from 1 MiB up; after it the ELF sections that no segment loads, then the modules
 */

import { IsolaError } from "../../base/errors.ts";
import { FLAT_CODE32, FLAT_DATA, flatDescriptor, flatSegment, resetState } from "../../cpu/reset-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { BootModule } from "../vm-contract.ts";
import { BOOT_CS, BOOT_DS, GDT_ADDRESS } from "./boot-params.ts";
import type { ElfFile } from "./elf.ts";
import { sectionHeaders } from "./elf-sections.ts";
import { EBDA_START, HIGH_MEMORY_START, MEMORY_RAM, type AddressRange, type MemoryMapEntry } from "./memory-map.ts";
import type { MultibootHeader } from "./multiboot-header.ts";
import { COMMAND_LINE_ADDRESS, place, placeAbove } from "./placement.ts";

const LOADER_MAGIC = 0x2badb002n;
const INFO_ADDRESS = 0x9000;
const INFO_BYTES = 120;
/** Name and modules' command lines included. */
const INFO_SPACE = COMMAND_LINE_ADDRESS - INFO_ADDRESS;
const LOADER_NAME = "isola";

/** Which fields of the information structure are valid. */
const INFO_MEMORY = 1 << 0;
const INFO_COMMAND_LINE = 1 << 2;
const INFO_MODULES = 1 << 3;
const INFO_ELF_SECTIONS = 1 << 5;
const INFO_MEMORY_MAP = 1 << 6;
const INFO_LOADER_NAME = 1 << 9;
const INFO_FRAMEBUFFER = 1 << 12;

/** An entry's `size` field counts what follows it. */
const MAP_ENTRY_BYTES = 24;
const MODULE_ENTRY_BYTES = 16;
const PAGE_BYTES = 4096;

const TEXT_ADDRESS = 0xb8000n;
const TEXT_COLUMNS = 80;
const TEXT_ROWS = 25;
const FRAMEBUFFER_EGA_TEXT = 2;

const CR0_PE = 1n;
const CR0_ET = 0x10n;

export interface MultibootBoot {
  readonly memory: GuestMemory;
  readonly header: MultibootHeader;
  /** The file, for its section headers. */
  readonly file: Uint8Array;
  /** What was loaded of it, and where. */
  readonly program: ElfFile;
  readonly kernel: AddressRange;
  /** Physical entry point. */
  readonly entry: number;
  readonly map: readonly MemoryMapEntry[];
  readonly modules: readonly BootModule[];
  /** What modules must keep clear of, besides the kernel. */
  readonly occupied: readonly AddressRange[];
}

/** The information structure grows by parts, each at an address of its own. */
class InfoBlock {
  readonly bytes = new Uint8Array(INFO_SPACE);
  readonly view = new DataView(this.bytes.buffer);
  #used = INFO_BYTES;

  /** Room for a part of `length` bytes; gives its offset in the block. @throws IsolaError `modules-too-many` */
  reserve(length: number): number {
    const at = this.#used;
    this.#used = Math.ceil((at + length) / 8) * 8;
    if (this.#used > INFO_SPACE) {
      throw new IsolaError({
        code: "modules-too-many",
        message:
          `loading the modules: their list and command lines take ${this.#used} bytes; wanted at most ${INFO_SPACE}; ` +
          "give fewer --initrd, or shorter words after them",
      });
    }
    return at;
  }

  /** Adds a text ended by NUL; gives its physical address. */
  text(value: string): number {
    const bytes = new TextEncoder().encode(value);
    const at = this.reserve(bytes.length + 1);
    this.bytes.set(bytes, at);
    return INFO_ADDRESS + at;
  }

  get contents(): Uint8Array {
    return this.bytes.subarray(0, this.#used);
  }
}

/** Sizes of low and upper memory, and the memory map. */
function addMemory(info: InfoBlock, map: readonly MemoryMapEntry[]): void {
  const { view } = info;
  const upper = map.find(({ start, type }) => start === HIGH_MEMORY_START && type === MEMORY_RAM);
  view.setUint32(4, EBDA_START / 1024, true);
  // Up to the first hole, in KiB.
  view.setUint32(8, Math.floor((upper?.size ?? 0) / 1024), true);
  const at = info.reserve(map.length * MAP_ENTRY_BYTES);
  view.setUint32(44, map.length * MAP_ENTRY_BYTES, true);
  view.setUint32(48, INFO_ADDRESS + at, true);
  map.forEach(({ start, size, type }, index) => {
    const entry = at + index * MAP_ENTRY_BYTES;
    view.setUint32(entry, MAP_ENTRY_BYTES - 4, true);
    view.setBigUint64(entry + 4, BigInt(start), true);
    view.setBigUint64(entry + 12, BigInt(size), true);
    view.setUint32(entry + 20, type, true);
  });
}

/** Puts the modules above `from`, each on a page of its own, and lists them. */
function addModules(info: InfoBlock, boot: MultibootBoot, from: number): void {
  const at = info.reserve(boot.modules.length * MODULE_ENTRY_BYTES);
  info.view.setUint32(20, boot.modules.length, true);
  info.view.setUint32(24, INFO_ADDRESS + at, true);
  let next = from;
  boot.modules.forEach(({ bytes, commandLine }, index) => {
    const { start, size } = placeAbove(boot.memory, `module ${index + 1}`, bytes, next, PAGE_BYTES, boot.occupied);
    next = start + size;
    const entry = at + index * MODULE_ENTRY_BYTES;
    info.view.setUint32(entry, start, true);
    info.view.setUint32(entry + 4, next, true);
    info.view.setUint32(entry + 8, info.text(commandLine), true);
  });
}

/** Loads the ELF's section headers and what belongs to them above the kernel; gives the end of it. */
function addSections(info: InfoBlock, { memory, file, program, occupied }: MultibootBoot, from: number): number {
  // The place depends on the size alone, so the first reading, with addresses that do not hold, finds it.
  const size = sectionHeaders(file, program.bits, 0)?.bytes.length;
  if (size === undefined) return from;
  const what = "the kernel's symbols";
  const { start } = placeAbove(memory, what, new Uint8Array(size), from, PAGE_BYTES, occupied);
  const sections = sectionHeaders(file, program.bits, start);
  if (sections === undefined) return from;
  place(memory, what, start, sections.bytes);
  info.view.setUint32(0, info.view.getUint32(0, true) | INFO_ELF_SECTIONS, true);
  [sections.count, sections.entryBytes, start, sections.namesIndex].forEach((value, index) =>
    info.view.setUint32(28 + index * 4, value, true),
  );
  return start + size;
}

/** The text screen, for a kernel that asked for it. */
function addTextScreen({ view }: InfoBlock): void {
  view.setBigUint64(88, TEXT_ADDRESS, true);
  view.setUint32(96, TEXT_COLUMNS * 2, true);
  view.setUint32(100, TEXT_COLUMNS, true);
  view.setUint32(104, TEXT_ROWS, true);
  view.setUint8(108, 16);
  view.setUint8(109, FRAMEBUFFER_EGA_TEXT);
}

/**
 * Writes the information structure and the modules; gives the state in which the boot processor enters the kernel.
 * The command line is at its place already.
 * @throws IsolaError `modules-too-many`, `memory-too-small`, and `kernel-*` for section headers
 */
export function prepareMultiboot(boot: MultibootBoot): CpuState {
  const { memory, header } = boot;
  const info = new InfoBlock();
  const { view } = info;
  const screen = header.wantsText ? INFO_FRAMEBUFFER : 0;
  const flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME | screen;
  view.setUint32(0, flags, true);
  view.setUint32(16, COMMAND_LINE_ADDRESS, true);
  view.setUint32(64, info.text(LOADER_NAME), true);
  addMemory(info, boot.map);
  if (header.wantsText) addTextScreen(info);
  const kernelEnd = boot.kernel.start + boot.kernel.size;
  // With its own load addresses a file need not be an ELF, and its sections say nothing of what was loaded.
  const end = header.addresses === undefined ? addSections(info, boot, kernelEnd) : kernelEnd;
  addModules(info, boot, end);
  place(memory, "the Multiboot information", INFO_ADDRESS, info.contents);

  const gdt = new Uint8Array(BOOT_DS + 8);
  const gdtView = new DataView(gdt.buffer);
  gdtView.setBigUint64(BOOT_CS, flatDescriptor(FLAT_CODE32), true);
  gdtView.setBigUint64(BOOT_DS, flatDescriptor(FLAT_DATA), true);
  place(memory, "the GDT", GDT_ADDRESS, gdt);
  const state = resetState();
  state.segments.cs = flatSegment(BOOT_CS, FLAT_CODE32);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) {
    state.segments[name] = flatSegment(BOOT_DS, FLAT_DATA);
  }
  state.gdtr = { base: BigInt(GDT_ADDRESS), limit: gdt.length - 1 };
  state.idtr = { base: 0n, limit: 0 };
  state.cr0 = CR0_PE | CR0_ET;
  state.gpr.rax = LOADER_MAGIC;
  state.gpr.rbx = BigInt(INFO_ADDRESS);
  state.gpr.rdx = 0n;
  state.rip = BigInt(boot.entry);
  return state;
}
