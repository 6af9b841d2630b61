/** What the commands take from outside, in one place, so that tests can run them against a VM and a store of their own. */

import type { EngineChoice, ProcessorWanted } from "../fleet/engine-choice.ts";
import type { ImageStore } from "../images/store.ts";
import type { CreateVm, RestoreVm } from "../machine/vm-contract.ts";
import type { RunningServer, ServeOptions } from "./remote/serve.ts";
import type { TerminalStreams } from "./terminal.ts";

/** What the commands ask of the store of guest images. */
export type Images = Pick<ImageStore, "list" | "pull" | "open" | "remove">;

export interface CliHost {
  readonly streams: TerminalStreams;
  readonly createVm: CreateVm;
  /** The engine that this host runs guests best on. */
  /** `wanted`: the processor of a guest that is to go on. */
  readonly chooseEngine: (wanted?: ProcessorWanted) => EngineChoice;
  readonly restoreVm: RestoreVm;
  readonly openStore: () => Images;
  readonly version: string;
  /** Runs a server in this process. */
  readonly serve: (options: ServeOptions) => Promise<RunningServer>;
}

/** How a command ends: with an exit status, or by a signal that isola was sent and passes on to itself. */
export type Outcome = number | NodeJS.Signals;
