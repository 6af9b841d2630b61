/** How the commands on a server are defined: with the options that all take, and a connection that is let go. */

import type { Command } from "commander";
import type { CliHost, Outcome } from "../host.ts";
import { Remote, type RemoteFlags, remoteOptions } from "./remote.ts";

type Run<F> = (remote: Remote, args: readonly unknown[], flags: F) => Promise<Outcome>;

export interface Define {
  /** Begins a command of this group. */
  (name: string, description: string): Command;
  /** The action of a command: its arguments and its options, as commander has parsed them. */
  run<F>(run: Run<F>): (...args: unknown[]) => Promise<void>;
}

/** `parent`: where the commands are added; `done` is told each command's outcome. */
export function definer(parent: Command, host: CliHost, done: (outcome: Outcome) => void): Define {
  const define = (name: string, description: string): Command =>
    remoteOptions(parent.command(name).description(description));
  return Object.assign(define, {
    run:
      <F>(run: Run<F>) =>
      async (...given: unknown[]): Promise<void> => {
        // Commander passes the arguments, then the options, then the command.
        const flags = given[given.length - 2] as F & RemoteFlags;
        using remote = new Remote(host, flags);
        done(await run(remote, given.slice(0, -2), flags));
      },
  });
}
