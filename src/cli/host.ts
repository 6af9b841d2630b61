/** What the commands take from outside, in one place, so that tests can run them against a VM and a store of their own. */

import type { CreateVm } from "../machine/vm-contract.ts";
import type { ImageStore } from "./image-store.ts";
import type { TerminalStreams } from "./terminal.ts";

export interface CliHost {
  readonly streams: TerminalStreams;
  readonly createVm: CreateVm;
  readonly openStore: () => ImageStore;
  readonly version: string;
}

/** How a command ends: with an exit status, or by a signal that isola was sent and passes on to itself. */
export type Outcome = number | NodeJS.Signals;
