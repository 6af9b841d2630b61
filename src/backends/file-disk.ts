/**
 * A disk in a raw file: byte n of the file is byte n of the disk. The file is sparse: what the guest never wrote takes
 * no space on the host. It never grows beyond the size it was made with.
 */

import { fdatasync, fstatSync, readv, writev } from "node:fs";
import { type FileHandle, open, realpath, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { IsolaError } from "../base/errors.ts";
import { type BlockBackend, type DiskInfo, SECTOR_BYTES } from "../devices/virtio/virtio-blk.ts";
import { type DiskLock, lockDisk } from "./disk-lock.ts";
import { type DiskLimits, Throttle } from "./throttle.ts";

export interface DiskOptions {
  readonly path: string;
  /** Of a new file, a multiple of 512; a file that is there must have it. Without it the file must be there. */
  readonly sizeBytes?: number;
  /** The largest size that may be made. */
  readonly quotaBytes?: number;
  readonly readOnly?: boolean;
  /** The file's bytes are the disk's, even where they look like another format. */
  readonly raw?: boolean;
  /** The VM's name, for whoever finds the disk locked. */
  readonly holder?: string;
  /** What the guest gets of the host's bandwidth. */
  readonly limits?: DiskLimits;
}

/** Formats that begin with a magic number: a person who gives one does not mean its bytes as they are. */
const FORMATS: readonly (readonly [name: string, magic: string])[] = [
  ["qcow2", "QFI\xfb"],
  ["VMDK", "KDMV"],
  ["VHDX", "vhdxfile"],
  ["VDI", "<<< "],
];
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  ENOTDIR: "a part of the path is no directory",
  EISDIR: "it is a directory",
  ENOSPC: "the host's file system is full",
  EDQUOT: "the host's disk quota is used up",
  EFBIG: "the host's file system does not hold files that large",
  EIO: "the host's medium failed",
};
const readVector = promisify(readv);
const writeVector = promisify(writev);
const syncData = promisify(fdatasync);

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "";
const reasonOf = (error: unknown): string => REASONS[codeOf(error)] ?? String(error);

const refusal = (code: string, path: string, found: string, wanted: string, cause?: unknown): IsolaError =>
  new IsolaError({ code, message: `cannot open the disk ${path}: ${found}; wanted: ${wanted}`, cause });

/** The path that every name of the file leads to, so that all of them lead to one lock. The file may not be there yet. */
async function resolved(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
    return join(await realpath(dirname(path)), basename(path));
  }
}

/**
 * Opens a disk, made first where `sizeBytes` is given and there is no file, and locks it.
 * @throws IsolaError `disk-locked`, `disk-missing`, `disk-size`, `disk-quota`, `disk-format`, `disk-unusable`
 */
export async function openFileDisk(options: DiskOptions): Promise<FileDisk> {
  const { path, readOnly = false, raw = false, holder = "" } = options;
  try {
    const place = await resolved(path);
    const there = await stat(place).catch((error: unknown) => {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    });
    if (there?.isFile() === false) throw refusal("disk-unusable", path, "it is no regular file", "a raw image");
    if (there !== undefined && !raw) await requireRaw(place, path);
    checkSize(options, there?.size);
    const lock = await lockFor(place, readOnly, holder);
    try {
      const file =
        there === undefined ? await create(place, options.sizeBytes ?? 0) : await open(place, readOnly ? "r" : "r+");
      const { size } = await file.stat();
      return new FileDisk(file, lock, options, { sectors: size / SECTOR_BYTES, readOnly, serial: serialOf(path) });
    } catch (error) {
      await lock?.release();
      throw error;
    }
  } catch (error) {
    if (error instanceof IsolaError) throw error;
    throw refusal("disk-unusable", path, reasonOf(error), "a raw image that can be opened", error);
  }
}

/** `found`: the size of the file that is there. */
function checkSize({ path, sizeBytes, quotaBytes = Infinity, readOnly = false }: DiskOptions, found?: number): void {
  if (found === undefined) {
    if (sizeBytes === undefined || readOnly) {
      const wanted = readOnly ? "a file to read" : "a file, or size=SIZE to make one";
      throw refusal("disk-missing", path, "there is no such file", wanted);
    }
    if (sizeBytes > quotaBytes) {
      throw refusal("disk-quota", path, `size=${sizeBytes} asked for`, `at most ${quotaBytes} bytes`);
    }
  } else if (sizeBytes !== undefined && sizeBytes !== found) {
    throw refusal("disk-size", path, `the file has ${found} bytes, size= says ${sizeBytes}`, "the same, or no size=");
  }
  const size = found ?? sizeBytes ?? 0;
  if (size === 0 || size % SECTOR_BYTES !== 0 || !Number.isSafeInteger(size)) {
    throw refusal("disk-size", path, `${size} bytes`, `a multiple of ${SECTOR_BYTES} bytes, and not 0`);
  }
}

