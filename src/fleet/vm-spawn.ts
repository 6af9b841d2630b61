/** Makes a VM's process: opens its files, starts the launcher, and gives it the word to go on. */

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";
import type { SmbiosIdentity } from "../machine/smbios.ts";
import { placeLock, startTime } from "../sys/lock-file.ts";
import type { Walls } from "./confinement.ts";
import { FIRST_FILE_FD, type LaunchConfig, LISTEN_FD, type VmProcessConfig } from "./control-protocol.ts";
import { KVM_PATH } from "../cpu/kvm/kvm.ts";
import { FleetError } from "./fleet-error.ts";
import type { BootFiles } from "./boot-files.ts";
import type { VmGroup } from "./vm-group.ts";
import type { VmSpec } from "./vm-spec.ts";

/** Names in a VM's folder. */
export const VM_FILES = {
  socket: "control",
  exit: "exit.json",
  log: "console.log",
  errors: "process.log",
  /** A whole saved state, and one that is being written. */
  saved: "saved",
  saving: "saving",
} as const;
const ERROR_BYTES = 64 * 1024;
/** V8 would keep a copy of its built-in functions near the code it makes, 2 MiB for each thread of JavaScript. */
const MEMORY_FLAGS = ["--no-short-builtin-calls"];
/**
 * The C library's allocator: one arena for all threads, as in bin/isola.js, and what V8's compilers took goes back to
 * the host when they free it, 6 MB after a start: their segments of 32 KiB come from mappings of their own, which leave no
 * holes, another 9 MB. [mallopt(3)]
 */
const MALLOC_SETTINGS = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: "32768",
  MALLOC_TRIM_THRESHOLD_: "65536",
  MALLOC_TOP_PAD_: "0",
};

export interface SpawnOptions {
  readonly id: string;
  readonly number: number;
  readonly spec: VmSpec;
  readonly folder: string;
  /** The folder of its disks. */
  readonly disks: string;
  readonly secret: string;
  readonly boot: BootFiles;
  readonly engine: "wasm" | "kvm";
  readonly walls: Walls;
  /** Of the pool. */
  readonly processors: readonly number[];
  readonly budget: number | null;
  /** Whether to go on with the saved state. */
  readonly restore: boolean;
  /** Folder of the VM's program; see vm-program.ts. */
  readonly program: string;
  /** Its control group; undefined where the host has none for VMs. */
  readonly group: VmGroup | undefined;
}

export interface Spawned {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly pidStart: string;
  /** Lets the process go on. Until then it waits, and ends if this process ends. */
  go(): void;
}

