/** Loads a kernel as users have it into a guest's RAM, by the protocol that it speaks. */

import { IsolaError } from "../../base/errors.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type BzImage, type Decompress, type UnpackedKernel, unpackKernel } from "./bzimage.ts";
import { type ElfFile, invalidKernel, readElf } from "./elf.ts";
import { DEFAULT_INITRD_ADDRESS_MAX, prepareLinux64 } from "./linux64.ts";
import { type AddressRange, memoryMap } from "./memory-map.ts";
import {
  type BootTable,
  DEFAULT_COMMAND_LINE_LIMIT,
  place,
  placeCommandLine,
  placeElf,
  placeInitrd,
} from "./placement.ts";
import { preparePvh, pvhEntry } from "./pvh.ts";

export type BootProtocol = "linux64" | "pvh";

export interface BootOptions {
  /** Fresh guest RAM. */
  readonly memory: GuestMemory;
  readonly initrd?: Uint8Array;
  readonly commandLine: string;
  /** ACPI and MP tables, already at their places; written here. */
  readonly tables?: readonly BootTable[];
  /** Address of ACPI's RSDP, which is in one of the tables. */
  readonly rsdp?: number;
  /** Device windows that the memory map must show as reserved, such as ECAM. */
  readonly reserved?: readonly AddressRange[];
  /** Chosen by the kernel unless given: Linux by linux64, anything else by its PVH note. */
  readonly protocol?: BootProtocol;
}

export interface LoadKernelOptions extends BootOptions {
  /** A bzImage, or an ELF vmlinux. */
  readonly kernel: Uint8Array;
  /** For the payload of a bzImage; needed for nothing else. */
  readonly decompress: Decompress;
}

function choose(elf: ElfFile, image: BzImage | undefined): BootProtocol {
  const pvh = pvhEntry(elf) !== undefined;
  const linux = image !== undefined || elf.notes.some(({ owner }) => owner === "Linux");
  if (elf.bits === 64 && (linux || !pvh)) return "linux64";
  if (pvh) return "pvh";
  throw new IsolaError({
    code: "kernel-other-architecture",
    message: "loading the kernel: it is a 32-bit ELF without a PVH entry; wanted one for x86-64",
  });
}

/** The entry must lead into what was loaded, or the guest would run zeros. */
function checkEntry(elf: ElfFile, entry: number): void {
  if (elf.segments.some(({ physical, memoryBytes }) => entry >= physical && entry < physical + memoryBytes)) return;
  throw invalidKernel(`its entry point 0x${entry.toString(16)} is outside of what it loads`);
}

/**
 * Puts an unpacked kernel and all that belongs to it into RAM, and gives the boot processor's first state.
 * @throws IsolaError one line each: `kernel-*`, `initrd-too-large`, `memory-too-small`, `command-line-invalid`
 */
export function loadUnpackedKernel({ elf: bytes, image }: UnpackedKernel, options: BootOptions): CpuState {
  const { memory, tables = [], reserved = [] } = options;
  const elf = readElf(bytes);
  const protocol = options.protocol ?? choose(elf, image);
  const entry = protocol === "pvh" ? pvhEntry(elf) : elf.entry;
  if (entry === undefined) throw invalidKernel("it has no PVH entry");
  if (protocol === "linux64" && elf.bits !== 64) throw invalidKernel("it is a 32-bit ELF");
  checkEntry(elf, entry);
  const kernelRange = placeElf(memory, elf);
  placeCommandLine(memory, options.commandLine, image?.commandLineLimit ?? DEFAULT_COMMAND_LINE_LIMIT);
  const tableRanges = tables.map((table) => ({ start: table.address, size: table.bytes.length }));
  const initrdMax = image?.initrdAddressMax ?? DEFAULT_INITRD_ADDRESS_MAX;
  const initrd =
    options.initrd === undefined || options.initrd.length === 0
      ? undefined
      : placeInitrd(memory, options.initrd, initrdMax, [kernelRange, ...tableRanges, ...reserved]);
  for (const { address, bytes: contents } of tables) place(memory, "firmware tables", address, contents);
  const boot = {
    memory,
    entry,
    map: memoryMap(memory, tableRanges, reserved),
    ...(initrd === undefined ? {} : { initrd }),
    ...(options.rsdp === undefined ? {} : { rsdp: options.rsdp }),
  };
  if (protocol === "pvh") return preparePvh(boot);
  return prepareLinux64({ ...boot, ...(image === undefined ? {} : { image }) });
}

/** `loadUnpackedKernel` for a kernel as it is on disk. @throws as that, and what unpacking throws */
export async function loadKernel({ kernel, decompress, ...options }: LoadKernelOptions): Promise<CpuState> {
  return loadUnpackedKernel(await unpackKernel(kernel, decompress), options);
}
