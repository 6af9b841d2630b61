/**
 * Reader of executable ELF files as a boot loader needs them: header checks, loadable segments, notes.
 * [System V ABI, chapters 4 and 5; ELF-64 Object File Format 1.5]
 * Input is hostile: every offset is checked against the file before it is used. Little-endian x86 only.
 */

import { IsolaError } from "../../base/errors.ts";

export interface ElfSegment {
  /** Guest-physical address of the first byte. */
  readonly physical: number;
  /** Where the kernel itself will see it, once it has page tables. */
  readonly virtual: number;
  /** Bytes to copy there: a view of the file. The rest up to `memoryBytes` is zero. */
  readonly contents: Uint8Array;
  readonly memoryBytes: number;
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly contents: Uint8Array;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  /** `e_entry`; in a Linux kernel the physical address of startup_64 or startup_32. */
  readonly entry: number;
  /** PT_LOAD segments with a size, in the order of the file. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
}

const ELF_MAGIC = 0x7f454c46;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;

/** Names of the machines that a kernel at hand may have been built for, for the error. [ELF gABI, e_machine] */
const MACHINES: Readonly<Record<number, string>> = {
  2: "SPARC",
  8: "MIPS",
  20: "PowerPC",
  21: "PowerPC64",
  22: "S390",
  40: "ARM",
  43: "SPARC V9",
  50: "IA-64",
  183: "AArch64",
  243: "RISC-V",
  247: "BPF",
  258: "LoongArch",
};

export function invalidKernel(
  what: string,
  wanted = "wanted a Linux bzImage or vmlinux, or a Multiboot kernel, for x86",
): IsolaError {
  return new IsolaError({ code: "kernel-invalid", message: `loading the kernel: ${what}; ${wanted}` });
}

export function truncatedKernel(what: string, found: number, wanted: number): IsolaError {
  return new IsolaError({
    code: "kernel-truncated",
    message: `loading the kernel: ${what} needs ${wanted} bytes, the file has ${found}; copy the file again`,
  });
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) === ELF_MAGIC;
}

/** A file offset, size or address; what exceeds 2^53 is no real one. */
function big(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Number.POSITIVE_INFINITY;
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly virtual: number;
  readonly physical: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

function programHeader(view: DataView, at: number, bits: 32 | 64): ProgramHeader {
  if (bits === 64) {
    return {
      type: view.getUint32(at, true),
      offset: big(view, at + 8),
      virtual: big(view, at + 16),
      physical: big(view, at + 24),
      fileBytes: big(view, at + 32),
      memoryBytes: big(view, at + 40),
    };
  }
  return {
    type: view.getUint32(at, true),
    offset: view.getUint32(at + 4, true),
    virtual: view.getUint32(at + 8, true),
    physical: view.getUint32(at + 12, true),
    fileBytes: view.getUint32(at + 16, true),
    memoryBytes: view.getUint32(at + 20, true),
  };
}

/** Notes are { namesz, descsz, type, name, desc }, name and desc padded to 4 bytes. A damaged tail is ignored. */
function readNotes(contents: Uint8Array): ElfNote[] {
  const view = new DataView(contents.buffer, contents.byteOffset, contents.byteLength);
  const notes: ElfNote[] = [];
  const align4 = (value: number) => Math.ceil(value / 4) * 4;
  for (let at = 0; at + 12 <= contents.length; ) {
    const nameBytes = view.getUint32(at, true);
    const descriptionBytes = view.getUint32(at + 4, true);
    const descriptionAt = at + 12 + align4(nameBytes);
    if (descriptionAt + descriptionBytes > contents.length) break;
    const owner = new TextDecoder("latin1").decode(contents.subarray(at + 12, at + 12 + nameBytes));
    notes.push({
      owner: owner.replace(/\0+$/, ""),
      type: view.getUint32(at + 8, true),
      contents: contents.subarray(descriptionAt, descriptionAt + descriptionBytes),
    });
    at = descriptionAt + align4(descriptionBytes);
  }
  return notes;
}

/**
 * Reads an executable for x86. Segments are views of `bytes`.
 * @throws IsolaError `kernel-invalid`, `kernel-truncated`, `kernel-other-architecture`
 */
export function readElf(bytes: Uint8Array): ElfFile {
  if (!isElf(bytes)) throw invalidKernel("the file is no ELF");
  if (bytes.length < 52) throw truncatedKernel("its ELF header", bytes.length, 64);
  const bits = bytes[4] === 2 ? 64 : bytes[4] === 1 ? 32 : undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const machine = view.getUint16(18, bytes[5] !== 2);
  if (bits === undefined || bytes[5] !== 1 || (machine !== EM_X86_64 && machine !== EM_386)) {
    const name = MACHINES[machine] ?? `ELF machine ${machine}`;
    throw new IsolaError({
      code: "kernel-other-architecture",
      message: `loading the kernel: it is built for ${name}; wanted one for x86`,
    });
  }
  const headerBytes = bits === 64 ? 64 : 52;
  if (bytes.length < headerBytes) throw truncatedKernel("its ELF header", bytes.length, headerBytes);
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw invalidKernel(`it is an ELF of type ${type} (an object, library or core), not an executable`);
  }
  const entry = bits === 64 ? big(view, 24) : view.getUint32(24, true);
  const table = bits === 64 ? big(view, 32) : view.getUint32(28, true);
  const entryBytes = view.getUint16(bits === 64 ? 54 : 42, true);
  const count = view.getUint16(bits === 64 ? 56 : 44, true);
  if (count === 0 || entryBytes < (bits === 64 ? 56 : 32)) throw invalidKernel("its ELF has no program headers");
  if (table + entryBytes * count > bytes.length) {
    throw truncatedKernel("its program header table", bytes.length, table + entryBytes * count);
  }
  const segments: ElfSegment[] = [];
  const notes: ElfNote[] = [];
  for (let index = 0; index < count; index++) {
    const header = programHeader(view, table + entryBytes * index, bits);
    if (header.type !== PT_LOAD && header.type !== PT_NOTE) continue;
    const end = header.offset + header.fileBytes;
    if (end > bytes.length) throw truncatedKernel(`its segment ${index}`, bytes.length, end);
    const contents = bytes.subarray(header.offset, end);
    if (header.type === PT_NOTE) {
      notes.push(...readNotes(contents));
    } else if (header.memoryBytes > 0) {
      if (header.memoryBytes < header.fileBytes) throw invalidKernel(`its segment ${index} is smaller than its data`);
      const { physical, virtual, memoryBytes } = header;
      segments.push({ physical, virtual, contents, memoryBytes });
    }
  }
  if (segments.length === 0) throw invalidKernel("its ELF has nothing to load");
  return { bits, entry, segments, notes };
}
