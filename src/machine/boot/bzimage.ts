/**
 * The bzImage: real-mode setup code whose header describes the kernel, followed by a self-extracting kernel.
 * Modelled: boot protocol 2.08 to 2.15. [Linux Documentation/arch/x86/boot.rst]
 *
 * isola extracts the payload on the host, since guest code would do it far slower, and enters the kernel inside. A
 * program that borrows the format, such as Memtest86+, names no payload: it is loaded and entered as it is.
 * Input is hostile: every field is checked. No host calls: the decompressor is the caller's.
 */

import { IsolaError } from "../../base/errors.ts";
import { type ElfFile, invalidKernel, isElf, truncatedKernel } from "./elf.ts";
import { findMultibootHeader } from "./multiboot-header.ts";

/** Offsets in the file, which are those in boot_params too. [boot.rst, "The Real-Mode Kernel Header"] */
export const SETUP_HEADER_START = 0x1f1;
const SETUP_SECTS = 0x1f1;
const BOOT_FLAG = 0x1fe;
const JUMP_LENGTH = 0x201;
const HEADER = 0x202;
const VERSION = 0x206;
const LOADFLAGS = 0x211;
const INITRD_ADDR_MAX = 0x22c;
const XLOADFLAGS = 0x236;
const CMDLINE_SIZE = 0x238;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const PREF_ADDRESS = 0x258;
const INIT_SIZE = 0x260;

const HDRS = 0x53726448; // "HdrS"
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
/** The 64-bit entry lies so far into the self-extracting part; the 32-bit one is its begin. */
const ENTRY64_OFFSET = 0x200;
/** payload_offset came with 2.08. */
const MIN_VERSION = 0x0208;
const SECTOR_BYTES = 512;

/** Largest kernel that a payload may become, in bytes. */
const KERNEL_LIMIT = 512 * 1024 * 1024;

export interface BzImage {
  /** Boot protocol version as in the header: 0x020f is 2.15. */
  readonly version: number;
  /** The header's bytes from 0x1f1 to its end, to be copied into boot_params at the same offset. */
  readonly setupHeader: Uint8Array;
  /** Most bytes of the command line, without its NUL. */
  readonly commandLineLimit: number;
  /** Highest address that a byte of the initrd may have. */
  readonly initrdAddressMax: number;
  /** Whether it has a 64-bit entry point. */
  readonly has64: boolean;
  /** The self-extracting part. */
  readonly protectedMode: Uint8Array;
  /** Where the self-extracting part is best loaded, and the memory it needs from there on, in bytes. */
  readonly preferredAddress: number;
  readonly initBytes: number;
  /** The compressed kernel, as the build made it; empty where the header names none. */
  readonly payload: Uint8Array;
}

export type Decompress = (bytes: Uint8Array, limit: number) => Promise<Uint8Array>;

export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < HEADER + 4) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint16(BOOT_FLAG, true) === 0xaa55 && view.getUint32(HEADER, true) === HDRS;
}

