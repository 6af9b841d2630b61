/** `isola up`, `down` and `dashboard`: the server itself. */

import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { IsolaError } from "../../base/errors.ts";
import type { VmSpecInput } from "../../api/contract/api.ts";
import type { TcpAddress } from "../../api/server/server.ts";
import { hearEndSignals } from "../end-signals.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { CliHost, Outcome } from "../host.ts";
import { describeError, usageError } from "../report.ts";
import type { Define } from "./commands.ts";
import { Remote } from "./remote.ts";
import { defaultStateFolder, socketPathIn } from "./state-folder.ts";

const DEFAULT_LISTEN = "127.0.0.1:7070";
/** How long a server in the background may take to answer, in milliseconds, and how often it is asked. */
const START_LIMIT_MS = 30_000;
const START_LOOK_MS = 100;
/** A link to the dashboard works for so long. */
const LINK_DAYS = 30;
const LOG_TAIL_LINES = 5;

/** Three systems that have nothing in common: 64-bit, 32-bit, and a program without an operating system. */
const DEMO: readonly VmSpecInput[] = [
  { name: "debian", image: "debian", memoryBytes: "128M", description: "Debian's 64-bit kernel" },
  { name: "debian32", image: "debian-i386", memoryBytes: "128M", description: "Debian's 32-bit kernel" },
  {
    name: "memtest",
    image: "memtest86+",
    memoryBytes: "64M",
    cpu: { capPercent: 25 },
    description: "Memtest86+ on the bare machine, held to a quarter of a processor",
  },
];

export interface UpFlags {
  readonly demo?: boolean;
  readonly detach?: boolean;
  readonly listen?: string;
  readonly state?: string;
  readonly cgroup?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly json?: boolean;
  /** Given by `--detach` to the server that it starts: who called tells the person. */
  readonly background?: boolean;
}

/** `HOST:PORT`, `[IPv6]:PORT` or a port alone; undefined for "none". */
export function parseListen(text: string): { host: string; port: number } | undefined {
  if (text === "none") return undefined;
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]:|([^:\s]+):|)(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw usageError(`--listen ${text}: not an address; wanted: HOST:PORT, as in ${DEFAULT_LISTEN}, or none`);
  }
  return { host: bracketed ?? plain ?? "127.0.0.1", port };
}

