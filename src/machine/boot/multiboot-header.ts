/**
 * The header by which a kernel asks for the Multiboot protocol, and its own load addresses for files that are no ELF
 * (the "a.out kludge"). [Multiboot 0.6.96 §3.1]
 * Input is hostile: the addresses are checked against each other and against the file before they are used.
 */

import { IsolaError } from "../../base/errors.ts";
import { type ElfFile, truncatedKernel } from "./elf.ts";

const MAGIC = 0x1badb002;
/** The header lies wholly within so many bytes of the file's begin, on 4 bytes. */
const SEARCH_BYTES = 8192;
const MINIMUM_BYTES = 12;

const VIDEO_MODE = 1 << 2;
const ADDRESSES = 1 << 16;
/** A loader that does not know one of these must refuse the kernel. Bits 0 and 1 are served in any case. */
const REQUIRED_UNKNOWN = 0xfff8;
/** Ends of the parts that a flag makes valid, in bytes from the header's begin. */
const ADDRESSES_END = 32;
const VIDEO_END = 48;
const EGA_TEXT = 1;

export interface MultibootAddresses {
  /** Where in the file the first byte to load is. */
  readonly fileOffset: number;
  readonly load: number;
  /** End of what the file gives; the file's end if the header says zero. */
  readonly loadEnd: number;
  /** End of the zeroed memory after it. */
  readonly bssEnd: number;
  readonly entry: number;
}

export interface MultibootHeader {
  /** It asks for a text screen, by its flag for video modes. */
  readonly wantsText: boolean;
  /** Load addresses, where the header gives them in place of the ELF's. */
  readonly addresses?: MultibootAddresses;
}

function invalidHeader(what: string, wanted: string): IsolaError {
  return new IsolaError({
    code: "kernel-invalid",
    message: `loading the kernel: its Multiboot header ${what}; wanted ${wanted}`,
  });
}

/** The offset of the header, or undefined where the file has none. A wrong checksum is no header. */
export function findMultibootHeader(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = Math.min(bytes.length, SEARCH_BYTES) - MINIMUM_BYTES;
  for (let at = 0; at <= end; at += 4) {
    if (view.getUint32(at, true) !== MAGIC) continue;
    const sum = MAGIC + view.getUint32(at + 4, true) + view.getUint32(at + 8, true);
    if (sum >>> 0 === 0) return at;
  }
  return undefined;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

function readAddresses(view: DataView, at: number, fileBytes: number): MultibootAddresses {
  const field = (offset: number): number => view.getUint32(at + offset, true);
  const [header, load, loadEnd, bssEnd, entry] = [field(12), field(16), field(20), field(24), field(28)];
  if (load > header) throw invalidHeader(`lies at ${hex(header)}, below its load address ${hex(load)}`, "it above");
  const fileOffset = at - (header - load);
  if (fileOffset < 0)
    throw invalidHeader(`would load from ${-fileOffset} bytes before the file`, "a header_addr that fits");
  const end = loadEnd === 0 ? load + (fileBytes - fileOffset) : loadEnd;
  if (end <= load) throw invalidHeader(`loads from ${hex(load)} to ${hex(end)}`, "an end above the begin");
  if (fileOffset + (end - load) > fileBytes) {
    throw truncatedKernel("what its Multiboot header loads", fileBytes, fileOffset + (end - load));
  }
  if (bssEnd !== 0 && bssEnd < end) {
    throw invalidHeader(`ends its bss at ${hex(bssEnd)}, within what it loads to ${hex(end)}`, "bss_end_addr above");
  }
  return { fileOffset, load, loadEnd: end, bssEnd: bssEnd === 0 ? end : bssEnd, entry };
}

/**
 * Reads the header at `at`, which `findMultibootHeader` found.
 * @throws IsolaError `kernel-invalid` for a flag that is required and unknown, for a graphics mode, for addresses that
 * contradict each other; `kernel-truncated`
 */
export function readMultibootHeader(bytes: Uint8Array, at: number): MultibootHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint32(at + 4, true);
  const unknown = flags & REQUIRED_UNKNOWN;
  if (unknown !== 0) throw invalidHeader(`requires ${hex(unknown)} in its flags`, "none above bit 2 among bits 15:0");
  const end = at + ((flags & VIDEO_MODE) !== 0 ? VIDEO_END : (flags & ADDRESSES) !== 0 ? ADDRESSES_END : 0);
  if (end > bytes.length) throw truncatedKernel("its Multiboot header", bytes.length, end);
  if ((flags & VIDEO_MODE) !== 0 && view.getUint32(at + 32, true) !== EGA_TEXT) {
    throw invalidHeader("asks for a graphics mode", "mode_type 1, text, for the board has no frame buffer");
  }
  const wantsText = (flags & VIDEO_MODE) !== 0;
  if ((flags & ADDRESSES) === 0) return { wantsText };
  return { wantsText, addresses: readAddresses(view, at, bytes.length) };
}

/** The file as one segment, by the header's own addresses. */
export function multibootProgram(bytes: Uint8Array, addresses: MultibootAddresses): ElfFile {
  const { fileOffset, load, loadEnd, bssEnd, entry } = addresses;
  const contents = bytes.subarray(fileOffset, fileOffset + (loadEnd - load));
  const segment = { physical: load, virtual: load, contents, memoryBytes: bssEnd - load };
  return { bits: 32, entry, segments: [segment], notes: [] };
}