/** Parses the setup header. All arrays are views. @throws IsolaError `kernel-invalid`, `kernel-truncated` */
export function readBzImage(bytes: Uint8Array): BzImage {
  if (!isBzImage(bytes)) throw invalidKernel("the file is no bzImage");
  if (bytes.length < INIT_SIZE + 4) throw truncatedKernel("its setup header", bytes.length, INIT_SIZE + 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(VERSION, true);
  const shown = `${version >>> 8}.${String(version & 0xff).padStart(2, "0")}`;
  if (version < MIN_VERSION) throw invalidKernel(`its boot protocol is ${shown}`, "wanted 2.08 or later");
  if (((bytes[LOADFLAGS] ?? 0) & LOADED_HIGH) === 0) throw invalidKernel("it is a zImage, which loads low");
  // Zero means four, for kernels older than any that passes here.
  const setupSectors = bytes[SETUP_SECTS] ?? 0;
  const setupBytes = ((setupSectors === 0 ? 4 : setupSectors) + 1) * SECTOR_BYTES;
  if (setupBytes >= bytes.length) throw truncatedKernel("its setup code", bytes.length, setupBytes + 1);
  const protectedMode = bytes.subarray(setupBytes);
  const payloadOffset = view.getUint32(PAYLOAD_OFFSET, true);
  const payloadLength = view.getUint32(PAYLOAD_LENGTH, true);
  const payloadEnd = payloadOffset + payloadLength;
  if (payloadLength > 0 && payloadLength < 8) throw invalidKernel(`its payload has ${payloadLength} bytes`);
  if (payloadEnd > protectedMode.length) {
    throw truncatedKernel("its payload", bytes.length, setupBytes + payloadEnd);
  }
  // The header ends where the jump at its begin leads. [boot.rst, "Loading The Rest of The Kernel"]
  const headerEnd = Math.min(0x202 + (bytes[JUMP_LENGTH] ?? 0), 0x290, setupBytes);
  return {
    version,
    setupHeader: bytes.subarray(SETUP_HEADER_START, Math.max(headerEnd, SETUP_HEADER_START)),
    commandLineLimit: view.getUint32(CMDLINE_SIZE, true) || 255,
    initrdAddressMax: view.getUint32(INITRD_ADDR_MAX, true),
    has64: version >= 0x020c && (view.getUint16(XLOADFLAGS, true) & XLF_KERNEL_64) !== 0,
    protectedMode,
    preferredAddress: Number(view.getBigUint64(PREF_ADDRESS, true)),
    initBytes: view.getUint32(INIT_SIZE, true),
    payload: protectedMode.subarray(payloadOffset, payloadEnd),
  };
}

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** Extracts the kernel's ELF. @throws IsolaError `kernel-invalid`, and the decompressor's */
export async function extractVmlinux(image: BzImage, decompress: Decompress): Promise<Uint8Array> {
  const { payload } = image;
  // The build ends every payload by the size of the kernel; in gzip alone that word is part of the format.
  const end = payload.length - 4;
  const size = new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(end, true);
  if (size > KERNEL_LIMIT) throw invalidKernel(`its payload claims ${size} bytes`, `wanted at most ${KERNEL_LIMIT}`);
  const elf = await decompress(isGzip(payload) ? payload : payload.subarray(0, end), size);
  if (elf.length !== size) throw truncatedKernel("its payload once decompressed", elf.length, size);
  if (!isElf(elf)) throw invalidKernel("its payload is no ELF, so it is no Linux kernel");
  return elf;
}

/** The self-extracting part as one segment, for a program without a payload. [boot.rst, "32-bit Boot Protocol"] */
export function wholeImage(image: BzImage): ElfFile {
  const { preferredAddress, protectedMode, initBytes, has64 } = image;
  return {
    bits: has64 ? 64 : 32,
    entry: preferredAddress + (has64 ? ENTRY64_OFFSET : 0),
    segments: [
      {
        physical: preferredAddress,
        virtual: preferredAddress,
        contents: protectedMode,
        memoryBytes: Math.max(initBytes, protectedMode.length),
      },
    ],
    notes: [],
  };
}

/** What a kernel's file holds; at least one of the two is there. */
export interface UnpackedKernel {
  /** The kernel as an ELF, or a flat binary with a Multiboot header; absent in a bzImage without payload. */
  readonly elf?: Uint8Array;
  /** The bzImage that it came in, where it did. */
  readonly image?: BzImage;
}

/**
 * Takes a kernel as users have it, a bzImage, an ELF or a Multiboot binary, gzipped or not, and opens it.
 * @throws IsolaError `kernel-invalid`, `kernel-truncated`, and the decompressor's
 */
export async function unpackKernel(file: Uint8Array, decompress: Decompress): Promise<UnpackedKernel> {
  // Boot loaders open gzipped kernels on their own, so distributions ship them so.
  const bytes = isGzip(file) ? await decompress(file, KERNEL_LIMIT) : file;
  if (isElf(bytes)) return { elf: bytes };
  if (isBzImage(bytes)) {
    const image = readBzImage(bytes);
    return image.payload.length === 0 ? { image } : { elf: await extractVmlinux(image, decompress), image };
  }
  if (findMultibootHeader(bytes) !== undefined) return { elf: bytes };
  // An arm64 kernel image has its magic at 56; the commonest mix-up deserves its own words.
  const arm64 = bytes.length >= 60 && new TextDecoder("latin1").decode(bytes.subarray(56, 60)) === "ARMd";
  if (arm64) {
    throw new IsolaError({
      code: "kernel-other-architecture",
      message: "loading the kernel: it is an image for AArch64; wanted one for x86",
    });
  }
  throw invalidKernel(bytes.length === 0 ? "the file is empty" : "the file is neither bzImage, ELF nor Multiboot");
}
