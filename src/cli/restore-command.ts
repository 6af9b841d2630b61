/** `isola restore`: goes on with a guest that was saved to a file. */

import { openSavedFile } from "../fleet/saved-file.ts";
import type { TraceName } from "../machine/vm-contract.ts";
import type { DiskOption } from "./disk-option.ts";
import { GuestSession, openDisks } from "./guest-session.ts";
import type { CliHost, Outcome } from "./host.ts";
import { engineOf } from "./run-command.ts";
import type { EngineOption, ScreenName } from "./run-options.ts";

export interface RestoreCommandOptions {
  readonly file: string;
  readonly disks: readonly DiskOption[];
  readonly engine: EngineOption;
  readonly screen: ScreenName;
  readonly trace: readonly TraceName[];
  readonly name?: string;
  readonly saveTo?: string;
}

/** Runs the guest to its end. Throws IsolaErrors where the file cannot be gone on with; nothing is changed then. */
export async function restoreCommand(host: CliHost, options: RestoreCommandOptions): Promise<Outcome> {
  await using opened = new AsyncDisposableStack();
  const saved = opened.use(await openSavedFile(options.file));
  const disks = await openDisks(opened, options.disks, options.name);
  const { state } = saved;
  const { trace, name } = options;
  const { cpu, clock } = state.machine;
  const { engine, why } = engineOf(host, options.engine, { cpu, tscHz: clock.tscHz });
  const vm = host.restoreVm({ saved: state, engine, trace, disks });
  if (name !== undefined) process.title = `isola ${name}`;
  const session = new GuestSession(host, { ...options, memoryBytes: state.machine.config.ramBytes, disks });
  const whyNoReboot = "since a restored guest is not started anew";
  const note = why === undefined ? {} : { note: why };
  return await session.run({ vm, typed: state.machine.typed, ...note }, whyNoReboot);
}
