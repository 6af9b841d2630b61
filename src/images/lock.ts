/**
 * A lock file that names its holder, for work that two processes must not do at once.
 * It is made by link(2), so it never exists without its contents. A lock whose process is gone is taken over.
 */

import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { IsolaError } from "../base/errors.ts";

const POLL_MS = 200;

/** What identifies a process: ids are reused, so the start time counts where the host tells it. */
async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    // Field 22; the command, field 2, stands in parentheses and may hold anything. [proc(5)]
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

async function isHeld(contents: string): Promise<boolean> {
  const [pidText = "", started = ""] = contents.trim().split(" ");
  const pid = Number(pidText);
  // Contents that are no pid are not of this program's making: nobody holds the lock.
  if (!/^[1-9][0-9]*$/.test(pidText) || !Number.isSafeInteger(pid)) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists, and is another user's.
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const current = await startTime(pid);
  return started === "" || current === "" || current === started;
}

/** Takes away a lock that was seen stale, and only that one: another process may have replaced it meanwhile. */
async function breakStale(path: string, seen: string): Promise<void> {
  const aside = `${path}.stale.${process.pid}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, "utf8")) !== seen) await link(aside, path).catch(() => undefined);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

export interface LockOptions {
  /** Of the work, for the message: `pulling image debian`. */
  readonly action: string;
  /** How long to wait for another process, in milliseconds; it is told of by `waiting`, once. */
  readonly waitMs: number;
  readonly waiting?: (holder: number) => void;
}

/**
 * Runs `work` while holding the lock at `path`.
 * @throws IsolaError `locked` when another process holds it for longer than `waitMs`
 */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const own = `${process.pid} ${await startTime(process.pid)}\n`;
  const draft = `${path}.${process.pid}.${crypto.randomUUID()}`;
  await writeFile(draft, own);
  try {
    const deadline = performance.now() + options.waitMs;
    for (let told = false; ; ) {
      try {
        await link(draft, path);
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const contents = await readFile(path, "utf8").catch(() => "gone");
      if (contents === "gone") continue;
      if (!(await isHeld(contents))) {
        await breakStale(path, contents);
        continue;
      }
      const holder = Number.parseInt(contents, 10);
      if (performance.now() >= deadline) {
        throw new IsolaError({
          code: "locked",
          message: `${options.action}: process ${holder} is doing the same; wait until it has ended, then try again`,
        });
      }
      if (!told) options.waiting?.(holder);
      told = true;
      await sleep(POLL_MS);
    }
  } finally {
    await rm(draft, { force: true });
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}
