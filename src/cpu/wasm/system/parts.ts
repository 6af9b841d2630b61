/** What the units of system behaviour share: one of each for a vCPU. */

import type { EngineHost } from "../engine-host.ts";
import { StateView } from "../state-view.ts";
import { Breakpoints } from "./breakpoints.ts";
import { LinearMemory } from "./linear-memory.ts";
import { SegmentUnit } from "./segments.ts";
import { Stack } from "./stack.ts";

/** Where an event comes from. `software`: INT n, INT3, INTO, whose gates are checked against CPL. `trap`: INT1. */
export type EventSource = "exception" | "external" | "software" | "trap";

/** What waits until the present instruction or event is done. */
export interface Pending {
  /** The T flag of the TSS just switched to: #DB before the task's first instruction. */
  taskTrap: boolean;
}

export interface SystemParts {
  readonly host: EngineHost;
  readonly view: StateView;
  readonly memory: LinearMemory;
  readonly segments: SegmentUnit;
  readonly stack: Stack;
  readonly pending: Pending;
  readonly breakpoints: Breakpoints;
}

export function systemParts(host: EngineHost, view = new StateView(host.memory, host.stateBase)): SystemParts {
  const memory = new LinearMemory(host);
  return {
    host,
    view,
    memory,
    segments: new SegmentUnit(host, view, memory),
    stack: new Stack(memory, view),
    pending: { taskTrap: false },
    breakpoints: new Breakpoints(host, view),
  };
}
