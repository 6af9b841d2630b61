/**
 * Who uses a disk: one writer, or any number of readers, each named by a file beside the disk.
 *
 *   disk.img.lock            the writer: `pid start-time VM's name`
 *   disk.img.lock.r-PID-N    a reader
 *
 * Both kinds write their own file first and look for the other kind afterwards, so that two who come at once never
 * both stay.
 */

import { readdir, readFile, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { IsolaError } from "../base/errors.ts";
import { lockHolder, ownIdentity, placeLock } from "../sys/lock-file.ts";

let readers = 0;

/** Held until `release`; the end of the process makes it stale, whatever ends it. */
export interface DiskLock {
  release(): Promise<void>;
}

const inUse = (path: string, contents: string, mode: "read" | "write", found: string): IsolaError => {
  const [pid = "?", , ...name] = contents.trim().split(" ");
  const holder = name.length === 0 ? `process ${pid}` : `VM ${name.join(" ")} (process ${pid})`;
  const wanted = mode === "read" ? "a disk that nobody writes" : "a disk that nobody else uses";
  return new IsolaError({
    code: "disk-locked",
    message: `cannot open the disk ${path}: ${holder} ${found} it; wanted: ${wanted}; stop that VM or take another disk`,
  });
};

/**
 * Locks the disk at `path` for a VM called `name` (may be empty).
 * @throws IsolaError `disk-locked` where another holds it; Node's error where the directory cannot be written
 */
export async function lockDisk(path: string, mode: "read" | "write", name: string): Promise<DiskLock> {
  const writer = `${path}.lock`;
  const own = `${`${await ownIdentity()} ${name}`.trim()}\n`;
  const mine = mode === "write" ? writer : `${writer}.r-${process.pid}-${readers++}`;
  const holder = await placeLock(mine, own);
  if (holder !== undefined) throw inUse(path, holder, mode, "writes");
  const release = async (): Promise<void> => {
    // Only what is still this lock.
    if ((await readFile(mine, "utf8").catch(() => "")) === own) await rm(mine, { force: true });
  };
  try {
    if (mode === "read") {
      const other = await lockHolder(writer);
      if (other !== undefined) throw inUse(path, other, mode, "writes");
      return { release };
    }
    for (const file of await readdir(dirname(path))) {
      const other = file.startsWith(`${basename(writer)}.r-`) ? await lockHolder(join(dirname(path), file)) : undefined;
      if (other !== undefined) throw inUse(path, other, mode, "reads");
    }
    return { release };
  } catch (error) {
    await release();
    throw error;
  }
}
