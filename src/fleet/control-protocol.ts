/**
 * What a server and a VM's process say to each other over the VM's control socket, in the frames of frames.ts.
 *
 * A connection begins with `hello` and the VM's secret; anything else ends it. Then either side of it is one of two
 * things: a control connection (requests, each answered under its number, and notices), or, after `console`, a
 * console: frames of bytes both ways, and `gap` where the watcher fell behind.
 *
 * Nothing but types is imported here: a VM's process keeps what it loads for as long as it lives. The server checks what it is
 * told by control-answers.ts, the VM's process by control-request.ts.
 */

import type { SmbiosIdentity } from "../machine/smbios.ts";
import type { DiskLimits } from "../backends/throttle.ts";

export const VM_PROCESS_STATES = ["starting", "running", "paused", "stopping"] as const;
export type VmProcessState = (typeof VM_PROCESS_STATES)[number];

/** What a VGA in text mode shows. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
  readonly lines: string[];
  /** The same in colour, as a terminal prints it. */
  readonly painted: string[];
  /** Null: it is not shown. */
  readonly cursor: { readonly column: number; readonly row: number } | null;
}

/** Bytes of the keyboard in one request. */
export const MAX_KEY_CODES = 1024;

export type ControlCommand =
  | { readonly do: "hello"; readonly secret: string }
  /** Answered by a VmReport; from then on notices come too. */
  | { readonly do: "watch" }
  | { readonly do: "report" }
  | { readonly do: "pause" }
  | { readonly do: "resume" }
  | { readonly do: "reset" }
  | { readonly do: "stop"; readonly graceMs: number }
  | { readonly do: "kill" }
  /** Answered once the state is written; the process ends after that. */
  | { readonly do: "save" }
  /** Processors; null: no limit. */
  | { readonly do: "budget"; readonly processors: number | null }
  | { readonly do: "settings"; readonly rebootOnReset: boolean }
  /** Answered by a screen beside the report. */
  | { readonly do: "screen" }
  /** Bytes of scan code set 1, at most MAX_KEY_CODES. */
  | { readonly do: "keys"; readonly codes: readonly number[] }
  | { readonly do: "console"; readonly replayBytes: number };
export type ControlRequest = ControlCommand & { readonly id: number };

export interface VmReport {
  readonly state: VmProcessState;
  readonly resets: number;
  /** Processor time of the whole process, µs. */
  readonly cpuMicros: number;
  readonly throttledMs: number;
  readonly instructions: number;
}

/** Ends that a VM's process tells of itself. */
export const TOLD_EXIT_KINDS = [
  /** The guest switched itself off. */
  "power-off",
  /** Asked for: the grace time had passed, or kill. */
  "killed",
  /** Its state is saved: the next start goes on with it. */
  "saved",
  /** The guest reset itself and `rebootOnReset` is off. */
  "reset",
  /** The guest ended itself through isa-debug-exit. */
  "debug-exit",
  "triple-fault",
  /** isola's own failure. */
  "internal-error",
  /** It never came up. */
  "start-failed",
] as const;

/** How the VM ended, as its process leaves it behind. */
export interface ExitReport {
  readonly kind: (typeof TOLD_EXIT_KINDS)[number];
  readonly message: string;
  /** ISO 8601. */
  readonly time: string;
}

/** What a VM's process is handed, as JSON, through descriptor `CONFIG_FD`. Files are descriptors that it inherits. */
export interface VmProcessConfig {
  readonly name: string;
  readonly secret: string;
  /** The listening socket's descriptor; without a launcher, the path at which to listen. */
  readonly listen: { readonly fd: number } | { readonly path: string };
  readonly exitFd: number;
  readonly logFd: number;
  /** Where the whole state goes if that is asked for. */
  readonly saveFd: number;
  /** A saved state to go on with; null: the kernel is booted. */
  readonly savedFd: number | null;
  readonly kernelFd: number;
  /** The image's; null where it has none, or `modules` stand in its place. */
  readonly initrdFd: number | null;
  readonly modules: readonly { readonly fd: number; readonly commandLine: string }[];
  readonly disks: readonly {
    readonly fd: number;
    readonly name: string;
    readonly readOnly: boolean;
    readonly limits: DiskLimits;
  }[];
  readonly memoryBytes: number;
  readonly cpus: number;
  /** The processor's model. [isa/cpu-models.ts] */
  readonly cpu: string;
  readonly commandLine: string;
  readonly engine: "wasm" | "kvm";
  /** Of /dev/kvm; null: the engine needs none. */
  readonly kvmFd: number | null;
  readonly clock: { readonly offsetSeconds: number; readonly startAt: string | null };
  readonly fwCfg: readonly { readonly name: string; readonly text: string }[];
  readonly smbios: SmbiosIdentity;
  readonly rebootOnReset: boolean;
  readonly budget: number | null;
}

/** What the launcher is handed through descriptor `LAUNCH_FD`. Its arrival whole is the word to go on. */
export interface LaunchConfig {
  readonly listenPath: string;
  /** Descriptors to be kept over the exec. */
  readonly keep: readonly number[];
  readonly processors: readonly number[] | null;
  readonly noNewPrivileges: boolean;
  readonly landlock: readonly { readonly path: string; readonly allow: number }[] | null;
  readonly uid: number | null;
  /** Program, arguments and environment to become. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export const LAUNCH_FD = 3;
export const CONFIG_FD = 4;
/** Where the launcher puts the listening socket: named in the config that the VM's process reads. */
export const LISTEN_FD = 5;
export const FIRST_FILE_FD = 6;
