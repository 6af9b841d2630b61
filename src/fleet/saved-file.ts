/**
 * Saved virtual machines as files. A file is written under a temporary name, brought to the disk, and only then given
 * its own name: whoever sees that name sees a whole state.
 */

import { randomUUID } from "node:crypto";
import { fstat, ftruncate, read, write } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { IsolaError } from "../base/errors.ts";
import { type OpenedState, openState } from "../machine/saved-state/manifest.ts";
import type { StateCodec, StateSink, StateSource } from "../machine/saved-state/state-file.ts";
import type { ProcessorWanted } from "./engine-choice.ts";
import type { Vm } from "../machine/vm-contract.ts";

const readAt = promisify(read);
const writeAt = promisify(write);
const truncateTo = promisify(ftruncate);
const statOf = promisify(fstat);
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** The fastest level: a guest stands still meanwhile. */
const LEVEL = 1;

export const ZSTD_CODEC: StateCodec = {
  name: "zstd",
  compress: (bytes) => compress(bytes, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } }),
  decompress: (bytes, length) => decompress(bytes, { maxOutputLength: length }),
};

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  EACCES: "no permission",
  EISDIR: "it is a directory",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the file system is read-only",
  EFBIG: "the file system takes no file of this size",
};

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
  return code === undefined ? String(error) : (REASONS[code] ?? code);
}

/** Small pieces are gathered, so that a header of twelve bytes is no write of its own. */
class FileSink implements StateSink {
  static readonly #GATHERED_BYTES = 256 * 1024;
  readonly #file: FileHandle;
  #pieces: Uint8Array[] = [];
  #waiting = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#pieces.push(bytes);
    this.#waiting += bytes.length;
    if (this.#waiting >= FileSink.#GATHERED_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    let left = this.#pieces.filter(({ length }) => length > 0);
    this.#pieces = [];
    this.#waiting = 0;
    while (left.length > 0) {
      let { bytesWritten } = await this.#file.writev(left);
      while (bytesWritten > 0 && left[0] !== undefined) {
        const taken = Math.min(bytesWritten, left[0].length);
        bytesWritten -= taken;
        left = taken === left[0].length ? left.slice(1) : [left[0].subarray(taken), ...left.slice(1)];
      }
    }
  }
}

export interface SaveFileOptions {
  /** Absent: packed by zstd. */
  readonly codec?: StateCodec;
  /** Input for the serial port that the caller still holds, and gives up. */
  readonly typed?: Uint8Array;
}

/**
 * Saves a VM and leaves it paused. On failure there is no new file, and an older one of the name is as it was.
 * @throws IsolaError `save-failed`, `vm-ended`
 */
export async function saveVmFile(vm: Vm, path: string, options: SaveFileOptions = {}): Promise<void> {
  const { codec = ZSTD_CODEC, typed } = options;
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    await using file = await open(temporary, "wx", 0o600);
    const sink = new FileSink(file);
    await vm.save(sink, { codec, ...(typed === undefined ? {} : { typed }) });
    await sink.flush();
    await file.sync();
    await rename(temporary, path);
    await using parent = await open(directory, "r");
    await parent.sync();
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (error instanceof IsolaError) throw error;
    throw new IsolaError({
      code: "save-failed",
      message: `saving the VM to ${path}: ${reasonOf(error)}; nothing was saved`,
      cause: error,
    });
  }
}

/** Saves a VM to an open, empty file, from its beginning. The VM is left paused; bringing it to the disk is the caller's. */
export async function saveToDescriptor(
  vm: Vm,
  fd: number,
  { codec = ZSTD_CODEC, typed }: SaveFileOptions,
): Promise<void> {
  let at = 0;
  const sink: StateSink = {
    async write(bytes) {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await writeAt(fd, bytes, done, bytes.length - done, at);
        done += bytesWritten;
        at += bytesWritten;
      }
    },
  };
  try {
    await truncateTo(fd, 0);
    await vm.save(sink, { codec, ...(typed === undefined ? {} : { typed }) });
  } catch (error) {
    if (error instanceof IsolaError) throw error;
    const message = `saving the VM: ${reasonOf(error)}; nothing was saved`;
    throw new IsolaError({ code: "save-failed", message, cause: error });
  }
}

/** The saved VM in an open file. @throws IsolaError `saved-state-invalid`, `saved-state-mismatch` */
export function openSavedDescriptor(fd: number): Promise<OpenedState> {
  let at = 0;
  const source: StateSource = {
    async read(length) {
      const { size } = await statOf(fd);
      const bytes = new Uint8Array(Math.min(length, Math.max(0, size - at)));
      for (let filled = 0; filled < bytes.length; ) {
        const { bytesRead } = await readAt(fd, bytes, filled, bytes.length - filled, at);
        if (bytesRead === 0) return bytes.subarray(0, filled);
        filled += bytesRead;
        at += bytesRead;
      }
      return bytes;
    },
  };
  return openState(source, [ZSTD_CODEC]);
}

/** The processor that a saved VM needs; undefined where the file does not tell: whoever goes on with it says why. */
export async function savedProcessor(path: string): Promise<ProcessorWanted | undefined> {
  try {
    await using file = await open(path, "r");
    const { cpu, clock } = (await openSavedDescriptor(file.fd)).machine;
    return { cpu, tscHz: clock.tscHz };
  } catch {
    return undefined;
  }
}

/** A saved VM in a file that stays open, and must be disposed of, after the VM that reads it has started. */
export interface SavedFile extends AsyncDisposable {
  readonly state: OpenedState;
}

/** Opens a saved VM. @throws IsolaError `saved-state-unreadable`, `saved-state-invalid`, `saved-state-mismatch` */
export async function openSavedFile(path: string): Promise<SavedFile> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    const opened = file;
    if (!(await opened.stat()).isFile()) throw Object.assign(new Error("not a file"), { code: "EISDIR" });
    const state = await openState(fileSource(opened), [ZSTD_CODEC]);
    return { state, [Symbol.asyncDispose]: () => opened.close() };
  } catch (error) {
    await file?.close();
    if (error instanceof IsolaError) {
      throw new IsolaError({ code: error.code, message: `${path}: ${error.message}`, cause: error });
    }
    throw new IsolaError({
      code: "saved-state-unreadable",
      message: `cannot read the saved state ${path}: ${reasonOf(error)}; wanted: a file that isola save wrote`,
      cause: error,
    });
  }
}

function fileSource(file: FileHandle): StateSource {
  return {
    async read(length) {
      // A length of a hostile file is no reason to take so much memory before the bytes are known to be there.
      const { size } = await file.stat();
      const bytes = new Uint8Array(Math.min(length, size));
      let filled = 0;
      while (filled < bytes.length) {
        const { bytesRead } = await file.read(bytes, filled, bytes.length - filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return bytes.subarray(0, filled);
    },
  };
}
