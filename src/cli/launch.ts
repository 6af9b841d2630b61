/** From a process to the commands and back: errors become one line and a status, signals end isola as they should. */

import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { IsolaError } from "../base/errors.ts";
import { EXIT_STATUS } from "./exit-status.ts";
import type { CliHost, Outcome } from "./host.ts";
import { runProgram } from "./program.ts";
import { debugging, describeError } from "./report.ts";

const SIGNALLED_FLUSH_MS = 500;

function statusOfError(error: unknown): number {
  return error instanceof IsolaError && error.code === "usage"
    ? EXIT_STATUS.usage.status
    : EXIT_STATUS.hostError.status;
}

/** Resolves when the stream has passed on what was written to it, or never will. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) resolve();
    else stream.write("", () => resolve());
  });
}

async function endWith(outcome: Outcome, { stdout, stderr }: CliHost["streams"]): Promise<never> {
  const all = Promise.all([flushed(stdout), flushed(stderr)]);
  // Who sends a signal does not wait for a reader that has stopped reading.
  await (typeof outcome === "number" ? all : Promise.race([all, sleep(SIGNALLED_FLUSH_MS)]));
  if (typeof outcome === "number") process.exit(outcome);
  // Ends by the signal itself, so that a parent sees it; its handlers are gone.
  process.kill(process.pid, outcome);
  await sleep(1000);
  process.exit(128 + constants.signals[outcome]);
}

/** Runs the command line of this process; never returns. */
export async function launch(host: CliHost): Promise<never> {
  const { stderr } = host.streams;
  const unexpected = (error: unknown): void => {
    // The terminal may still be raw, where a line feed does not return the cursor; its exit hook restores the mode.
    const lines = describeError(error, debugging());
    stderr.write(stderr.isTTY ? `\r\n${lines.replaceAll("\n", "\r\n")}\r\n` : `${lines}\n`);
    process.exit(EXIT_STATUS.hostError.status);
  };
  process.on("uncaughtException", unexpected);
  process.on("unhandledRejection", unexpected);
  // A reader that closed stderr, or closed stdout before the help was written, is no reason to crash.
  stderr.on("error", () => undefined);
  host.streams.stdout.on("error", () => undefined);
  let outcome: Outcome;
  try {
    outcome = await runProgram(process.argv.slice(2), host);
  } catch (error) {
    stderr.write(`${describeError(error, debugging())}\n`);
    outcome = statusOfError(error);
  }
  return await endWith(outcome, host.streams);
}
