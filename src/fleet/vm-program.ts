/**
 * The program of VMs' processes as plain JavaScript. A clone's sources are TypeScript, and Node would strip their types
 * in every VM, with a compiler that stays in memory: 15 MB on each of its threads. V8's code cache is no way out, since
 * Node takes none where it may not write. So the server strips them once for each version of isola.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { codeVersion } from "./confinement.ts";
import { FleetError } from "./fleet-error.ts";

const MAKE_MS = 60_000;
/** How many versions are kept: a VM that an earlier one started reads it again when it is reset. */
const KEPT = 8;
const PREFIX = "program-";

/** The folder with `fleet/vm-process.js` and all that it imports, beneath `folder`. @throws FleetError `host-failed` */
export async function makeVmProgram(folder: string): Promise<string> {
  // A package is built already.
  if (!import.meta.url.endsWith(".ts")) return dirname(dirname(fileURLToPath(import.meta.url)));
  const made = join(folder, `${PREFIX}${codeVersion().slice(0, 16)}`);
  if (existsSync(made)) return made;
  const draft = `${made}.new`;
  await rm(draft, { recursive: true, force: true });
  const maker = fileURLToPath(new URL("./vm-program-maker.ts", import.meta.url));
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", maker, draft], {
    stdio: ["ignore", "ignore", "pipe"],
    timeout: MAKE_MS,
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once("close", resolve);
  child.once("error", (error) => {
    errors += error.message;
    resolve(null);
  });
  if ((await promise) !== 0) {
    const reason = errors.split("\n").find((line) => /error/i.test(line)) ?? "it ended without a word";
    throw new FleetError({ code: "host-failed", message: `making the VMs' program in ${folder}: ${reason}` });
  }
  await rename(draft, made);
  await removeOld(folder);
  return made;
}

async function removeOld(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.startsWith(PREFIX));
  const dated = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(join(folder, name)).catch(() => undefined))?.mtimeMs ?? 0 })),
  );
  for (const { name } of dated.sort((a, b) => b.at - a.at).slice(KEPT)) {
    await rm(join(folder, name), { recursive: true, force: true });
  }
}
