/**
 * The first process of isola's own image: it makes a bare kernel into a host for virtual machines, runs the command
 * that the image was made for, and switches the machine off when that has ended.
 *
 * The image's file /etc/isola/appliance.json says what to run; what it holds is the image's maker's, hence trusted.
 */

import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { type HostControl, linuxHostControl, MS_NODEV, MS_NOEXEC, MS_NOSUID } from "../sys/host-control.ts";
import { ERRNO, errnoName, SysError } from "../sys/sys.ts";
import { modulesFor, parseModuleIndex } from "./kernel-modules.ts";

const CONFIGURATION = "/etc/isola/appliance.json";

/** What the image was made for. */
export interface ApplianceConfiguration {
  readonly hostname: string;
  /** Program and arguments; its standard streams are the console. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Directories of the file system that are to be there. */
  readonly directory: string;
}

const SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC;
const MOUNTS = [
  { type: "proc", target: "/proc", flags: SAFE },
  { type: "sysfs", target: "/sys", flags: SAFE },
  { type: "devtmpfs", target: "/dev", flags: MS_NOSUID, data: "mode=0755" },
  { type: "devpts", target: "/dev/pts", flags: MS_NOSUID | MS_NOEXEC, data: "mode=0620,ptmxmode=0666" },
  { type: "tmpfs", target: "/dev/shm", flags: MS_NOSUID | MS_NODEV, data: "mode=1777" },
  { type: "tmpfs", target: "/run", flags: MS_NOSUID | MS_NODEV, data: "mode=0755" },
  { type: "tmpfs", target: "/tmp", flags: MS_NOSUID | MS_NODEV, data: "mode=1777" },
  { type: "cgroup2", target: "/sys/fs/cgroup", flags: SAFE },
] as const;

/** The control group that is the command's; whatever makes groups for VMs finds it in the environment. */
const DELEGATED = "/sys/fs/cgroup/isola";

const say = (line: string): void => console.log(`isola: ${line}`);

/** The initramfs may have some of them already. */
function mountAll(control: HostControl): void {
  for (const request of MOUNTS) {
    mkdirSync(request.target, { recursive: true });
    try {
      control.mount(request);
    } catch (error) {
      if (!(error instanceof SysError) || error.errno !== ERRNO.EBUSY) throw error;
    }
  }
}

/** Gives the command a control group with the controllers that VMs are held by. */
function delegate(): void {
  for (const name of ["cpu", "memory", "pids"]) {
    try {
      writeFileSync("/sys/fs/cgroup/cgroup.subtree_control", `+${name}`);
    } catch (error) {
      say(`control groups have no ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  mkdirSync(DELEGATED, { recursive: true });
}

/** Every `modalias` of sysfs. */
function* modaliases(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* modaliases(path);
    else if (entry.name === "modalias") yield readFileSync(path, "utf8").trim();
  }
}

/** A bus's driver brings the devices behind it, so it goes on until nothing new is found. */
function loadDrivers(control: HostControl): void {
  const root = `/lib/modules/${release()}`;
  const index = parseModuleIndex(
    readFileSync(join(root, "modules.dep"), "utf8"),
    readFileSync(join(root, "modules.alias"), "utf8"),
  );
  const tried = new Set<string>();
  for (;;) {
    const fresh = modulesFor(index, new Set(modaliases("/sys/devices"))).filter((name) => !tried.has(name));
    if (fresh.length === 0) return;
    for (const name of fresh) {
      tried.add(name);
      const result = control.loadModule(join(root, index.modules.get(name)?.path ?? ""));
      // A module that finds its hardware lacking says ENODEV or EOPNOTSUPP, which is its answer, not a failure.
      if (result < 0 && result !== -ERRNO.EEXIST) say(`kernel module ${name}: ${errnoName(-result)}`);
    }
  }
}

/** Children of children that have ended are handed to process 1, whose runtime waits only for its own. */
function reapOrphans(control: HostControl, own: ReadonlySet<number>): void {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || own.has(Number(name))) continue;
    try {
      // pid (comm) state ppid: the name may hold anything, so what follows its last parenthesis counts.
      const [state, parent] = readFileSync(`/proc/${name}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
      if (state === "Z" && parent === "1") control.reap(Number(name));
    } catch {
      // It is gone.
    }
  }
}

function run(control: HostControl, { command, environment, directory }: ApplianceConfiguration): Promise<string> {
  const [program = "", ...args] = command;
  const env = { ...process.env, ISOLA_CGROUP: DELEGATED, ...environment };
  const child = spawn(program, args, { stdio: "inherit", cwd: directory, env });
  const own = new Set(child.pid === undefined ? [] : [child.pid]);
  const reaper = setInterval(() => reapOrphans(control, own), 5000);
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(`could not start: ${error.message}`));
    child.once("exit", (status, signal) => resolve(signal === null ? `status ${status}` : `signal ${signal}`));
  }).then((how) => {
    clearInterval(reaper);
    return how as string;
  });
}

async function main(): Promise<void> {
  const control = linuxHostControl();
  try {
    mountAll(control);
    delegate();
    const configuration = JSON.parse(readFileSync(CONFIGURATION, "utf8")) as ApplianceConfiguration;
    writeFileSync("/proc/sys/kernel/hostname", configuration.hostname);
    loadDrivers(control);
    say(`${configuration.hostname} is up; ${(performance.now() / 1000).toFixed(1)} s in its first process`);
    say(`the command ended: ${await run(control, configuration)}`);
  } catch (error) {
    // The end of process 1 is a kernel panic: whatever failed is shown, and the machine goes off in order.
    say(`cannot go on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
  control.powerOff();
}

await main();