/** Starts the process; it waits for `go`. @throws FleetError `start-failed` */
export async function spawnVm(options: SpawnOptions): Promise<Spawned> {
  const { spec, folder, boot, walls } = options;
  const opened: number[] = [];
  const open = (path: string, flags: string): number => {
    const fd = openSync(path, flags, 0o600);
    opened.push(fd);
    return fd;
  };
  try {
    const errors = open(join(folder, VM_FILES.errors), "w");
    // Numbers in the child, from FIRST_FILE_FD on.
    const files: number[] = [];
    const hand = (fd: number): number => FIRST_FILE_FD + files.push(fd) - 1;
    const config: VmProcessConfig = {
      name: spec.name,
      secret: options.secret,
      listen: walls.launcher ? { fd: LISTEN_FD } : { path: join(folder, VM_FILES.socket) },
      exitFd: hand(open(join(folder, VM_FILES.exit), "w")),
      logFd: hand(open(join(folder, VM_FILES.log), openFlags(join(folder, VM_FILES.log)))),
      saveFd: hand(open(join(folder, VM_FILES.saving), "w")),
      savedFd: options.restore ? hand(open(join(folder, VM_FILES.saved), "r")) : null,
      kernelFd: hand(open(boot.kernel, "r")),
      initrdFd: boot.initrd === null ? null : hand(open(boot.initrd, "r")),
      modules: boot.modules.map(({ path, commandLine }) => ({ fd: hand(open(path, "r")), commandLine })),
      disks: spec.disks.map(({ name, readonly: readOnly, bytesPerSecond, requestsPerSecond }) => {
        const fd = hand(open(diskPath(options.disks, name), readOnly ? "r" : "r+"));
        const limits = {
          ...(bytesPerSecond === null ? {} : { bytesPerSecond }),
          ...(requestsPerSecond === null ? {} : { requestsPerSecond }),
        };
        return { fd, name, readOnly, limits };
      }),
      memoryBytes: spec.memoryBytes,
      cpus: spec.cpu.count,
      cpu: spec.cpu.model,
      commandLine: boot.commandLine,
      engine: options.engine,
      kvmFd: options.engine === "kvm" ? hand(open(KVM_PATH, "r+")) : null,
      clock: spec.clock,
      fwCfg: spec.firmware.fwCfg,
      smbios: smbiosOf(options.id, spec),
      rebootOnReset: spec.rebootOnReset,
      budget: options.budget,
    };
    const program = (name: string): string => join(options.program, "fleet", `${name}.js`);
    const flags = walls.launcher ? walls.nodeFlags : [];
    const argv = [process.execPath, ...MEMORY_FLAGS, ...flags, program("vm-process"), spec.name];
    // The system's OpenSSL configuration is behind the wall, and Node does not start without one.
    const environment = {
      OPENSSL_CONF: "/dev/null",
      TZ: "UTC",
      UV_THREADPOOL_SIZE: "1",
      ...MALLOC_SETTINGS,
    };
    const launch: LaunchConfig = {
      listenPath: join(folder, VM_FILES.socket),
      keep: files.map((_, i) => FIRST_FILE_FD + i),
      processors: options.processors,
      noNewPrivileges: true,
      landlock: walls.landlock,
      uid: walls.uid(options.number),
      argv,
      environment,
    };
    const [command = "", ...rest] = walls.launcher ? [process.execPath, program("vm-launcher")] : argv;
    const child = spawn(command, rest, {
      // A session of its own: no signal of the server's terminal reaches it. The place of LISTEN_FD is kept free.
      detached: true,
      cwd: "/",
      env: environment,
      stdio: ["ignore", errors, errors, "pipe", "pipe", "ignore", ...files],
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    child.once("spawn", resolve);
    child.once("error", reject);
    await promise;
    const pid = child.pid ?? 0;
    const [, , , launchPipe, configPipe] = child.stdio as unknown as Writable[];
    // A process that ended early is seen by its end, not by a broken pipe.
    for (const pipe of [launchPipe, configPipe]) pipe?.on("error", () => undefined);
    child.unref();
    const pidStart = await startTime(pid);
    try {
      // It waits for the word: nothing of the VM's has run yet.
      options.group?.admit(pid);
      await lockDisks(options, pid, pidStart);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
    return {
      child,
      pid,
      pidStart,
      go() {
        launchPipe?.end(JSON.stringify(launch));
        configPipe?.end(JSON.stringify(config));
      },
    };
  } catch (cause) {
    if (cause instanceof FleetError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new FleetError({ code: "start-failed", message: `cannot start ${spec.name}: ${message}`, cause });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** What the guest is told: what was asked for, else a UUID and a serial number of its own. */
function smbiosOf(id: string, { firmware: { smbios } }: VmSpec): SmbiosIdentity {
  const given = Object.fromEntries(Object.entries(smbios).filter(([, value]) => value !== null));
  return { uuid: vmUuid(id), serial: id, ...given };
}

/** A VM's UUID, always the same, made from its id. [RFC 9562 §5.8] */
export function vmUuid(id: string): string {
  const bytes = createHash("sha256").update(`isola VM ${id}`).digest().subarray(0, 16);
  bytes[6] = 0x80 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Where a VM's disk lies in the folder of its disks. */
export const diskPath = (folder: string, name: string): string => join(folder, `${name}.raw`);

/** Puts the VM's process down as the one that has its disks; whatever ends it ends the locks. */
async function lockDisks({ spec, disks }: SpawnOptions, pid: number, pidStart: string): Promise<void> {
  for (const { name } of spec.disks) {
    const path = diskPath(disks, name);
    const holder = await placeLock(`${path}.lock`, `${pid} ${pidStart} ${spec.name}\n`);
    if (holder === undefined) continue;
    const [other = "?"] = holder.split(" ");
    throw new FleetError({
      code: "in-use",
      message: `cannot start ${spec.name}: process ${other} uses its disk ${path}; end that process first`,
    });
  }
}

/** A log is kept over restarts: opened for reading and writing, made where there is none. */
function openFlags(path: string): string {
  try {
    closeSync(openSync(path, "r+"));
    return "r+";
  } catch {
    return "w+";
  }
}

/** The last line that the VM's process wrote before it ended, for a person; empty where it wrote none. */
export function lastError(folder: string): string {
  try {
    const text = readFileSync(join(folder, VM_FILES.errors), "utf8").slice(-ERROR_BYTES);
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    return (lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1) ?? "").trim().slice(0, 500);
  } catch {
    return "";
  }
}
