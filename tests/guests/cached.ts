/** What tests take from Debian's packages, made once on a machine and kept in the cache beside isola's images. */

import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { withLock } from "../../src/images/lock.ts";
import { defaultImageDirectory } from "../../src/images/store.ts";

const WAIT_MS = 10 * 60 * 1000;

/** The file `name` of the cache; where there is none, `build` makes it with the help of an empty directory. */
export async function cached(name: string, build: (directory: string) => Promise<Uint8Array>): Promise<Uint8Array> {
  const home = join(dirname(defaultImageDirectory()), "tests");
  await mkdir(home, { recursive: true });
  const path = join(home, name);
  const present = () => readFile(path).catch(() => undefined);
  return (
    (await present()) ??
    (await withLock(`${path}.lock`, { action: `making ${name} for the tests`, waitMs: WAIT_MS }, async () => {
      const made = await present();
      if (made !== undefined) return made;
      const work = `${path}.tmp`;
      await rm(work, { recursive: true, force: true });
      try {
        const bytes = await build(work);
        await mkdir(work, { recursive: true });
        await writeFile(join(work, "made"), bytes);
        await rename(join(work, "made"), path);
        return bytes;
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }))
  );
}
