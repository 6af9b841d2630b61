/**
 * LZ4 decompression: the legacy frame that `lz4 -l` and the Linux build write, and the current frame.
 * Modelled: LZ4 Block Format 1.2.6 and LZ4 Frame Format 1.6.3 (checksums are skipped, dictionaries refused).
 * Pure: no host calls, so a browser can use it. Input is hostile; output never grows beyond the limit given.
 */

import { IsolaError } from "../../base/errors.ts";

export const LZ4_LEGACY_MAGIC = 0x184c2102;
export const LZ4_FRAME_MAGIC = 0x184d2204;

/** A legacy block holds at most 8 MiB once decompressed; only the last one may hold less. */
const LEGACY_BLOCK_BYTES = 8 * 1024 * 1024;
const MIN_MATCH = 4;

/** Output that doubles as needed, up to a limit; a forged size can so not take memory before data backs it. */
class Output {
  bytes: Uint8Array;
  length = 0;
  readonly limit: number;

  constructor(limit: number, expected: number) {
    this.limit = limit;
    this.bytes = new Uint8Array(Math.min(limit, Math.max(expected, 1024)));
  }

  reserve(count: number): void {
    const wanted = this.length + count;
    if (wanted <= this.bytes.length) return;
    if (wanted > this.limit) {
      throw new IsolaError({
        code: "decompress-too-large",
        message: `decompressing LZ4: the data is larger than the ${this.limit} bytes allowed`,
      });
    }
    const grown = new Uint8Array(Math.min(this.limit, Math.max(wanted, this.bytes.length * 2)));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  done(): Uint8Array {
    return this.bytes.length === this.length ? this.bytes : this.bytes.slice(0, this.length);
  }
}

function damaged(what: string, offset: number): IsolaError {
  return new IsolaError({
    code: "decompress-damaged",
    message: `decompressing LZ4: ${what} at byte ${offset}; the file is damaged or truncated`,
  });
}

/** Decodes one block of `input` from `start` to `end` onto `output`. Matches reach back to `window`, not before it. */
function decodeBlock(input: Uint8Array, start: number, end: number, output: Output, window: number): void {
  let at = start;

  /** The rest of a length whose nibble was 15: bytes are added up to the first that is not 255. */
  const extended = (nibble: number): number => {
    if (nibble !== 15) return nibble;
    let length = 15;
    for (;;) {
      if (at >= end) throw damaged("a length without an end", at);
      const byte = input[at++] ?? 0;
      length += byte;
      if (byte !== 255) return length;
    }
  };

  while (at < end) {
    const token = input[at++] ?? 0;
    const literals = extended(token >>> 4);
    if (literals > end - at) throw damaged("literals past the block", at);
    output.reserve(literals);
    if (literals > 32) output.bytes.set(input.subarray(at, at + literals), output.length);
    else for (let i = 0; i < literals; i++) output.bytes[output.length + i] = input[at + i] ?? 0;
    output.length += literals;
    at += literals;
    // The last sequence of a block has literals only.
    if (at === end) return;
    if (end - at < 2) throw damaged("half a match offset", at);
    const distance = (input[at] ?? 0) | ((input[at + 1] ?? 0) << 8);
    at += 2;
    if (distance === 0 || distance > output.length - window) throw damaged(`a match ${distance} bytes back`, at - 2);
    const match = extended(token & 15) + MIN_MATCH;
    output.reserve(match);
    const { bytes } = output;
    const from = output.length - distance;
    if (distance >= match) {
      if (match > 32) bytes.copyWithin(output.length, from, from + match);
      else for (let i = 0; i < match; i++) bytes[output.length + i] = bytes[from + i] ?? 0;
    } else {
      // Source and destination overlap: the copy repeats what it has just written, so it must go byte by byte.
      for (let i = 0; i < match; i++) bytes[output.length + i] = bytes[from + i] ?? 0;
    }
    output.length += match;
  }
}

function readU32(input: Uint8Array, at: number): number {
  if (at + 4 > input.length) throw damaged("half a size word", at);
  return new DataView(input.buffer, input.byteOffset, input.byteLength).getUint32(at, true);
}

/**
 * Decompresses a legacy frame, or several one after the other. The frame has no end mark: input must end with it.
 * @param limit most bytes to give; @throws IsolaError `decompress-damaged`, `decompress-too-large`
 */
export function decompressLz4Legacy(input: Uint8Array, limit: number, expected = input.length * 3): Uint8Array {
  const output = new Output(limit, expected);
  if (readU32(input, 0) !== LZ4_LEGACY_MAGIC) throw damaged("no legacy frame magic", 0);
  let at = 4;
  while (at < input.length) {
    const size = readU32(input, at);
    at += 4;
    // A block cannot be that long, so a magic number in place of a size starts another frame.
    if (size === LZ4_LEGACY_MAGIC) continue;
    if (size > input.length - at) throw damaged(`a block of ${size} bytes where ${input.length - at} are left`, at - 4);
    const window = output.length;
    decodeBlock(input, at, at + size, output, window);
    if (output.length - window > LEGACY_BLOCK_BYTES) throw damaged("a block of more than 8 MiB", at - 4);
    at += size;
  }
  return output.done();
}

/** Header of a current frame: what of it decoding needs. */
function frameHeader(input: Uint8Array, start: number) {
  const flags = input[start + 4] ?? 0;
  if (start + 7 > input.length || flags >>> 6 !== 1) throw damaged("no frame descriptor of version 1", start + 4);
  if (flags & 0x01) {
    throw new IsolaError({
      code: "decompress-unsupported",
      message: "decompressing LZ4: the frame needs a dictionary, which is not supported; compress it without one",
    });
  }
  const end = start + 4 + 2 + (flags & 0x08 ? 8 : 0) + 1;
  return { end, independent: (flags & 0x20) !== 0, blockChecksums: (flags & 0x10) !== 0, checksum: (flags & 4) !== 0 };
}

/** Decompresses a current frame, or several one after the other. Limits and errors as `decompressLz4Legacy`. */
export function decompressLz4Frame(input: Uint8Array, limit: number): Uint8Array {
  const output = new Output(limit, input.length * 3);
  let at = 0;
  while (at < input.length) {
    if (readU32(input, at) !== LZ4_FRAME_MAGIC) throw damaged("no frame magic", at);
    const header = frameHeader(input, at);
    const frameStart = output.length;
    at = header.end;
    for (;;) {
      const word = readU32(input, at);
      at += 4;
      if (word === 0) break;
      const size = word & 0x7fffffff;
      if (size > input.length - at) throw damaged(`a block of ${size} bytes where ${input.length - at} are left`, at);
      if (word >>> 31) {
        output.reserve(size);
        output.bytes.set(input.subarray(at, at + size), output.length);
        output.length += size;
      } else {
        decodeBlock(input, at, at + size, output, header.independent ? output.length : frameStart);
      }
      at += size + (header.blockChecksums ? 4 : 0);
    }
    if (header.checksum) {
      readU32(input, at);
      at += 4;
    }
  }
  return output.done();
}
