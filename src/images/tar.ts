/**
 * Reader of tar archives as a stream: ustar, with GNU's long names and pax paths. [POSIX.1-2017 pax; GNU tar manual]
 * Only the data of wanted entries is kept, so an archive of any size passes through in little memory.
 * Input is hostile: checksums, sizes and names are checked. Nothing is ever written to the host's file system here.
 */

import { IsolaError } from "../base/errors.ts";

const BLOCK_BYTES = 512;
/** Long names and pax headers are small; more than this is an attack. */
const EXTENSION_LIMIT = 64 * 1024;

export type TarType = "file" | "directory" | "symlink" | "hardlink" | "other";

export interface TarHeader {
  /** Path without leading `./` or `/`, without a trailing slash, and without `..` components. */
  readonly path: string;
  readonly type: TarType;
  readonly mode: number;
  /** Data size in bytes. */
  readonly size: number;
  /** Target of a link; empty for anything else. */
  readonly linkPath: string;
}

export interface TarEntry extends TarHeader {
  readonly bytes: Uint8Array;
}

function damaged(what: string, offset: number): IsolaError {
  return new IsolaError({
    code: "tar-damaged",
    message: `reading tar archive: ${what} at byte ${offset}; the archive is damaged or truncated`,
  });
}

/** Pulls exact amounts out of a stream of chunks of any size. */
class ByteReader {
  offset = 0;
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async #fill(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      this.#chunk = next.value;
    }
    return true;
  }

  /** Hands `count` bytes to `take` in pieces; throws where the stream ends before. */
  async pull(count: number, take: (piece: Uint8Array) => void): Promise<void> {
    let left = count;
    while (left > 0) {
      if (!(await this.#fill())) throw damaged("the end", this.offset);
      const piece = this.#chunk.subarray(0, left);
      this.#chunk = this.#chunk.subarray(piece.length);
      left -= piece.length;
      this.offset += piece.length;
      take(piece);
    }
  }

  /** Memory is taken as data arrives, so a forged size costs nothing. */
  async read(count: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    await this.pull(count, (piece) => pieces.push(piece));
    const whole = new Uint8Array(count);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /** The next block, or undefined at a clean end of the stream. */
  async block(): Promise<Uint8Array | undefined> {
    return (await this.#fill()) ? this.read(BLOCK_BYTES) : undefined;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

const decoder = new TextDecoder();

function text(block: Uint8Array, from: number, length: number): string {
  const field = block.subarray(from, from + length);
  const end = field.indexOf(0);
  return decoder.decode(end < 0 ? field : field.subarray(0, end));
}

/** An octal field, or GNU's base-256 form for sizes of 8 GiB and more. */
function number(block: Uint8Array, from: number, length: number, offset: number): number {
  if (((block[from] ?? 0) & 0x80) !== 0) {
    let value = (block[from] ?? 0) & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + (block[from + i] ?? 0);
    if (!Number.isSafeInteger(value)) throw damaged("an absurd number", offset);
    return value;
  }
  const digits = text(block, from, length).trim();
  if (digits === "") return 0;
  if (!/^[0-7]+$/.test(digits)) throw damaged("a number that is not octal", offset);
  return Number.parseInt(digits, 8);
}

function checkSum(block: Uint8Array, offset: number): void {
  // The checksum field itself counts as eight spaces.
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
  if (number(block, 148, 8, offset) !== sum) throw damaged("a header with a wrong checksum", offset);
}

/** Makes a path relative and plain; one that would climb out of the archive is refused. */
function cleanPath(path: string, offset: number): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw damaged(`a path with ".."`, offset);
  return parts.join("/");
}

const TYPES: Readonly<Record<string, TarType>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "5": "directory",
  "2": "symlink",
  "1": "hardlink",
};

/** Records `length key=value\n` of a pax header. */
function paxRecords(bytes: Uint8Array, offset: number): Map<string, string> {
  const records = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(decoder.decode(bytes.subarray(at, space)));
    if (!Number.isInteger(length) || length <= space - at || at + length > bytes.length) {
      throw damaged("a pax record of a wrong length", offset);
    }
    const [key = "", ...rest] = decoder.decode(bytes.subarray(space + 1, at + length - 1)).split("=");
    records.set(key, rest.join("="));
    at += length;
  }
  return records;
}

/**
 * Entries of the archive for which `wanted` says yes, in order, with their data.
 * @throws IsolaError `tar-damaged`
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  wanted: (header: TarHeader) => boolean = () => true,
): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(source);
  try {
    let longPath: string | undefined;
    let longLink: string | undefined;
    let longSize: number | undefined;
    for (;;) {
      const offset = reader.offset;
      const block = await reader.block();
      // Two zero blocks end an archive; its writer may also just stop.
      if (block === undefined || block.every((byte) => byte === 0)) return;
      checkSum(block, offset);
      const flag = String.fromCharCode(block[156] ?? 0);
      const ownSize = number(block, 124, 12, offset);
      const padding = (size: number) => (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
      if (flag === "L" || flag === "K" || flag === "x" || flag === "g") {
        if (ownSize > EXTENSION_LIMIT) throw damaged(`an extension header of ${ownSize} bytes`, offset);
        const data = await reader.read(ownSize);
        await reader.pull(padding(ownSize), () => undefined);
        if (flag === "L") longPath = text(data, 0, ownSize);
        if (flag === "K") longLink = text(data, 0, ownSize);
        if (flag === "x") {
          const records = paxRecords(data, offset);
          longPath = records.get("path") ?? longPath;
          longLink = records.get("linkpath") ?? longLink;
          const size = records.get("size");
          if (size !== undefined) longSize = Number(size);
        }
        continue;
      }
      const prefix = text(block, 257, 5) === "ustar" && block[262] === 0 ? text(block, 345, 155) : "";
      const type = TYPES[flag] ?? "other";
      const size = longSize ?? ownSize;
      if (!Number.isSafeInteger(size) || size < 0) throw damaged("an absurd size", offset);
      const header: TarHeader = {
        path: cleanPath(longPath ?? (prefix === "" ? "" : `${prefix}/`) + text(block, 0, 100), offset),
        type,
        mode: number(block, 100, 8, offset) & 0o7777,
        // Links and directories have no data, whatever their size field says.
        size: type === "file" || type === "other" ? size : 0,
        linkPath: longLink ?? text(block, 157, 100),
      };
      longPath = longLink = longSize = undefined;
      if (wanted(header)) {
        const bytes = await reader.read(header.size);
        await reader.pull(padding(header.size), () => undefined);
        yield { ...header, bytes };
      } else {
        await reader.pull(header.size + padding(header.size), () => undefined);
      }
    }
  } finally {
    await reader.close();
  }
}
