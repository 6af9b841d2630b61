/** A lock for work that two processes must not do at once; whoever comes second waits. */

import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { IsolaError } from "../base/errors.ts";
import { ownIdentity, placeLock } from "../sys/lock-file.ts";

const POLL_MS = 200;

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
  const own = `${await ownIdentity()}\n`;
  const deadline = performance.now() + options.waitMs;
  for (let told = false; ; ) {
    const contents = await placeLock(path, own);
    if (contents === undefined) break;
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
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}
