/** Loads a kernel as users have it into a guest's RAM, by the protocol that it speaks. */

import { IsolaError } from "../../base/errors.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { BootModule } from "../vm-contract.ts";
import { DEFAULT_INITRD_ADDRESS_MAX } from "./boot-params.ts";
import { type BzImage, type Decompress, type UnpackedKernel, unpackKernel, wholeImage } from "./bzimage.ts";
import { type ElfFile, invalidKernel, isElf, readElf } from "./elf.ts";
import { prepareLinux32 } from "./linux32.ts";
import { prepareLinux64 } from "./linux64.ts";
import { type AddressRange, memoryMap } from "./memory-map.ts";
import { withMemoryTypes } from "./memory-types.ts";
import { prepareMultiboot } from "./multiboot.ts";
import {
  findMultibootHeader,
  type MultibootHeader,
  multibootProgram,
  readMultibootHeader,
} from "./multiboot-header.ts";
import {
  type BootTable,
  DEFAULT_COMMAND_LINE_LIMIT,
  place,
  placeCommandLine,
  placeElf,
  placeInitrd,
} from "./placement.ts";
import { preparePvh, pvhEntry } from "./pvh.ts";

export type BootProtocol = "linux64" | "linux32" | "multiboot" | "pvh";

export interface BootOptions {
  /** Fresh guest RAM. */
  readonly memory: GuestMemory;
  readonly initrd?: Uint8Array;
  /** Files beside the initrd: Multiboot hands on each, other protocols join them to the initrd. */
  readonly modules?: readonly BootModule[];
  readonly commandLine: string;
  /** ACPI and MP tables, already at their places; written here. */
  readonly tables?: readonly BootTable[];
  /** Address of ACPI's RSDP, which is in one of the tables. */
  readonly rsdp?: number;
  /** Device windows that the memory map must show as reserved, such as ECAM. */
  readonly reserved?: readonly AddressRange[];
  /** Chosen by the kernel unless given: Linux by its own, then Multiboot, anything else by its PVH note. */
  readonly protocol?: BootProtocol;
}

export interface LoadKernelOptions extends BootOptions {
  /** A bzImage, an ELF vmlinux, or a Multiboot kernel. */
  readonly kernel: Uint8Array;
  /** For the payload of a bzImage, or a gzipped kernel; needed for nothing else. */
  readonly decompress: Decompress;
}

/** A kernel's program and how it is entered. */
interface Program {
  readonly elf: ElfFile;
  readonly protocol: BootProtocol;
  readonly multiboot?: MultibootHeader;
}

function choose(elf: ElfFile, image: BzImage | undefined, multiboot: boolean): BootProtocol {
  const linux = elf.bits === 64 ? "linux64" : "linux32";
  if (image !== undefined || elf.notes.some(({ owner }) => owner === "Linux")) return linux;
  if (multiboot) return "multiboot";
  if (pvhEntry(elf) !== undefined) return "pvh";
  if (elf.bits === 64) return "linux64";
  throw new IsolaError({
    code: "kernel-other-architecture",
    message: "loading the kernel: it is a 32-bit ELF that is neither Linux nor Multiboot, without a PVH entry",
  });
}

function readProgram({ elf: bytes, image }: UnpackedKernel, asked: BootProtocol | undefined): Program {
  if (bytes === undefined) {
    if (image === undefined) throw invalidKernel("there is none");
    const elf = wholeImage(image);
    return { elf, protocol: asked ?? choose(elf, image, false) };
  }
  const header = image === undefined ? findMultibootHeader(bytes) : undefined;
  const elf = isElf(bytes) ? readElf(bytes) : undefined;
  const protocol = asked ?? (elf === undefined ? "multiboot" : choose(elf, image, header !== undefined));
  if (protocol !== "multiboot") {
    if (elf === undefined) throw invalidKernel("it is no ELF");
    return { elf, protocol };
  }
  if (header === undefined) throw invalidKernel("it has no Multiboot header");
  const multiboot = readMultibootHeader(bytes, header);
  if (multiboot.addresses !== undefined) {
    return { elf: multibootProgram(bytes, multiboot.addresses), protocol, multiboot };
  }
  if (elf === undefined) throw invalidKernel("it is no ELF, and its Multiboot header gives no load addresses");
  return { elf, protocol, multiboot };
}

