/**
 * The life of a virtual machine as one table: its states, and what each operation does in each of them.
 *
 *   stopped ── start ──> starting ──> running <── pause / resume ──> paused
 *      ^                    │            │                             │
 *      │                    v            ├── stop (power button) ──> stopping ──> stopped
 *      ├── save, which keeps its state for the next start <── running, paused
 *      │
 *   failed <── crash, kill from outside, restarts used up               │
 *      │                                                              kill ──> stopped
 *      └── restarting (waits for its next try) ──> starting
 *
 * "already" is the operation's own aim: it answers well and does nothing. What is neither is refused with a reason.
 */

import { FleetError } from "./fleet-error.ts";

export const VM_STATES = [
  /** Off: never started, powered off, stopped or killed on request. */
  "stopped",
  /** Its process is being made and its kernel loaded. */
  "starting",
  "running",
  /** Guest time stands still; RAM stays. */
  "paused",
  /** The power button was pressed; after the grace time it is forced off. */
  "stopping",
  /** It ended by a failure and its restart policy tries again soon. */
  "restarting",
  /** It ended by a failure: its own, its engine's or its process's. */
  "failed",
  /** Its files are being removed. */
  "removing",
] as const;
export type VmState = (typeof VM_STATES)[number];

export const VM_OPERATIONS = [
  "start",
  "pause",
  "resume",
  "save",
  "stop",
  "reset",
  "kill",
  "remove",
  "rename",
  "update",
] as const;
export type VmOperation = (typeof VM_OPERATIONS)[number];

interface Rule {
  /** States in which the operation does its work. */
  readonly from: readonly VmState[];
  /** States that it would lead to: it answers well and changes nothing. */
  readonly already: readonly VmState[];
  /** State while it works, and at its good end; absent: unchanged. */
  readonly via?: VmState;
  readonly to?: VmState;
  /** The way out where it is refused. */
  readonly otherwise: string;
}

/** States in which the VM has a process, or is about to. */
export const ACTIVE_STATES = ["starting", "running", "paused", "stopping"] as const satisfies readonly VmState[];
const OFF: readonly VmState[] = ["stopped", "failed"];

export const LIFECYCLE: Readonly<Record<VmOperation, Rule>> = {
  start: {
    from: ["stopped", "failed", "restarting"],
    already: ["starting", "running"],
    via: "starting",
    to: "running",
    otherwise: "a paused VM is resumed; one that is stopping is started once it has stopped",
  },
  pause: { from: ["running"], already: ["paused"], to: "paused", otherwise: "only a running VM can be paused" },
  resume: { from: ["paused"], already: ["running"], to: "running", otherwise: "only a paused VM can be resumed" },
  save: {
    from: ["running", "paused"],
    already: [],
    to: "stopped",
    otherwise: "only a VM that runs, or is paused, has a state to save",
  },
  stop: {
    from: ["starting", "running", "paused", "restarting"],
    already: ["stopped", "failed", "stopping"],
    via: "stopping",
    to: "stopped",
    otherwise: "it is being removed",
  },
  reset: {
    from: ["running", "paused"],
    already: [],
    to: "running",
    otherwise: "only a VM that runs can be reset; start it",
  },
  kill: {
    from: ["starting", "running", "paused", "stopping", "restarting"],
    already: ["stopped", "failed"],
    to: "stopped",
    otherwise: "it is being removed",
  },
  remove: {
    from: OFF,
    already: ["removing"],
    via: "removing",
    otherwise: "stop it first, or force the removal",
  },
  rename: {
    from: ["stopped", "failed", "starting", "running", "paused", "stopping", "restarting"],
    already: [],
    otherwise: "it is being removed",
  },
  update: {
    from: ["stopped", "failed", "running", "paused", "restarting"],
    already: [],
    otherwise: "wait until it has started, stopped or gone",
  },
};

/**
 * Whether `operation` has work to do on a VM in `state`: false where the VM is already where it leads.
 * @throws FleetError `illegal-transition`
 */
export function admits(operation: VmOperation, state: VmState, name: string): boolean {
  const rule = LIFECYCLE[operation];
  if (rule.from.includes(state)) return true;
  if (rule.already.includes(state)) return false;
  throw new FleetError({
    code: "illegal-transition",
    message: `cannot ${operation} ${name}: it is ${state}, wanted: ${rule.from.join(", ")}; ${rule.otherwise}`,
    details: { operation, state, wanted: rule.from },
  });
}