/** A reader in a directory that nobody may write needs no lock: no writer could have one there. */
async function lockFor(path: string, readOnly: boolean, holder: string): Promise<DiskLock | undefined> {
  try {
    return await lockDisk(path, readOnly ? "read" : "write", holder);
  } catch (error) {
    if (readOnly && ["EACCES", "EPERM", "EROFS"].includes(codeOf(error))) return undefined;
    throw error;
  }
}

async function create(path: string, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, "wx+", 0o600);
  try {
    await file.truncate(sizeBytes);
    await file.sync();
    // Its name must survive a power cut too, or what the guest was told is durable would be in no file.
    await using directory = await open(dirname(path), "r");
    await directory.sync();
    return file;
  } catch (error) {
    await file.close();
    await rm(path, { force: true });
    throw error;
  }
}

/** @throws IsolaError `disk-format` where the file is an image of another format */
async function requireRaw(place: string, path: string): Promise<void> {
  await using file = await open(place, "r");
  const { buffer } = await file.read(new Uint8Array(8), 0, 8, 0);
  const start = String.fromCharCode(...buffer);
  const format = FORMATS.find(([, magic]) => start.startsWith(magic));
  if (format === undefined) return;
  const wanted = "a raw image (qemu-img convert -O raw makes one), or format=raw to take its bytes as they are";
  throw refusal("disk-format", path, `it is a ${format[0]} image`, wanted);
}

/** Up to 20 characters that a guest may show: the file's name without what is not ASCII. */
const serialOf = (path: string): string =>
  basename(path)
    .replaceAll(/[^\x21-\x7e]/g, "_")
    .slice(0, 20);

/** What a disk needs of its open file. */
type OpenFile = Pick<FileHandle, "fd" | "close">;

/** A disk in a file that another process opened, checked and locked. It is closed with the process. */
export function adoptFileDisk(fd: number, name: string, readOnly: boolean, limits: DiskLimits = {}): FileDisk {
  const info = { sectors: Math.floor(fstatSync(fd).size / SECTOR_BYTES), readOnly, serial: serialOf(name) };
  return new FileDisk({ fd, close: () => Promise.resolve() }, undefined, { path: name, limits }, info);
}

export class FileDisk implements BlockBackend {
  readonly info: DiskInfo;
  readonly path: string;
  readonly #file: OpenFile;
  readonly #lock: DiskLock | undefined;
  /** Told of failures of the host that the guest sees as I/O errors: one line, once until writing works again. */
  onTrouble: (message: string) => void = () => undefined;
  readonly #throttle: Throttle;
  #inTrouble = false;
  #closed: Promise<void> | undefined;

  constructor(file: OpenFile, lock: DiskLock | undefined, options: DiskOptions, info: DiskInfo) {
    this.#file = file;
    this.#lock = lock;
    this.path = options.path;
    this.#throttle = new Throttle(options.limits ?? {});
    this.info = info;
  }

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    await this.#throttle.admit(lengthOf(buffers));
    await this.#attempt("reading", () => this.#transfer(readVector, position, buffers));
  }

  async write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    await this.#throttle.admit(lengthOf(buffers));
    await this.#attempt("writing", () => this.#transfer(writeVector, position, buffers));
  }

  hurry(): void {
    this.#throttle.hurry();
  }

  async flush(): Promise<void> {
    if (this.info.readOnly) return;
    await this.#attempt("flushing", () => syncData(this.#file.fd));
  }

  /** Moves all bytes; the host may move fewer at once. */
  async #transfer(
    move: typeof readVector | typeof writeVector,
    position: number,
    buffers: readonly Uint8Array[],
  ): Promise<void> {
    let left = buffers;
    let at = position;
    while (left.length > 0) {
      const result = await move(this.#file.fd, left, at);
      const moved = "bytesRead" in result ? result.bytesRead : result.bytesWritten;
      if (moved === 0) throw new Error("the file is shorter than it was");
      at += moved;
      left = after(left, moved);
    }
  }

  async #attempt(action: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (action !== "reading") this.#inTrouble = false;
    } catch (error) {
      if (!this.#inTrouble) {
        this.#inTrouble = true;
        const mend = ["ENOSPC", "EDQUOT"].includes(codeOf(error)) ? "; free space on the host" : "";
        this.onTrouble(`disk ${this.path}: ${action}: ${reasonOf(error)}; the guest gets an I/O error${mend}`);
      }
      throw error;
    }
  }

  /** Gives the file and its lock back; only when no request is in flight. */
  close(): Promise<void> {
    this.#closed ??= this.#giveBack();
    return this.#closed;
  }

  async #giveBack(): Promise<void> {
    try {
      await this.#file.close();
    } finally {
      await this.#lock?.release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const lengthOf = (buffers: readonly Uint8Array[]): number => buffers.reduce((total, { length }) => total + length, 0);

/** The buffers without their first `count` bytes. */
const after = (buffers: readonly Uint8Array[], count: number): Uint8Array[] => {
  let skip = count;
  return buffers.flatMap((buffer) => {
    const rest = buffer.subarray(Math.min(skip, buffer.length));
    skip -= buffer.length - rest.length;
    return rest.length === 0 ? [] : [rest];
  });
};
