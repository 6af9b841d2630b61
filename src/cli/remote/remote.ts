/** What the commands share that talk to a server: where it is, how they print, how they follow an operation. */

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { IsolaError } from "../../base/errors.ts";
import type { Operation, VmStatus } from "../../api/contract/api.ts";
import { type Connection, connectTo, type ServerAddress } from "../../api/node/connect.ts";
import type { CliHost, Outcome } from "../host.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import { ProgressBar } from "../progress-bar.ts";
import { describeError, debugging, usageError } from "../report.ts";
import { defaultSocketPath } from "./state-folder.ts";

/** Options that every command on a server takes. */
export interface RemoteFlags {
  readonly server?: string;
  readonly ca?: string;
  readonly json?: boolean;
}

/** Where the server is: --server, else ISOLA_SERVER, else this user's own Unix socket. */
export function serverAddress(flags: RemoteFlags, environment: NodeJS.ProcessEnv): ServerAddress {
  const text = flags.server ?? environment["ISOLA_SERVER"] ?? "";
  if (text === "") return { socketPath: defaultSocketPath(environment) };
  if (text.startsWith("unix:")) return { socketPath: text.slice("unix:".length).replace(/^\/\/(?=\/)/, "") };
  if (text.startsWith("/")) return { socketPath: text };
  if (!/^https?:\/\/[^/]+\/?$/.test(text)) {
    throw usageError(`--server ${text}: not an address; wanted: unix:/PATH, http://HOST:PORT or https://HOST:PORT`);
  }
  const ca = flags.ca === undefined ? {} : { ca: readCertificate(flags.ca) };
  return { url: text.replace(/\/$/, ""), token: environment["ISOLA_TOKEN"], ...ca };
}

function readCertificate(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw usageError(`--ca ${path}: ${reason}; wanted: a certificate in PEM form`);
  }
}

export class Remote implements Disposable {
  readonly host: CliHost;
  readonly json: boolean;
  readonly #flags: RemoteFlags;
  #connection: Connection | undefined;

  constructor(host: CliHost, flags: RemoteFlags) {
    this.host = host;
    this.#flags = flags;
    this.json = flags.json ?? false;
  }

  get connection(): Connection {
    this.#connection ??= connectTo(serverAddress(this.#flags, process.env));
    return this.#connection;
  }

  get api(): Connection["api"] {
    return this.connection.api;
  }

  /** A line on stdout: what a person or a pipe reads. */
  print(text: string): void {
    this.host.streams.stdout.write(`${text}\n`);
  }

  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, 2));
  }

  /** A line on stderr: about what is done. */
  note(text: string): void {
    this.host.streams.stderr.write(`isola: ${text}\n`);
  }

  /** Does something to each, goes on after a failure, and tells of all; the status is that of a failure, if any. */
  async each(names: readonly string[], act: (name: string) => Promise<void>): Promise<Outcome> {
    let outcome: Outcome = EXIT_STATUS.ok.status;
    for (const name of names) {
      try {
        await act(name);
      } catch (error) {
        // Without a server, nothing else will work either.
        if (names.length === 1 || !(error instanceof IsolaError) || error.code === "server-unreachable") throw error;
        this.host.streams.stderr.write(`${describeError(error, debugging())}\n`);
        outcome = EXIT_STATUS.hostError.status;
      }
    }
    return outcome;
  }

  /** Sets an operation going and shows its progress; resolves to the VM at its end, or throws how it failed. */
  async operate(body: Parameters<Connection["api"]["beginOperation"]>[0]["body"]): Promise<VmStatus | undefined> {
    const begun = await this.api.beginOperation({ body });
    const bar = new ProgressBar(this.host.streams.stderr);
    let last: Operation = begun;
    try {
      for await (const operation of await this.api.followOperation({ id: begun.id })) {
        last = operation;
        const { step, fraction, totalBytes } = operation.progress;
        // Steps that are over at once are not worth a line.
        if (operation.state === "running" && fraction !== null) {
          bar.update({
            step: `${operation.vm.name}: ${step}`,
            fraction,
            ...(totalBytes === null ? {} : { totalBytes }),
          });
        }
      }
    } finally {
      bar.end();
    }
    if (last.state === "running") last = await this.api.getOperation({ id: begun.id });
    if (last.error !== null) throw new IsolaError({ code: last.error.code, message: last.error.message });
    return body.kind === "remove" ? undefined : await this.api.getVm({ vm: begun.vm.id });
  }

  [Symbol.dispose](): void {
    this.#connection?.close();
  }
}

/** Adds what every command on a server takes. */
export function remoteOptions(command: Command): Command {
  return command
    .option("--json", "as JSON")
    .option(
      "--server <ADDRESS>",
      "unix:/PATH, http://HOST:PORT or https://HOST:PORT (default: $ISOLA_SERVER, else this user's own)",
    )
    .option("--ca <FILE>", "a certificate to trust, for https");
}
