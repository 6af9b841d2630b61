/** Commands that arrange the server: projects, templates, CPU pools, tokens, the audit log. */

import type { Command } from "commander";
import { formatSize, parseSize } from "../../base/size.ts";
import { SCOPES } from "../../api/contract/operation.ts";
import type { CliHost, Outcome } from "../host.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import { usageError } from "../report.ts";
import { table } from "../table.ts";
import { type Define, definer } from "./commands.ts";
import type { Remote } from "./remote.ts";
import { specOf, type VmFlags, vmOptions } from "./vm-options.ts";

const ok = EXIT_STATUS.ok.status;

/** A group of commands with a list, whose rows a person or a program reads. */
function list<T>(
  define: Define,
  description: string,
  group: string,
  fetch: (remote: Remote) => Promise<readonly T[]>,
  header: readonly string[],
  row: (item: T) => string[],
): void {
  define("list", description)
    .alias("ls")
    .addHelpText("after", `\nExamples:\n  isola ${group} list\n  isola ${group} list --json`)
    .action(
      define.run(async (remote) => {
        const items = await fetch(remote);
        if (remote.json) remote.printJson(items);
        else remote.print(table([header, ...items.map(row)]));
        return ok;
      }),
    );
}

function remove(
  define: Define,
  group: string,
  description: string,
  act: (remote: Remote, name: string) => Promise<unknown>,
): void {
  define("rm", description)
    .argument("<NAME...>")
    .addHelpText("after", `\nExamples:\n  isola ${group} rm old`)
    .action(
      define.run((remote, [names]) =>
        remote.each(names as string[], async (name) => {
          await act(remote, name);
          if (!remote.json) remote.print(name);
        }),
      ),
    );
}

/** A value of a quota: "none" takes the limit away. */
function quotaValue(option: string, text: string | undefined, bytes: boolean): number | null | undefined {
  if (text === undefined) return undefined;
  if (text === "none") return null;
  const value = bytes ? parseSize(text) : Number(text);
  if (value !== undefined && Number.isFinite(value) && value >= 0) return value;
  throw usageError(
    `--${option} ${text}: not a ${bytes ? "size" : "number"}; wanted: ${bytes ? "as in 2G" : "as in 4"}, or none`,
  );
}

const limit = (value: number | null, format: (value: number) => string = String): string =>
  value === null ? "-" : format(value);

interface QuotaFlags {
  readonly vms?: string;
  readonly memory?: string;
  readonly cpu?: string;
  readonly disk?: string;
}

function addProjects(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const group = parent.command("project").description("named groups of VMs, with quotas");
  const define = definer(group, host, done);
  list(
    define,
    "list projects, what they use and what they may",
    "project",
    (remote) => remote.api.listProjects(),
    ["PROJECT", "VMS", "MEMORY", "CPU RESERVED", "DISK"],
    ({ name, quota, used }) => [
      name,
      `${used.vms}/${limit(quota.vms)}`,
      `${formatSize(used.memoryBytes)}/${limit(quota.memoryBytes, formatSize)}`,
      `${used.cpuReservationPercent}%/${limit(quota.cpuReservationPercent, (value) => `${value}%`)}`,
      `${formatSize(used.diskBytes)}/${limit(quota.diskBytes, formatSize)}`,
    ],
  );
  define("set", "make a project, or change its quota")
    .argument("<NAME>")
    .option("--vms <N>", "at most so many VMs, or none for no limit")
    .option("--memory <SIZE>", "RAM of its VMs that are on")
    .option("--cpu <PERCENT>", "reservations together, in percent of one processor")
    .option("--disk <SIZE>", "disks together")
    .addHelpText(
      "after",
      "\nExamples:\n  isola project set shop --vms 4 --memory 2G --disk 10G\n  isola project set shop --memory none",
    )
    .action(
      define.run(async (remote, [name], flags: QuotaFlags) => {
        const values = {
          vms: quotaValue("vms", flags.vms, false),
          memoryBytes: quotaValue("memory", flags.memory, true),
          cpuReservationPercent: quotaValue("cpu", flags.cpu, false),
          diskBytes: quotaValue("disk", flags.disk, true),
        };
        const body = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
        const project = await remote.api.putProject({ name: name as string, body });
        if (remote.json) remote.printJson(project);
        else remote.print(project.name);
        return ok;
      }),
    );
  remove(define, "project", "remove projects that have no VMs", (remote, name) => remote.api.removeProject({ name }));
}

function addTemplates(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const group = parent.command("template").description("specs that VMs are created from");
  const define = definer(group, host, done);
  list(
    define,
    "list templates",
    "template",
    (remote) => remote.api.listTemplates(),
    ["TEMPLATE", "DESCRIPTION", "SPEC"],
    ({ name, description, spec }) => [name, description, JSON.stringify(spec)],
  );
  vmOptions(define("set", "make or replace a template"))
    .argument("<NAME>")
    .argument("[IMAGE]", "a guest image, as in `isola image list`")
    .addHelpText(
      "after",
      "\nExamples:\n  isola template set small debian --memory 96M --shares 256\n  isola create --template small --name a",
    )
    .action(
      define.run(async (remote, [name, image], flags: VmFlags) => {
        const { description, ...rest } = specOf(flags);
        const spec = { ...rest, ...(image === undefined ? {} : { image }) } as Record<string, never>;
        const body = { spec, ...(typeof description === "string" ? { description } : {}) };
        const template = await remote.api.putTemplate({ name: name as string, body });
        if (remote.json) remote.printJson(template);
        else remote.print(template.name);
        return ok;
      }),
    );
  remove(define, "template", "remove templates; VMs made from them stay", (remote, name) =>
    remote.api.removeTemplate({ name }),
  );
}

