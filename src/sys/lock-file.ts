/**
 * Lock files that name their holder: `pid start-time`, then whatever the holder adds. [proc(5)]
 *
 * A lock file is made by link(2), so it is never there without its contents. One whose process is gone is stale and is
 * taken away by whoever meets it; ids are reused, so the start time counts where the host tells it.
 */

import { link, readFile, rename, rm, writeFile } from "node:fs/promises";

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** In the host's ticks since its boot; empty where the host does not tell it, or there is no such process. */
export async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    // Field 22; the command, field 2, stands in parentheses and may hold anything.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

/** What a lock of this process begins with. */
export async function ownIdentity(): Promise<string> {
  return `${process.pid} ${await startTime(process.pid)}`.trim();
}

/** Whether the process that a lock's contents name is there. Contents that name none are of nobody. */
async function isRunning(contents: string): Promise<boolean> {
  const [pidText = "", started = ""] = contents.trim().split(/\s+/);
  const pid = Number(pidText);
  if (!/^[1-9][0-9]*$/.test(pidText) || !Number.isSafeInteger(pid)) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists, and is another user's.
    if (codeOf(error) !== "EPERM") return false;
  }
  const current = await startTime(pid);
  return !/^[0-9]+$/.test(started) || current === "" || current === started;
}

/** Takes away a lock that was seen stale, and only that one: another process may have replaced it meanwhile. */
async function breakStale(path: string, seen: string): Promise<void> {
  const aside = `${path}.stale-${process.pid}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, "utf8")) !== seen) await link(aside, path).catch(() => undefined);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

/** The contents of the lock at `path`, if its process is there; a stale lock is taken away. */
export async function lockHolder(path: string): Promise<string | undefined> {
  const contents = await readFile(path, "utf8").catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  });
  if (contents === undefined) return undefined;
  if (await isRunning(contents)) return contents;
  await breakStale(path, contents);
  return undefined;
}

/**
 * Puts a lock into place, over a stale one if need be. Result: undefined, or the contents of the one that is held.
 * @throws Node's error where the directory cannot be written
 */
export async function placeLock(path: string, contents: string): Promise<string | undefined> {
  const draft = `${path}.${process.pid}-${crypto.randomUUID()}`;
  await writeFile(draft, contents);
  try {
    for (;;) {
      try {
        await link(draft, path);
        return undefined;
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
      }
      const holder = await lockHolder(path);
      if (holder !== undefined) return holder;
    }
  } finally {
    await rm(draft, { force: true });
  }
}
