/** Runs a test guest under QEMU TCG. */

import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { EXIT_PORT, EXIT_VALUE } from "./guest/layout.ts";
import { RAM_BYTES } from "./machine.ts";

const QEMU = "qemu-system-x86_64";
/** isola's features as far as TCG has them; the vendor decides which of SYSENTER's and SYSCALL's forms exist. */
const CPU = `Haswell-noTSX,phys-bits=40,+smap,+pdpe1gb,${[
  "vme",
  "avx",
  "avx2",
  "bmi1",
  "bmi2",
  "f16c",
  "fma",
  "pcid",
  "invpcid",
  "x2apic",
  "tsc-deadline",
]
  .map((feature) => `-${feature}`)
  .join(",")}`;

/** QEMU's version, as `7.2.22`. Rejects where there is no QEMU. */
export async function qemuVersion(): Promise<string> {
  const { stdout } = await promisify(execFile)(QEMU, ["--version"]);
  return /version (\S+)/.exec(stdout)?.[1] ?? "";
}

/** What the guest writes to its serial port until it ends; the last line says if that was not by the exit port. */
export async function runQemu(image: Uint8Array, limitMs: number): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "isola-system-"));
  try {
    const path = join(directory, "guest.elf");
    await writeFile(path, image);
    const machine = ["-M", "pc", "-accel", "tcg", "-cpu", CPU, "-m", `${RAM_BYTES / 1024 / 1024}M`, "-kernel", path];
    const exit = ["-device", `isa-debug-exit,iobase=0x${EXIT_PORT.toString(16)},iosize=4`];
    const quiet = ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"];
    const child = spawn(QEMU, [...machine, ...exit, ...quiet], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let errors = "";
    let late = false;
    child.stdout.on("data", (data: Buffer) => (output += data.toString("latin1")));
    child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, limitMs);
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject).once("close", resolve);
    });
    clearTimeout(timer);
    if (late) return `${output}\n!timeout\n`;
    // Without reboots QEMU ends with 0 on a triple fault.
    if (status === 0) return `${output}\n!shutdown\n`;
    if (status !== EXIT_VALUE * 2 + 1) throw new Error(`QEMU ended with status ${status}: ${errors}`);
    return output;
  } finally {
    await rm(directory, { recursive: true });
  }
}
