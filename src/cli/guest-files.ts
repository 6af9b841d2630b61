/** Reads the files that a guest boots from: hostile until checked, and never read beyond what the guest could hold. */

import { access, open } from "node:fs/promises";
import { IsolaError } from "../base/errors.ts";
import type { FwCfgOption } from "./run-options.ts";
import { formatSize } from "../base/size.ts";
import type { BootModule, FwCfgFile } from "../machine/vm-contract.ts";

/** What Node's codes mean, for the commonest ways in which a file cannot be read. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "no permission to read it",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is not a directory",
  ELOOP: "too many symbolic links",
};

function reasonOf(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") {
    return REASONS[error.code] ?? error.code;
  }
  return String(error);
}

/**
 * Reads a whole regular file of 1 to `limitBytes` bytes. `what` names its part in the boot ("kernel", "initrd").
 * Throws an IsolaError "file-unreadable", "file-empty" or "file-too-large".
 */
export async function readGuestFile(what: string, path: string, limitBytes: number): Promise<Uint8Array> {
  const fail = (code: string, problem: string, wanted: string, cause?: unknown): IsolaError =>
    new IsolaError({ code, message: `cannot load the ${what} ${path}: ${problem}; wanted: ${wanted}`, cause });
  try {
    await using file = await open(path, "r");
    const stat = await file.stat();
    if (!stat.isFile()) throw fail("file-unreadable", "it is not a regular file", "a file");
    if (stat.size === 0) throw fail("file-empty", "it is empty", `a ${what}`);
    if (stat.size > limitBytes) {
      const room = `at most ${formatSize(limitBytes)}, the guest's memory (see --memory)`;
      throw fail("file-too-large", `it has ${formatSize(stat.size)}`, room);
    }
    const bytes = new Uint8Array(stat.size);
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) throw fail("file-unreadable", "it shrank while it was read", "a file that stays as it is");
      filled += bytesRead;
    }
    return bytes;
  } catch (error) {
    if (error instanceof IsolaError) throw error;
    throw fail("file-unreadable", reasonOf(error), "a readable file", error);
  }
}

/**
 * Reads a module: `FILE`, or `FILE WORDS`, where the words become its command line. A name with spaces that is a file's
 * is taken as it is. Throws as `readGuestFile` does.
 */
export async function readModule(what: string, text: string, limitBytes: number): Promise<BootModule> {
  const space = text.indexOf(" ");
  const whole = await access(text).then(
    () => true,
    () => space <= 0,
  );
  const [path, commandLine] = whole ? [text, ""] : [text.slice(0, space), text.slice(space + 1)];
  return { bytes: await readGuestFile(what, path, limitBytes), commandLine };
}

/** No firmware needs more; a larger file is a mistake. */
const FW_CFG_LIMIT_BYTES = 2 ** 26;

/** What a --fw-cfg option stands for. Throws as `readGuestFile` does. */
export async function readFwCfg({ name, file, text }: FwCfgOption): Promise<FwCfgFile> {
  if (file === undefined) return { name, bytes: new TextEncoder().encode(text ?? "") };
  return { name, bytes: await readGuestFile("fw_cfg file", file, FW_CFG_LIMIT_BYTES) };
}
