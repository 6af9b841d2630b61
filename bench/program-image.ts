/**
 * The initramfs of the programs: the image's own, and behind it an archive with our program, the real ones with their
 * libraries, and a C source. Linux unpacks archives that follow one another. [kernel: early-userspace/buffer-format]
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { IsolaError } from "../src/base/errors.ts";
import { CpioWriter } from "../src/images/cpio.ts";
import { compilerPath, PREPROCESSED, preprocessedProgram } from "./real-programs.ts";

const PROGRAMS = ["gzip", "xz", "sha256sum", "openssl", "python3", "sqlite3"].map((name) => `/usr/bin/${name}`);
/** What Python reads before it runs a program without imports. */
const PYTHON_FOLDERS = ["", "/encodings", "/collections", "/importlib"];
/** Where the guest finds what is no program. */
const FOLDER = "bench";
const ALIGNMENT = 4;

/** Lines to type in a guest before programs run there, in the folder where they run. */
export const GUEST_PREPARATION = ["cd /tmp", `cp /${FOLDER}/${PREPROCESSED} .`];

/** The shared libraries and the loader of a program, by the paths at which it looks for them. [ldd(1)] */
function librariesOf(program: string): string[] {
  const { stdout } = spawnSync("ldd", [program], { encoding: "utf8" });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].flatMap((match) => match[1] ?? []);
}

function addFile(cpio: CpioWriter, path: string): void {
  cpio.file(path.slice(1), readFileSync(path), 0o755);
}

function addPython(cpio: CpioWriter): void {
  const { stdout } = spawnSync("/usr/bin/python3", ["-I", "-S", "-c", "import os; print(os.__file__)"], {
    encoding: "utf8",
  });
  const root = dirname(stdout.trim());
  for (const folder of PYTHON_FOLDERS) {
    for (const name of readdirSync(root + folder)) {
      if (name.endsWith(".py")) addFile(cpio, `${root}${folder}/${name}`);
    }
  }
}

/** Writes the initramfs. `program`: the compiled one. @throws IsolaError `bench-program` */
export function writeProgramImage(base: string, program: string, output: string): void {
  const cpio = new CpioWriter();
  cpio.file("bin/bench", readFileSync(program), 0o755);
  cpio.file(`${FOLDER}/${PREPROCESSED}`, preprocessedProgram());
  const programs = [...PROGRAMS, compilerPath()];
  for (const path of programs) {
    if (existsSync(path)) continue;
    const wanted = "wanted: Debian's packages gcc, gzip, openssl, python3, sqlite3 and xz-utils";
    throw new IsolaError({
      code: "bench-program",
      message: `collecting programs for the guest: no ${path}; ${wanted}`,
    });
  }
  const files = new Set([...programs, ...programs.flatMap(librariesOf)]);
  for (const path of files) addFile(cpio, path);
  addPython(cpio);
  const first = readFileSync(base);
  const padding = Buffer.alloc((ALIGNMENT - (first.length % ALIGNMENT)) % ALIGNMENT);
  mkdirSync(dirname(output), { recursive: true });
  writeFileSync(output, Buffer.concat([first, padding, cpio.finish()]));
}

/** A folder of the bench's own, which git ignores. */
export function programPaths(root: string): { readonly program: string; readonly initramfs: string } {
  const folder = join(root, "out", "bench");
  mkdirSync(folder, { recursive: true });
  return { program: join(folder, "bench"), initramfs: join(folder, "initramfs") };
}
