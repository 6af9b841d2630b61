/**
 * What a server and a VM's process say to each other over the VM's control socket, in the frames of frames.ts.
 *
 * A connection begins with `hello` and the VM's secret; anything else ends it. Then either side of it is one of two
 * things: a control connection (requests, each answered under its number, and notices), or, after `console`, a
 * console: frames of bytes both ways, and `gap` where the watcher fell behind.
 */

import { z } from "zod";

export const VM_PROCESS_STATES = ["starting", "running", "paused", "stopping"] as const;
export type VmProcessState = (typeof VM_PROCESS_STATES)[number];

/** What a VGA in text mode shows. */
export const screenSchema = z.object({
  columns: z.int(),
  rows: z.int(),
  lines: z.array(z.string()).meta({ description: "the text, a string each row, without the spaces at its end" }),
  painted: z
    .array(z.string())
    .meta({ description: "the same in colour, in full width: what a terminal prints [ECMA-48, SGR]" }),
  cursor: z.object({ column: z.int(), row: z.int() }).nullable().meta({ description: "null: it is not shown" }),
});
export type Screen = z.infer<typeof screenSchema>;

/** Bytes of the keyboard in one request. */
export const MAX_KEY_CODES = 1024;
const requestId = { id: z.int() };
export const controlRequestSchema = z.discriminatedUnion("do", [
  z.object({ ...requestId, do: z.literal("hello"), secret: z.string() }),
  /** Answered by a VmReport; from then on notices come too. */
  z.object({ ...requestId, do: z.literal("watch") }),
  z.object({ ...requestId, do: z.literal("report") }),
  z.object({ ...requestId, do: z.literal("pause") }),
  z.object({ ...requestId, do: z.literal("resume") }),
  z.object({ ...requestId, do: z.literal("reset") }),
  z.object({ ...requestId, do: z.literal("stop"), graceMs: z.number().nonnegative() }),
  z.object({ ...requestId, do: z.literal("kill") }),
  /** Processors; null: no limit. */
  z.object({ ...requestId, do: z.literal("budget"), processors: z.number().positive().nullable() }),
  z.object({ ...requestId, do: z.literal("settings"), rebootOnReset: z.boolean() }),
  /** Answered by a screen beside the report. */
  z.object({ ...requestId, do: z.literal("screen") }),
  /** Bytes of scan code set 1. */
  z.object({ ...requestId, do: z.literal("keys"), codes: z.array(z.int().min(0).max(255)).max(MAX_KEY_CODES) }),
  z.object({ ...requestId, do: z.literal("console"), replayBytes: z.number().nonnegative() }),
]);
export type ControlRequest = z.infer<typeof controlRequestSchema>;
type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;
export type ControlCommand = WithoutId<ControlRequest>;

export const vmReportSchema = z.object({
  state: z.enum(VM_PROCESS_STATES),
  resets: z.int().nonnegative(),
  /** Processor time of the whole process, µs. */
  cpuMicros: z.number().nonnegative(),
  throttledMs: z.number().nonnegative(),
  instructions: z.number().nonnegative(),
});
export type VmReport = z.infer<typeof vmReportSchema>;

export const controlAnswerSchema = z.union([
  z.object({ id: z.int(), ok: vmReportSchema, screen: screenSchema.nullable().optional() }),
  z.object({ id: z.int(), error: z.string() }),
  /** A change of state or use, unasked. */
  z.object({ notice: vmReportSchema }),
  z.object({ gap: z.number().nonnegative() }),
]);

/** How the VM ended, as its process leaves it behind. */
export const exitReportSchema = z.object({
  kind: z.enum(["power-off", "killed", "reset", "debug-exit", "triple-fault", "internal-error", "start-failed"]),
  message: z.string(),
  time: z.iso.datetime(),
});
export type ExitReport = z.infer<typeof exitReportSchema>;

/** What a VM's process is handed, as JSON, through descriptor `CONFIG_FD`. Files are descriptors that it inherits. */
export interface VmProcessConfig {
  readonly name: string;
  readonly secret: string;
  /** The listening socket's descriptor; without a launcher, the path at which to listen. */
  readonly listen: { readonly fd: number } | { readonly path: string };
  readonly exitFd: number;
  readonly logFd: number;
  readonly kernelFd: number;
  /** The image's; null where it has none, or `modules` stand in its place. */
  readonly initrdFd: number | null;
  readonly modules: readonly { readonly fd: number; readonly commandLine: string }[];
  readonly disks: readonly { readonly fd: number; readonly name: string; readonly readOnly: boolean }[];
  readonly memoryBytes: number;
  readonly commandLine: string;
  readonly engine: "wasm" | "kvm";
  readonly clock: { readonly offsetSeconds: number; readonly startAt: string | null };
  readonly fwCfg: readonly { readonly name: string; readonly text: string }[];
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
