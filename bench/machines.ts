/** The machines that are compared, and how each is started with the same kernel, initramfs and memory. */

import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { IsolaError } from "../src/base/errors.ts";
import { defaultImageDirectory, ImageStore, type StoredImage } from "../src/images/store.ts";
import { GuestProcess, type Mark } from "./guest-process.ts";
import { hostTscKhz } from "./host.ts";
import type { IsolaFigures } from "./isola-guest.ts";
import type { BenchOptions } from "./options.ts";

export const MEMORY_MIB = 256;
const QEMU = "qemu-system-x86_64";
const ISOLA_GUEST = fileURLToPath(new URL("./isola-guest.ts", import.meta.url));

/**
 * The nearest that TCG has to isola's processor: Nehalem is x86-64-v2, and isola's identity, an in-order Atom, makes
 * the kernel leave out page table isolation and retpolines in both machines. `--qemu-cpu` takes another.
 */
export const QEMU_CPU =
  "Nehalem-v1,family=6,model=54,stepping=1,+smep,+smap,+xsave,+xsaveopt,+rdrand,+movbe,+fsgsbase,+rdtscp,+arat";

/** `interpreter` is isola without its compiler. */
export type MachineName = "isola" | "interpreter" | "qemu" | "v86";

/** What a machine boots, where it is not the image alone. */
export interface Boots {
  readonly initramfs: string;
  readonly memoryMib: number;
}

/** What QEMU boots besides: the kernel is the image's ELF where no other is named. */
export interface QemuBoots extends Boots {
  readonly kernel?: string;
}
/** Memory of a guest that runs the programs. */
export const PROGRAMS_MEMORY_MIB = 512;

/** A machine that stands at the shell. */
export interface BootedGuest {
  readonly name: MachineName;
  readonly guest: GuestProcess;
  readonly init: Mark;
  readonly shell: Mark;
  /** isola's figures as "Run /init" and the prompt passed. */
  readonly figures: readonly IsolaFigures[];
  /** What stood in the way of an earlier attempt. */
  readonly retried: string | undefined;
}

export interface Machine {
  readonly name: MachineName;
  readonly version: string;
  start(): GuestProcess;
}

/** @throws IsolaError `bench-no-qemu` */
export function qemuVersion(): string {
  try {
    const text = execFileSync(QEMU, ["--version"], { encoding: "utf8" });
    return /version (\S+)/.exec(text)?.[1] ?? text.trim();
  } catch (cause) {
    throw new IsolaError({
      code: "bench-no-qemu",
      message: `starting ${QEMU}: not found or not usable; wanted: QEMU from Debian's package qemu-system-x86`,
      cause,
    });
  }
}

/** An image, made first where it is not on this machine. */
export async function openImage(name: string): Promise<StoredImage> {
  const store = new ImageStore();
  const found = await store.find(name);
  if (found !== undefined) return found;
  await store.pull(name, { progress: ({ step }) => console.error(`image ${name}: ${step}`) });
  const pulled = await store.find(name);
  if (pulled === undefined) {
    throw new IsolaError({ code: "bench-image", message: `image ${name}: gone right after it was made` });
  }
  return pulled;
}

/** isola as its command line starts it, compiled code kept as bin/isola.js does. */
export function isolaMachine(
  version: string,
  image: StoredImage,
  { engine, compiler }: Pick<BenchOptions, "engine" | "compiler">,
  boots?: Boots,
): Machine {
  const environment = { NODE_COMPILE_CACHE: join(dirname(defaultImageDirectory()), "compiled") };
  const command = { machine: "isola", program: process.execPath, channel: true, environment };
  const from =
    boots === undefined
      ? [image.manifest.name, "--memory", `${MEMORY_MIB}M`]
      : ["--kernel", image.paths.vmlinux, "--initrd", boots.initramfs, "--append", image.commandLine].concat([
          "--memory",
          `${boots.memoryMib}M`,
        ]);
  const how = engine === "kvm" ? ["--engine", "kvm"] : ["--compiler", compiler];
  const args = [ISOLA_GUEST, "run", ...from, ...how];
  const name = compiler === "off" && boots !== undefined ? "interpreter" : "isola";
  return { name, version, start: () => new GuestProcess({ ...command, args }) };
}

/** QEMU's options that say what runs the guest's code. */
export const accelerator = ({ engine, qemuCpu }: Pick<BenchOptions, "engine" | "qemuCpu">): string =>
  engine === "kvm" ? "-accel kvm -cpu host" : `-accel tcg -cpu ${qemuCpu}`;

/**
 * QEMU's microvm. By TCG its microvm has no port 61h, so a kernel there can only calibrate the TSC by the PIT's quick
 * way, which fails when the host is busy, and the boot then hangs for want of any timer. The frequency is therefore
 * given, as isola gives it through CPUID.
 */
export function qemuMachine(
  image: StoredImage,
  { engine, qemuCpu }: Pick<BenchOptions, "engine" | "qemuCpu">,
  boots?: QemuBoots,
): Machine {
  const { initramfs, memoryMib } = boots ?? { initramfs: image.paths.initramfs, memoryMib: MEMORY_MIB };
  const kernel = boots?.kernel ?? image.paths.vmlinux;
  const khz = engine === "kvm" ? undefined : hostTscKhz();
  const commandLine = khz === undefined ? image.commandLine : `${image.commandLine} tsc_early_khz=${khz}`;
  const board = `-M microvm,pic=on,pit=on,rtc=on ${accelerator({ engine, qemuCpu })} -smp 1 -m ${memoryMib}M`;
  const files = ["-kernel", kernel, "-initrd", initramfs, "-append", commandLine];
  const console = "-nodefaults -nographic -serial stdio -no-reboot";
  const args = [...board.split(" "), ...files, ...console.split(" ")];
  return {
    name: "qemu",
    version: qemuVersion(),
    start: () => new GuestProcess({ machine: "QEMU", program: QEMU, args, channel: false }),
  };
}

/** Boots a machine to its shell; a boot that fails is tried once more, and said so. @throws IsolaError */
export async function boot(machine: Machine, timeoutSeconds: number): Promise<BootedGuest> {
  let retried: string | undefined;
  for (;;) {
    const guest = machine.start();
    try {
      const init = await guest.mark("init", timeoutSeconds);
      const shell = await guest.mark("shell", timeoutSeconds);
      const figures = guest.messages as IsolaFigures[];
      if (machine.name === "isola" || machine.name === "interpreter") {
        await guest.until("figures", timeoutSeconds, () => figures.some(({ mark }) => mark === "shell"));
      }
      return { name: machine.name, guest, init, shell, figures: [...figures], retried };
    } catch (error) {
      const unstable = /TSC unstable/.test(guest.output) ? " (the kernel found the TSC unstable)" : "";
      await guest.kill();
      if (retried !== undefined || !(error instanceof IsolaError)) throw error;
      retried = `${error.message}${unstable}`;
    }
  }
}
