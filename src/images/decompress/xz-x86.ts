/**
 * xz files with the x86 branch filter, as Linux builds its kernels; the library that decodes xz lacks the filter.
 * [The .xz File Format 1.2.0 §2-§5]
 *
 * Each block is put into an xz file of its own that names LZMA2 only, for the library to decode; the filter is then
 * undone here, and the block's check verified. Input is hostile: every number is checked before it is used.
 */

import { crc32 } from "node:zlib";
import { IsolaError } from "../../base/errors.ts";

const STREAM_HEADER_BYTES = 12;
const STREAM_FOOTER_BYTES = 12;
const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const FOOTER_MAGIC = [0x59, 0x5a];
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;

/** Decodes a whole xz file of at most `limit` bytes. */
export type DecodeXz = (bytes: Uint8Array, limit: number) => Promise<Uint8Array>;

function damaged(what: string): IsolaError {
  return new IsolaError({
    code: "decompress-damaged",
    message: `decompressing xz: ${what}; the file is damaged or truncated`,
  });
}

function unsupported(what: string): IsolaError {
  return new IsolaError({
    code: "decompress-unsupported",
    message: `decompressing xz: ${what} is not supported; recompress it with "xz --check=crc32"`,
  });
}

function align4(value: number): number {
  return Math.ceil(value / 4) * 4;
}

/** A cursor over numbers of 7 bits a byte, least significant first. [§1.2] */
class Fields {
  at = 0;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw damaged("a header is cut off");
    return value;
  }

  number(): number {
    let value = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw damaged("an absurd number");
        return value;
      }
    }
    throw damaged("a number without an end");
  }
}

function encodeNumber(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 0x80);
  }
}

function u32(value: number): number[] {
  return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
}

/** Bytes padded to a multiple of four, and their CRC32: how headers and the index end. */
function sealed(bytes: readonly number[]): number[] {
  const padded = [...bytes, ...new Array<number>(align4(bytes.length) - bytes.length).fill(0)];
  return [...padded, ...u32(crc32(Uint8Array.from(padded)))];
}

interface BlockHeader {
  readonly bytes: number;
  readonly filters: readonly { readonly id: number; readonly properties: Uint8Array }[];
}

/** [§3.1] */
function readBlockHeader(bytes: Uint8Array): BlockHeader {
  const size = ((bytes[0] ?? 0) + 1) * 4;
  if (bytes.length < size || size < 8) throw damaged("a block header is cut off");
  const view = new DataView(bytes.buffer, bytes.byteOffset, size);
  if (crc32(bytes.subarray(0, size - 4)) !== view.getUint32(size - 4, true)) throw damaged("a block header's checksum");
  const fields = new Fields(bytes.subarray(1, size - 4));
  const flags = fields.byte();
  if ((flags & 0x40) !== 0) fields.number();
  if ((flags & 0x80) !== 0) fields.number();
  const filters = Array.from({ length: (flags & 3) + 1 }, () => {
    const id = fields.number();
    const length = fields.number();
    const properties = fields.bytes.subarray(fields.at, fields.at + length);
    fields.at += length;
    return { id, properties };
  });
  return { bytes: size, filters };
}

/** Whether the first block uses the x86 filter; false for anything that is not whole enough to tell. */
export function usesX86Filter(bytes: Uint8Array): boolean {
  try {
    return readBlockHeader(bytes.subarray(STREAM_HEADER_BYTES)).filters[0]?.id === FILTER_X86;
  } catch {
    return false;
  }
}

interface BlockRecord {
  /** Header, data and check, in bytes, without the padding between. */
  readonly unpaddedBytes: number;
  readonly uncompressedBytes: number;
}

/** The index, found through the footer at the end of the file. [§2.1.2, §4] */
function readIndex(bytes: Uint8Array): { check: number; records: BlockRecord[] } {
  const footerAt = bytes.length - STREAM_FOOTER_BYTES;
  if (footerAt < STREAM_HEADER_BYTES) throw damaged("the footer is missing");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!FOOTER_MAGIC.every((byte, i) => bytes[footerAt + 10 + i] === byte)) throw damaged("the footer is missing");
  const indexAt = footerAt - (view.getUint32(footerAt + 4, true) + 1) * 4;
  if (indexAt < STREAM_HEADER_BYTES) throw damaged("the index is cut off");
  if (crc32(bytes.subarray(indexAt, footerAt - 4)) !== view.getUint32(footerAt - 4, true)) {
    throw damaged("the index's checksum");
  }
  const fields = new Fields(bytes.subarray(indexAt, footerAt - 4));
  if (fields.byte() !== 0) throw damaged("the index");
  const count = fields.number();
  const records: BlockRecord[] = [];
  // A record has two bytes at least, so the cursor's end bounds a forged count.
  for (let i = 0; i < count; i++) records.push({ unpaddedBytes: fields.number(), uncompressedBytes: fields.number() });
  return { check: bytes[7] ?? 0, records };
}