/** The physical entry point. It must lead into what was loaded, or the guest would run zeros. */
function entryOf(elf: ElfFile, protocol: BootProtocol): number {
  const entry = protocol === "pvh" ? pvhEntry(elf) : elf.entry;
  if (entry === undefined) throw invalidKernel("it has no PVH entry");
  const within = (start: number, size: number): boolean => entry >= start && entry < start + size;
  if (elf.segments.some(({ physical, memoryBytes }) => within(physical, memoryBytes))) return entry;
  // Multiboot kernels may be linked to where they map themselves, their entry point included, as GRUB has it.
  const home =
    protocol === "multiboot"
      ? elf.segments.find(({ virtual, memoryBytes }) => within(virtual, memoryBytes))
      : undefined;
  if (home !== undefined) return entry - home.virtual + home.physical;
  throw invalidKernel(`its entry point 0x${entry.toString(16)} is outside of what it loads`);
}

/** The initrd and what follows it, one after the other, each on 4 bytes as Linux reads archives. */
function joinedInitrd(modules: readonly BootModule[]): Uint8Array | undefined {
  const [first, ...others] = modules.filter(({ bytes }) => bytes.length > 0).map(({ bytes }) => bytes);
  if (first === undefined || others.length === 0) return first;
  const padded = (bytes: Uint8Array): number => Math.ceil(bytes.length / 4) * 4;
  const joined = new Uint8Array(others.reduce((sum, bytes) => sum + padded(bytes), padded(first)));
  let at = 0;
  for (const bytes of [first, ...others]) {
    joined.set(bytes, at);
    at += padded(bytes);
  }
  return joined;
}

/**
 * Puts an unpacked kernel and all that belongs to it into RAM, and gives the boot processor's first state.
 * @throws IsolaError one line each: `kernel-*`, `initrd-too-large`, `modules-too-many`, `memory-too-small`,
 * `command-line-invalid`
 */
export function loadUnpackedKernel(unpacked: UnpackedKernel, options: BootOptions): CpuState {
  const { memory, tables = [], reserved = [] } = options;
  const { image } = unpacked;
  const { elf, protocol, multiboot } = readProgram(unpacked, options.protocol);
  const entry = entryOf(elf, protocol);
  if (protocol === "linux64" && elf.bits !== 64) throw invalidKernel("it is a 32-bit ELF");
  if (protocol === "linux32" && elf.bits !== 32) throw invalidKernel("it is a 64-bit ELF");
  const kernel = placeElf(memory, elf);
  placeCommandLine(memory, options.commandLine, image?.commandLineLimit ?? DEFAULT_COMMAND_LINE_LIMIT);
  const tableRanges = tables.map((table) => ({ start: table.address, size: table.bytes.length }));
  for (const { address, bytes: contents } of tables) place(memory, "firmware tables", address, contents);
  const map = memoryMap(memory, tableRanges, reserved);
  const initrd = options.initrd === undefined ? [] : [{ bytes: options.initrd, commandLine: "" }];
  const modules = [...initrd, ...(options.modules ?? [])];
  const occupied = [...tableRanges, ...reserved];
  if (multiboot !== undefined) {
    const file = unpacked.elf ?? new Uint8Array(0);
    const program = { memory, header: multiboot, file, program: elf, kernel, entry, map, modules, occupied };
    return withMemoryTypes(prepareMultiboot(program));
  }
  const archive = joinedInitrd(modules);
  const initrdMax = image?.initrdAddressMax ?? DEFAULT_INITRD_ADDRESS_MAX;
  const boot = {
    memory,
    entry,
    map,
    ...(archive === undefined ? {} : { initrd: placeInitrd(memory, archive, initrdMax, [kernel, ...occupied]) }),
    ...(options.rsdp === undefined ? {} : { rsdp: options.rsdp }),
  };
  if (protocol === "pvh") return withMemoryTypes(preparePvh(boot));
  const linux = { ...boot, ...(image === undefined ? {} : { image }) };
  return withMemoryTypes(protocol === "linux32" ? prepareLinux32(linux) : prepareLinux64(linux));
}

/** `loadUnpackedKernel` for a kernel as it is on disk. @throws as that, and what unpacking throws */
export async function loadKernel({ kernel, decompress, ...options }: LoadKernelOptions): Promise<CpuState> {
  const unpacked = await unpackKernel(kernel, decompress);
  const state = loadUnpackedKernel(unpacked, options);
  // What was decompressed here is nobody else's, and large: it goes at once, not when the collector runs.
  const elf = unpacked.elf ?? kernel;
  const { buffer } = elf;
  // A small one may be a slice of a buffer that others use.
  if (buffer !== kernel.buffer && buffer instanceof ArrayBuffer && buffer.byteLength === elf.byteLength) {
    buffer.transfer(0);
  }
  return state;
}