function addPools(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const group = parent.command("pool").description("sets of host processors that VMs share");
  const define = definer(group, host, done);
  list(
    define,
    "list CPU pools",
    "pool",
    (remote) => remote.api.listPools(),
    ["POOL", "PROCESSORS", "CORES"],
    ({ name, processors, cores }) => [name, processors.join(","), String(cores)],
  );
  define("set", "make or change a CPU pool")
    .argument("<NAME>")
    .argument("<PROCESSORS>", "numbers of host processors: 0,1 or 0-3")
    .option("--cores <N>", "how many of them it may keep busy (default: all)")
    .addHelpText("after", "\nExamples:\n  isola pool set batch 1 --cores 0.5\n  isola pool set default 0-3")
    .action(
      define.run(async (remote, [name, text], flags: { cores?: string }) => {
        const processors = parseProcessors(text as string);
        const cores = flags.cores === undefined ? processors.length : Number(flags.cores);
        if (!(cores > 0)) throw usageError(`--cores ${flags.cores}: not a number of processors`);
        const pool = await remote.api.putPool({ name: name as string, body: { processors, cores } });
        if (remote.json) remote.printJson(pool);
        else remote.print(pool.name);
        return ok;
      }),
    );
  remove(define, "pool", "remove CPU pools that no VM uses", (remote, name) => remote.api.removePool({ name }));
}

export function parseProcessors(text: string): number[] {
  const numbers = text.split(",").flatMap((part) => {
    const [, first, last] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (first === undefined) throw usageError(`processors ${text}: not a list; wanted: as in 0,1 or 0-3`);
    const to = Number(last ?? first);
    return Array.from({ length: Math.max(0, to - Number(first) + 1) }, (_, index) => Number(first) + index);
  });
  if (numbers.length === 0) throw usageError(`processors ${text}: none; wanted: as in 0,1 or 0-3`);
  return [...new Set(numbers)];
}

/** An ISO time so long from now: `30d`, `12h`, `15m`. */
export function parseExpiry(text: string, now: number): string {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (amount === undefined) throw usageError(`--expires ${text}: not a time; wanted: as in 30d, 12h or 15m`);
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[unit as "s" | "m" | "h" | "d"];
  return new Date(now + Number(amount) * seconds * 1000).toISOString();
}

interface TokenFlags {
  readonly scope: string;
  readonly project?: readonly string[];
  readonly expires?: string;
}

function addTokens(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const group = parent.command("token").description("who may call the server over TCP");
  const define = definer(group, host, done);
  list(
    define,
    "list tokens, without their secrets",
    "token",
    (remote) => remote.api.listTokens(),
    ["TOKEN", "SCOPE", "PROJECTS", "EXPIRES", "USED"],
    ({ name, scope, projects, expires, used }) => [
      name,
      scope,
      projects?.join(",") ?? "all",
      expires ?? "never",
      used ?? "never",
    ],
  );
  define("create", "make a token; its secret is shown this once")
    .argument("<NAME>")
    .option("--scope <SCOPE>", `${SCOPES.join(", ")}: each includes those before it`, "operate")
    .option(
      "--project <NAME>",
      "only this project, repeatable",
      (name: string, former: readonly string[] | undefined) => [...(former ?? []), name],
    )
    .option("--expires <TIME>", "as in 30d, 12h or 15m (default: never)")
    .addHelpText(
      "after",
      "\nExamples:\n  isola token create ci --scope operate --project shop --expires 30d\n  ISOLA_SERVER=http://host:7070 ISOLA_TOKEN=$(isola token create me) isola ps",
    )
    .action(
      define.run(async (remote, [name], { scope: asked, project, expires }: TokenFlags) => {
        const scope = SCOPES.find((candidate) => candidate === asked);
        if (scope === undefined) throw usageError(`--scope ${asked}: no such scope; wanted: ${SCOPES.join(", ")}`);
        const made = await remote.api.createToken({
          body: {
            name: name as string,
            scope,
            projects: project === undefined ? null : [...project],
            expires: expires === undefined ? null : parseExpiry(expires, Date.now()),
          },
        });
        if (remote.json) remote.printJson(made);
        else remote.print(made.secret);
        return ok;
      }),
    );
  define("revoke", "take tokens out of use at once")
    .argument("<NAME...>", "names or ids")
    .addHelpText("after", "\nExamples:\n  isola token revoke ci")
    .action(
      define.run((remote, [names]) =>
        remote.each(names as string[], async (name) => {
          await remote.api.revokeToken({ name });
          if (!remote.json) remote.print(name);
        }),
      ),
    );
}

function addAudit(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const define = definer(parent, host, done);
  define("audit", "who did what on the server, the newest last")
    .option("-n, --last <N>", "so many entries", "50")
    .addHelpText("after", "\nExamples:\n  isola audit\n  isola audit -n 1000 --json")
    .action(
      define.run(async (remote, _args, { last }: { last: string }) => {
        const number = Number(last);
        if (!(Number.isInteger(number) && number >= 1 && number <= 1000)) {
          throw usageError(`--last ${last}: not a number of entries; wanted: 1 to 1000`);
        }
        const entries = (await remote.api.listAudit({ query: { limit: number } })).reverse();
        const row = entries.map(({ time, who, address, operation, target, status }) => [
          time,
          who,
          address,
          operation,
          target,
          String(status),
        ]);
        if (remote.json) remote.printJson(entries);
        else remote.print(table([["TIME", "WHO", "FROM", "DID", "TO", "STATUS"], ...row]));
        return ok;
      }),
    );
}

export function addArrangeCommands(parent: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  addProjects(parent, host, done);
  addTemplates(parent, host, done);
  addPools(parent, host, done);
  addTokens(parent, host, done);
  addAudit(parent, host, done);
}
