/**
 * A host with hardware virtualization where there is none: QEMU emulates a processor with nested SVM, Debian's kernel
 * with kvm-amd runs on it, and isola's own image (src/appliance) is process 1, running a command of the test's.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { APPLIANCE_MODULES, buildAppliance, fetchApplianceKernel } from "../../src/images/appliance.ts";
import { CpioWriter, readCpio } from "../../src/images/cpio.ts";
import { addModules, type KernelFiles } from "../../src/images/debian.ts";
import { type ImageFileEntry, PROGRAM_ROOT, sourceFiles } from "../../src/images/program-files.ts";
import { defaultImageDirectory, ImageStore } from "../../src/images/store.ts";
import { cached } from "../guests/cached.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const CACHE = "/root/.cache/isola";
/**
 * QEMU 7.2 does not let a nested host see its guest's XSETBV, so that guest would lose its XCR0; without XSAVE there is
 * none to lose.
 */
const PROCESSOR = "EPYC,+svm,+npt,-xsave";
/** Whether the host's console, and its guests' ones on it, are shown as they are written: ISOLA_TEST_SHOW. */
const SHOW = process.env["ISOLA_TEST_SHOW"] !== undefined;
/** An unpacked initramfs with Node and a guest image or two, and a few guests. */
const MEMORY = "3G";

export interface NestedRun {
  /** Arguments of Node, in the directory of isola's program. */
  readonly command: readonly string[];
  /** Guest images that the run needs. */
  readonly images: readonly string[];
  /** Files of the tests' cache that it needs. */
  readonly cachedFiles?: readonly string[];
  /** More files of the host. */
  readonly files?: readonly ImageFileEntry[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly processors?: number;
  readonly seconds: number;
}

export interface NestedResult {
  /** Exit status of the command; undefined where the host did not get so far. */
  readonly status: number | undefined;
  readonly console: string;
}

/** Kernel and modules, unpacked once on a machine. */
async function kernelFiles(): Promise<KernelFiles> {
  const archive = await cached("nested-host-kernel.cpio", async (directory) => {
    const kernel = await fetchApplianceKernel(directory);
    const cpio = new CpioWriter().file("vmlinuz", kernel.bzImage).file("release", kernel.release);
    addModules(cpio, kernel, APPLIANCE_MODULES);
    return cpio.finish();
  });
  const entries = readCpio(archive);
  const contents = (path: string): Uint8Array =>
    entries.find((entry) => entry.path === path)?.bytes ?? new Uint8Array(0);
  const modules = entries.filter(({ path }) => path.endsWith(".ko"));
  return {
    release: new TextDecoder().decode(contents("release")),
    bzImage: contents("vmlinuz"),
    modules: new Map(modules.map(({ path, bytes }) => [path, bytes])),
  };
}

/** Images and cached files, where the nested isola looks for them. */
async function* cacheFiles({ images, cachedFiles = [] }: NestedRun): AsyncGenerator<ImageFileEntry> {
  const store = new ImageStore();
  const home = defaultImageDirectory();
  for (const image of images) {
    await store.pull(image);
    for (const file of await readdir(join(home, image))) {
      yield { path: `${CACHE}/images/${image}/${file}`, contents: await readFile(join(home, image, file)) };
    }
  }
  for (const file of cachedFiles) {
    yield { path: `${CACHE}/tests/${file}`, contents: await readFile(join(home, "../tests", file)) };
  }
}

/** Tests, and what they are made of, that every such host has. */
export function* testFiles(root: string): Generator<ImageFileEntry> {
  for (const name of ["guests", "nested", "kvm", "fleet"]) yield* sourceFiles(root, `tests/${name}`, () => true);
}

export async function runNested(run: NestedRun): Promise<NestedResult> {
  const kernel = await kernelFiles();
  const files: ImageFileEntry[] = [...testFiles(ROOT)];
  for await (const file of cacheFiles(run)) files.push(file);
  files.push(...(run.files ?? []));
  const initramfs = buildAppliance({
    kernel,
    root: ROOT,
    files,
    configuration: {
      hostname: "nested",
      command: ["/bin/node", ...run.command],
      directory: PROGRAM_ROOT,
      environment: { HOME: "/root", NODE_NO_WARNINGS: "1", ...run.environment },
    },
  });
  const directory = await mkdtemp(join(tmpdir(), "isola-nested-"));
  try {
    await writeFile(join(directory, "vmlinuz"), kernel.bzImage);
    await writeFile(join(directory, "initramfs"), initramfs);
    const console = await boot(directory, run);
    const status = /^isola: the command ended: status (\d+)/m.exec(console)?.[1];
    return { status: status === undefined ? undefined : Number(status), console };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Boots it in QEMU, until it switches itself off or its time is over; gives what was on its console. */
function boot(directory: string, { seconds, processors = 1 }: NestedRun): Promise<string> {
  // The timer's check fails where an emulator is slow, and fails for good.
  const commandLine = "console=ttyS0 panic=-1 quiet no_timer_check";
  const args = [
    `-machine q35 -accel tcg,thread=multi -cpu ${PROCESSOR} -smp ${processors} -m ${MEMORY}`.split(" "),
    ["-kernel", join(directory, "vmlinuz"), "-initrd", join(directory, "initramfs"), "-append", commandLine],
    "-nodefaults -display none -serial stdio -no-reboot".split(" "),
  ].flat();
  const qemu = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "ignore"] });
  const late = setTimeout(() => qemu.kill("SIGKILL"), seconds * 1000);
  let text = "";
  qemu.stdout.setEncoding("utf8").on("data", (piece: string) => {
    text += piece;
    if (SHOW) process.stderr.write(piece);
  });
  return new Promise((resolve, reject) => {
    qemu.once("error", reject);
    qemu.once("close", () => {
      clearTimeout(late);
      resolve(text.replaceAll("\r", ""));
    });
  });
}

/** What to run of Node's, before the names of test files. */
export const NESTED_TEST = ["--test", "--test-isolation=none", "--test-reporter=tap"];
const SHOWN_CHARACTERS = 6000;
/** Seconds for one wait there: twenty times what it takes on a quiet host, since a busy one gives QEMU little. */
const ISOLA_TEST_PATIENCE = "600";

/** Runs tests on KVM there; fails with the end of the host's console. */
export async function nestedPasses(run: NestedRun): Promise<void> {
  const shown = SHOW ? { ISOLA_TEST_SHOW: "1" } : {};
  const environment = { ISOLA_TEST_ENGINE: "kvm", ISOLA_TEST_PATIENCE, ...shown, ...run.environment };
  const { status, console } = await runNested({ ...run, environment });
  assert.equal(
    status,
    0,
    `the nested run gave ${status}; its console ended with:\n${console.slice(-SHOWN_CHARACTERS)}`,
  );
}