function readFile(option: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw usageError(`--${option} ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function tcpAddress({ listen = DEFAULT_LISTEN, tlsCert, tlsKey }: UpFlags): TcpAddress | undefined {
  const address = parseListen(listen);
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw usageError("--tls-cert and --tls-key go together; wanted: both, or neither");
  }
  if (address === undefined || tlsCert === undefined || tlsKey === undefined) return address;
  return { ...address, tls: { cert: readFile("tls-cert", tlsCert), key: readFile("tls-key", tlsKey) } };
}

const isLoopback = (host: string): boolean => /^(127\.|::1$|localhost$)/.test(host);

/** How this command is called: the person's own words work again. */
function program(): string {
  return process.env["npm_execpath"] === undefined ? "isola" : "npx isola";
}

/** A new link to the dashboard; the token is in its fragment, which no browser sends anywhere. */
async function dashboardLink(remote: Remote, url: string): Promise<string> {
  const now = Date.now();
  const stamp = new Date(now).toISOString().replaceAll(/[-:]/g, "").slice(0, 15);
  const { secret } = await remote.api.createToken({
    body: {
      name: `dashboard-${stamp}-${now % 1000}`,
      scope: "admin",
      expires: new Date(now + LINK_DAYS * 86_400_000).toISOString(),
    },
  });
  return `${url}/#token=${secret}`;
}

/** Creates what is missing of the demonstration, and starts what is off. */
async function demonstrate(remote: Remote): Promise<void> {
  const present = new Map((await remote.api.listVms()).map((vm) => [vm.name, vm]));
  for (const spec of DEMO) {
    const { name } = spec;
    try {
      const vm = present.get(name) ?? (await remote.api.createVm({ body: spec }));
      if (vm.state !== "stopped" && vm.state !== "failed") {
        remote.note(`${name} is ${vm.state}`);
        continue;
      }
      remote.note(`${name}: starting (${spec.description})`);
      await remote.operate({ kind: "start", vm: name });
      remote.note(`${name} is running`);
    } catch (error) {
      remote.host.streams.stderr.write(`${describeError(error, false)}\n`);
      if (error instanceof IsolaError && error.code === "server-unreachable") return;
    }
  }
}

async function reachable(remote: Remote): Promise<boolean> {
  return await remote.api.getHealth().then(
    () => true,
    () => false,
  );
}

interface Where {
  readonly url: string | undefined;
  readonly socketPath: string;
  readonly stateFolder: string;
}

/** What a person needs to know of a server that is up. */
async function announce(remote: Remote, { url, socketPath, stateFolder }: Where): Promise<void> {
  const link = url === undefined ? undefined : await dashboardLink(remote, url);
  if (remote.json) {
    remote.printJson({ url: url ?? null, dashboard: link ?? null, socketPath, stateFolder });
    return;
  }
  remote.print(`isola is up`);
  if (link !== undefined) remote.print(`  dashboard  ${link}`);
  remote.print(`  socket     ${socketPath}`);
  remote.print(`  state      ${stateFolder}`);
}

function tryThese(remote: Remote, foreground: boolean): void {
  const isola = program();
  const lines = [
    [`${isola} ps`, "the VMs, what they may use and what they do use"],
    [`${isola} console debian`, "a shell in one; Ctrl-A x leaves"],
    [`${isola} top`, "the server, live"],
    [`${isola} create debian --name mine --start`, "one more"],
    [`${isola} down`, "stop the VMs and the server"],
  ] as const;
  const width = Math.max(...lines.map(([command]) => command.length));
  remote.print(foreground ? "Try, in another terminal:" : "Try:");
  for (const [command, what] of lines) remote.print(`  ${command.padEnd(width)}  ${what}`);
  if (foreground) remote.print("Ctrl-C ends the server; the VMs go on, and the next `isola up` finds them.");
}

/** Starts a server that outlives this process, and waits until it answers. */
async function detach(remote: Remote, stateFolder: string, flags: UpFlags): Promise<void> {
  mkdirSync(stateFolder, { recursive: true, mode: 0o711 });
  const logPath = join(stateFolder, "server.log");
  const log = openSync(logPath, "a", 0o600);
  const options = [
    ...(flags.listen === undefined ? [] : ["--listen", flags.listen]),
    ...(flags.cgroup === undefined ? [] : ["--cgroup", flags.cgroup]),
    ...(flags.tlsCert === undefined ? [] : ["--tls-cert", flags.tlsCert]),
    ...(flags.tlsKey === undefined ? [] : ["--tls-key", flags.tlsKey]),
  ];
  const [script = ""] = process.argv.slice(1);
  const arguments_ = [
    ...process.execArgv,
    script,
    "up",
    "--background",
    "--no-demo",
    "--state",
    stateFolder,
    ...options,
  ];
  const child = spawn(process.execPath, arguments_, { detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  let ended: string | undefined;
  child.once("exit", (status, signal) => {
    ended = signal ?? `status ${status}`;
  });
  child.once("error", (error) => {
    ended = error.message;
  });
  child.unref();
  const deadline = Date.now() + START_LIMIT_MS;
  while (ended === undefined && Date.now() < deadline) {
    if (await reachable(remote)) return;
    await sleep(START_LOOK_MS);
  }
  const tail = existsSync(logPath)
    ? readFileSync(logPath, "utf8").trim().split("\n").slice(-LOG_TAIL_LINES).join("; ")
    : "";
  throw new IsolaError({
    code: "server-failed",
    message: `the server did not come up (${ended ?? "it does not answer"}): ${tail.replaceAll("isola: ", "")}; see ${logPath}`,
  });
}

/** Runs the server here until a signal, or until somebody asks for its end. */
async function serveHere(
  remote: Remote,
  where: { stateFolder: string; socketPath: string },
  flags: UpFlags,
): Promise<Outcome> {
  const { host } = remote;
  const tcp = tcpAddress(flags);
  const { promise: ending, resolve: end } = Promise.withResolvers<Outcome>();
  const letGo = hearEndSignals(end);
  try {
    const server = await host.serve({
      ...where,
      ...(tcp === undefined ? {} : { tcp }),
      ...(flags.cgroup === undefined ? {} : { cgroup: flags.cgroup }),
      version: host.version,
      log: (line) => remote.note(line),
      shutDown: () => end(EXIT_STATUS.ok.status),
    });
    if (tcp !== undefined && tcp.tls === undefined && !isLoopback(tcp.host)) {
      remote.note(
        `tokens cross the network in the clear on ${tcp.host}; wanted: --tls-cert and --tls-key, or a loopback address`,
      );
    }
    if (flags.background !== true) await announce(remote, { ...where, url: server.url });
    const demonstration = flags.demo === false ? Promise.resolve() : demonstrate(remote);
    const begun = await Promise.race([demonstration.then(() => undefined), ending]);
    if (begun === undefined && !remote.json && flags.background !== true) tryThese(remote, true);
    const outcome = await ending;
    // A second Ctrl-C ends at once.
    letGo();
    const left = await remote.api.listVms().catch(() => []);
    const on = left.filter(({ state }) => state !== "stopped" && state !== "failed").map(({ name }) => name);
    await server.close();
    if (on.length > 0)
      remote.note(
        `the server has ended; ${on.join(", ")} go on: \`isola up\` finds them, \`isola down\` after it stops them`,
      );
    else remote.note("the server has ended");
    // Who asked for the end by Ctrl-C got what was asked for.
    return outcome === "SIGINT" || outcome === "SIGTERM" ? EXIT_STATUS.ok.status : outcome;
  } finally {
    letGo();
  }
}

async function up(host: CliHost, flags: UpFlags): Promise<Outcome> {
  const stateFolder = flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  const socketPath = socketPathIn(stateFolder);
  // Wrong options are told of before anything is started.
  tcpAddress(flags);
  using remote = new Remote(host, { server: `unix:${socketPath}`, json: flags.json ?? false });
  if (await reachable(remote)) {
    remote.note(
      `a server is up already, at ${socketPath}; \`isola dashboard\` makes a new link, \`isola down\` ends it`,
    );
    if (flags.demo !== false) await demonstrate(remote);
    return EXIT_STATUS.ok.status;
  }
  remote.note(`starting the server (state in ${stateFolder})`);
  if (flags.detach !== true) return await serveHere(remote, { stateFolder, socketPath }, flags);
  await detach(remote, stateFolder, flags);
  const { url } = await remote.api.getServer();
  await announce(remote, { url: url ?? undefined, socketPath, stateFolder });
  if (flags.demo !== false) await demonstrate(remote);
  if (!remote.json) tryThese(remote, false);
  return EXIT_STATUS.ok.status;
}

async function down(remote: Remote, { vms = true, time }: { vms?: boolean; time?: string }): Promise<Outcome> {
  const grace = time === undefined ? {} : { query: { graceSeconds: Number(time) } };
  if (time !== undefined && !(Number(time) >= 0 && Number(time) <= 3600)) {
    throw usageError(`--time ${time}: not a time; wanted: 0 to 3600 seconds`);
  }
  const stopped: string[] = [];
  let outcome: Outcome = EXIT_STATUS.ok.status;
  if (vms) {
    const on = (await remote.api.listVms()).filter(({ state }) => state !== "stopped" && state !== "failed");
    if (on.length > 0) remote.note(`stopping ${on.map(({ name }) => name).join(", ")}`);
    await Promise.all(
      on.map(async ({ id, name }) => {
        try {
          await remote.api.stopVm({ vm: id, ...grace });
          stopped.push(name);
        } catch (error) {
          remote.host.streams.stderr.write(`${describeError(error, false)}\n`);
          outcome = EXIT_STATUS.hostError.status;
        }
      }),
    );
  }
  if (outcome !== EXIT_STATUS.ok.status) {
    remote.note(
      "the server goes on, since not every VM has stopped; wanted: `isola kill` them, or `isola down --keep-vms`",
    );
    return outcome;
  }
  await remote.api.shutDown();
  if (remote.json) remote.printJson({ stopped });
  else remote.note(vms ? `stopped ${stopped.length} VMs and the server` : "the server has ended; the VMs go on");
  return outcome;
}

const UP_HELP = `
Without --no-demo it creates and starts three VMs at once: Debian 64-bit, Debian 32-bit, and Memtest86+, which is held to
a quarter of a processor.

Examples:
  isola up                              in the foreground; Ctrl-C ends the server, the VMs go on
  isola up -d --no-demo                 in the background, with what it had before
  isola up --listen 0.0.0.0:7070 --tls-cert cert.pem --tls-key key.pem
  isola up --listen none                by its Unix socket only
  isola up --cgroup /sys/fs/cgroup/isola  a control group for each VM below this one, which is the server's`;

export function addUpCommands(parent: Command, host: CliHost, define: Define, done: (outcome: Outcome) => void): void {
  parent
    .command("up")
    .description("start the server and its dashboard, with a demonstration")
    .option("--no-demo", "start no VMs of its own")
    .option("-d, --detach", "in the background")
    .option(
      "--listen <ADDRESS>",
      `where the dashboard and the API are; none: by the Unix socket only (default: ${DEFAULT_LISTEN})`,
    )
    .option("--tls-cert <FILE>", "a certificate, PEM: serve https")
    .option("--tls-key <FILE>", "its private key, PEM")
    .option(
      "--state <FOLDER>",
      "where the server keeps its state (default: $ISOLA_STATE, else ~/.local/state/isola; /var/lib/isola for root)",
    )
    .option(
      "--cgroup <FOLDER>",
      "a control group for the VMs, or none (default: $ISOLA_CGROUP, else the server's own where it is delegated)",
    )
    .option("--json", "as JSON")
    .addOption(new Option("--background").hideHelp())
    .addHelpText("after", UP_HELP)
    .action(async (flags: UpFlags) => done(await up(host, flags)));

  define("down", "stop all VMs by their power button, then end the server")
    .option("--keep-vms", "end the server only")
    .option("-t, --time <SECONDS>", "grace time of each VM (default: 10)")
    .addHelpText("after", "\nExamples:\n  isola down\n  isola down --keep-vms")
    .action(
      define.run((remote, _args, { keepVms = false, time }: { keepVms?: boolean; time?: string }) =>
        down(remote, { vms: !keepVms, ...(time === undefined ? {} : { time }) }),
      ),
    );

  define("dashboard", "a new link to the dashboard")
    .addHelpText(
      "after",
      `\nThe link works for ${LINK_DAYS} days; \`isola token list\` shows it, \`isola token revoke\` ends it.\n\nExamples:\n  isola dashboard`,
    )
    .action(
      define.run(async (remote) => {
        const { url } = await remote.api.getServer();
        if (url === null) {
          throw new IsolaError({
            code: "no-address",
            message: "the server listens on its Unix socket only; wanted: isola up --listen HOST:PORT",
          });
        }
        const link = await dashboardLink(remote, url);
        if (remote.json) remote.printJson({ url, dashboard: link });
        else remote.print(link);
        return EXIT_STATUS.ok.status;
      }),
    );
}
