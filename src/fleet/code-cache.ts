/**
 * V8's code cache for VMs' processes: made once for each Node and version of isola by a process of the server's, and
 * only read by VMs, since what one wrote another would run. It saves each VM a second and 15 MB a thread.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Walls } from "./confinement.ts";
import { codeVersion } from "./confinement.ts";

const WARM_MS = 60_000;

/** Fills the cache where it is not of this code. A failure costs only speed. */
export async function warmCodeCache(folder: string, walls: Walls): Promise<void> {
  const stamp = join(folder, "made-for");
  const version = `${process.version} ${codeVersion()}`;
  if (existsSync(stamp) && (await readFile(stamp, "utf8").catch(() => "")) === version) return;
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const program = fileURLToPath(new URL(`./code-cache-maker.${extension}`, import.meta.url));
  // V8 takes code only from a cache that was made under the same flags.
  const flags = walls.launcher ? walls.nodeFlags.filter((flag) => !/^--(permission|allow-)/.test(flag)) : [];
  const child = spawn(process.execPath, [...flags, program], {
    env: { NODE_COMPILE_CACHE: folder, TZ: "UTC" },
    stdio: "ignore",
    timeout: WARM_MS,
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once("exit", resolve);
  child.once("error", () => resolve(null));
  if ((await promise) === 0) await writeFile(stamp, version).catch(() => undefined);
}
