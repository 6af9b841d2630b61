/**
 * The `newc` cpio archive that Linux takes as an initramfs: writer, and a reader for tests and tools.
 * [Linux Documentation/driver-api/early-userspace/buffer-format.rst]
 * The writer is deterministic: inode numbers count up, times and owners are zero.
 */

import { IsolaError } from "../base/errors.ts";

const MAGIC = "070701";
const HEADER_BYTES = 110;
const TRAILER = "TRAILER!!!";
/** Linux pads an initramfs to 512 bytes, as cpio does. */
const ARCHIVE_BLOCK = 512;

const S_IFMT = 0o170000;
const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character: 0o020000, block: 0o060000 };

export type CpioType = keyof typeof TYPE_BITS;

export interface CpioEntry {
  /** Relative, without a leading slash. */
  readonly path: string;
  readonly type: CpioType;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  /** Contents of a file, or a link's target. */
  readonly bytes: Uint8Array;
  /** Device number of a node. */
  readonly major: number;
  readonly minor: number;
}

const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

export class CpioWriter {
  readonly #entries = new Map<string, CpioEntry>();

  #add(entry: CpioEntry): this {
    const slash = entry.path.lastIndexOf("/");
    // Linux does not make missing parents, so the writer does.
    if (slash > 0) this.#parents(entry.path.slice(0, slash));
    this.#entries.set(entry.path, entry);
    return this;
  }

  #parents(path: string): void {
    if (!this.#entries.has(path)) this.directory(path);
  }

  file(path: string, contents: Uint8Array | string, mode = 0o644): this {
    const bytes = typeof contents === "string" ? encoder.encode(contents) : contents;
    return this.#add({ path, type: "file", mode, bytes, major: 0, minor: 0 });
  }

  directory(path: string, mode = 0o755): this {
    return this.#add({ path, type: "directory", mode, bytes: NOTHING, major: 0, minor: 0 });
  }

  symlink(path: string, target: string): this {
    return this.#add({ path, type: "symlink", mode: 0o777, bytes: encoder.encode(target), major: 0, minor: 0 });
  }

  /** A device node; no root is needed to write one into an archive. */
  node(path: string, type: "character" | "block", major: number, minor: number, mode = 0o600): this {
    return this.#add({ path, type, mode, bytes: NOTHING, major, minor });
  }

  /** The archive, in the order of the calls, parents before children. */
  finish(): Uint8Array {
    const trailer: CpioEntry = { path: TRAILER, type: "file", mode: 0, bytes: NOTHING, major: 0, minor: 0 };
    const entries = [...this.#entries.values(), trailer];
    let size = 0;
    for (const { path, bytes } of entries) {
      size += align(HEADER_BYTES + encoder.encode(path).length + 1, 4) + align(bytes.length, 4);
    }
    const archive = new Uint8Array(align(size, ARCHIVE_BLOCK));
    let at = 0;
    entries.forEach((entry, index) => {
      const name = encoder.encode(entry.path);
      const last = index === entries.length - 1;
      const mode = last ? 0 : TYPE_BITS[entry.type] | entry.mode;
      const links = entry.type === "directory" ? 2 : 1;
      // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
      const fields = [last ? 0 : index + 1, mode, 0, 0, links, 0, entry.bytes.length, 0, 0, entry.major, entry.minor];
      const header = [...fields, name.length + 1, 0].map((field) => field.toString(16).padStart(8, "0")).join("");
      archive.set(encoder.encode(MAGIC + header), at);
      archive.set(name, at + HEADER_BYTES);
      at = align(at + HEADER_BYTES + name.length + 1, 4);
      archive.set(entry.bytes, at);
      at = align(at + entry.bytes.length, 4);
    });
    return archive;
  }
}

function damaged(what: string, offset: number): IsolaError {
  return new IsolaError({ code: "cpio-damaged", message: `reading cpio archive: ${what} at byte ${offset}` });
}

/** Entries of one archive, up to its trailer. @throws IsolaError `cpio-damaged` */
export function readCpio(archive: Uint8Array): CpioEntry[] {
  const latin = new TextDecoder("latin1");
  const entries: CpioEntry[] = [];
  let at = 0;
  for (;;) {
    const start = at;
    const header = latin.decode(archive.subarray(start, start + HEADER_BYTES));
    if (!header.startsWith(MAGIC) || !/^[0-9a-fA-F]{110}$/.test(header)) throw damaged("no newc header", start);
    const field = (index: number) => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const nameBytes = field(11);
    const fileBytes = field(6);
    const dataAt = align(start + HEADER_BYTES + nameBytes, 4);
    if (nameBytes < 1 || dataAt + fileBytes > archive.length) throw damaged("an entry past the end", start);
    const path = new TextDecoder().decode(archive.subarray(start + HEADER_BYTES, start + HEADER_BYTES + nameBytes - 1));
    if (path === TRAILER) return entries;
    const bits = field(1) & S_IFMT;
    const type = (Object.keys(TYPE_BITS) as CpioType[]).find((name) => TYPE_BITS[name] === bits);
    if (type === undefined) throw damaged(`an entry of mode 0o${field(1).toString(8)}`, start);
    entries.push({
      path,
      type,
      mode: field(1) & 0o7777,
      bytes: archive.subarray(dataAt, dataAt + fileBytes),
      major: field(9),
      minor: field(10),
    });
    at = align(dataAt + fileBytes, 4);
  }
}
