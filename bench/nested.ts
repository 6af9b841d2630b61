/**
 * The bench on KVM where the host has no hardware virtualization: in one that QEMU emulates (tests/peers/nested-host.ts),
 * with QEMU itself in the image as the peer.
 */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { IsolaError } from "../src/base/errors.ts";
import { type ImageFileEntry, sourceFiles } from "../src/images/program-files.ts";
import { runNested } from "../tests/peers/nested-host.ts";
import type { BenchOptions } from "./options.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const FIRMWARE = "/usr/share/qemu";
/** Larger ones are for other machines than a microvm. */
const FIRMWARE_BYTES = 300_000;
/** A boot there, and all besides the boots, in seconds. */
const BOOT_SECONDS = 600;
const REST_SECONDS = 300;

/** QEMU with its libraries and the firmware that it loads. */
function* qemuFiles(): Generator<ImageFileEntry> {
  yield { path: QEMU, contents: readFileSync(QEMU), executable: true };
  const libraries = execFileSync("ldd", [QEMU], { encoding: "utf8" }).matchAll(/(\/\S+) \(0x/g);
  for (const [, path = ""] of libraries) yield { path, contents: readFileSync(path), executable: true };
  for (const name of readdirSync(FIRMWARE)) {
    const path = join(FIRMWARE, name);
    const facts = statSync(path, { throwIfNoEntry: false });
    if (facts?.isFile() === true && facts.size < FIRMWARE_BYTES) yield { path, contents: readFileSync(path) };
  }
}

/** The bench itself, and what it imports of the tests besides what every nested host has. */
export function* benchFiles(root: string): Generator<ImageFileEntry> {
  for (const folder of ["bench", "tests/fuzz", "tests/peers"]) yield* sourceFiles(root, folder);
}

/** The report of the bench there. @throws IsolaError `bench-nested` */
export async function measureNested(root: string, { rounds }: BenchOptions): Promise<string> {
  const words = ["--engine", "kvm", "--only", "boot,resident,idle", "--timeout", String(BOOT_SECONDS)];
  const { status, console } = await runNested({
    command: ["bench/main.js", ...words, "--rounds", String(rounds)],
    images: ["debian"],
    files: [...qemuFiles(), ...benchFiles(root)],
    processors: 2,
    seconds: REST_SECONDS + 2 * rounds * BOOT_SECONDS,
  });
  const report = /^isola \d[^]*?(?=^raw figures)/m.exec(console)?.[0];
  if (status === 0 && report !== undefined) return `in a host that QEMU emulates:\n${report}`;
  throw new IsolaError({
    code: "bench-nested",
    message: `measuring in a host that QEMU emulates: the bench there gave status ${status ?? "none"}; its console ended with: ${console.slice(-1000)}`,
  });
}