/** An xz file of one LZMA2 block around `data`, without a check. */
function wrap(data: Uint8Array, dictionary: number, uncompressedBytes: number): Uint8Array {
  const flags = [0, CHECK_NONE];
  const streamHeader = [...HEADER_MAGIC, ...sealedFlags(flags)];
  // The first byte gives the header's size in words, less one: 12 bytes in all.
  const blockHeader = sealed([2, 0, FILTER_LZMA2, 1, dictionary]);
  const unpadded = blockHeader.length + data.length;
  const index = sealed([0, 1, ...encodeNumber(unpadded), ...encodeNumber(uncompressedBytes)]);
  const backward = [...u32(index.length / 4 - 1), ...flags];
  const footer = [...u32(crc32(Uint8Array.from(backward))), ...backward, ...FOOTER_MAGIC];
  const head = [...streamHeader, ...blockHeader];
  const file = new Uint8Array(head.length + align4(data.length) + index.length + footer.length);
  file.set(head);
  file.set(data, head.length);
  file.set([...index, ...footer], head.length + align4(data.length));
  return file;
}

function sealedFlags(flags: readonly number[]): number[] {
  return [...flags, ...u32(crc32(Uint8Array.from(flags)))];
}

/** Whether a byte may be the upper one of a near branch's distance: all zeros or all ones. */
function isExtreme(byte: number): boolean {
  return byte === 0x00 || byte === 0xff;
}

/**
 * Turns the absolute targets of E8 (CALL) and E9 (JMP) back into distances, in place. [§5.3.2]
 * The encoder leaves an opcode alone where bytes shortly before it looked like opcodes too, since then this one may be
 * part of an operand. `recent` has a bit for each of the last three bytes that did, the nearest lowest; bit n also says
 * that the byte 4 - n after this opcode lies in that candidate's operand.
 */
export function undoX86Filter(bytes: Uint8Array): void {
  let recent = 0;
  let last = -1;
  for (let at = 0; at + 5 <= bytes.length; at++) {
    const opcode = bytes[at] ?? 0;
    if ((opcode & 0xfe) !== 0xe8) continue;
    const gap = at - last;
    recent = gap > 3 ? 0 : (recent << (gap - 1)) & 7;
    last = at;
    // The highest candidate decides which byte of the distance the two share.
    const shared = recent === 0 ? 0 : 32 - Math.clz32(recent);
    const blocked = recent !== 0 && (recent === 3 || recent > 4 || isExtreme(bytes[at + 4 - shared] ?? 0));
    if (blocked || !isExtreme(bytes[at + 4] ?? 0)) {
      recent = ((recent << 1) & 7) | 1;
      continue;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset + at + 1, 4);
    let target = view.getInt32(0, true);
    let distance: number;
    for (;;) {
      distance = (target - (at + 5)) | 0;
      if (shared === 0) break;
      const bit = shared * 8;
      // A shared byte that came out extreme would stop the decoder there, so the encoder has gone round once more.
      if (!isExtreme((distance >>> (24 - bit)) & 0xff)) break;
      target = distance ^ (2 ** (32 - bit) - 1);
    }
    // The distance has 25 bits; the upper byte is its sign.
    view.setInt32(0, (distance << 7) >> 7, true);
    at += 4;
  }
}

/**
 * Decodes an xz file whose blocks use the x86 filter before LZMA2. The file must be one stream.
 * @throws IsolaError `decompress-damaged`, `decompress-unsupported`, and those of `decode`
 */
export async function decompressX86Xz(bytes: Uint8Array, limit: number, decode: DecodeXz): Promise<Uint8Array> {
  const { check, records } = readIndex(bytes);
  if (check !== CHECK_NONE && check !== CHECK_CRC32) throw unsupported(`the x86 filter with check ${check}`);
  const checkBytes = check === CHECK_CRC32 ? 4 : 0;
  const total = records.reduce((sum, { uncompressedBytes }) => sum + uncompressedBytes, 0);
  if (total > limit) {
    throw new IsolaError({
      code: "decompress-too-large",
      message: `decompressing xz: the data has ${total} bytes, more than the ${limit} allowed`,
    });
  }
  const parts: Uint8Array[] = [];
  let at = STREAM_HEADER_BYTES;
  for (const { unpaddedBytes, uncompressedBytes } of records) {
    const header = readBlockHeader(bytes.subarray(at));
    const [first, second, ...others] = header.filters;
    if (first?.id !== FILTER_X86 || second?.id !== FILTER_LZMA2 || others.length > 0 || first.properties.length > 0) {
      throw unsupported("its chain of filters");
    }
    const dataBytes = unpaddedBytes - header.bytes - checkBytes;
    const checkAt = at + header.bytes + align4(dataBytes);
    if (dataBytes <= 0 || checkAt + checkBytes > bytes.length) throw damaged("a block is cut off");
    const data = bytes.subarray(at + header.bytes, at + header.bytes + dataBytes);
    const part = await decode(wrap(data, second.properties[0] ?? 0xff, uncompressedBytes), uncompressedBytes);
    undoX86Filter(part);
    if (checkBytes > 0) {
      const wanted = new DataView(bytes.buffer, bytes.byteOffset + checkAt, 4).getUint32(0, true);
      if (crc32(part) !== wanted) throw damaged("a block's checksum");
    }
    parts.push(part);
    at = checkAt + checkBytes;
  }
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}
