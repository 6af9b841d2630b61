/** `isola apply`, `export` and `schema`: the server as a file says it, and the file as the server is. */

import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { parseDocument, stringify } from "yaml";
import { IsolaError } from "../../base/errors.ts";
import { formatSize } from "../../base/size.ts";
import { apiDocument } from "../../api/contract/api.ts";
import { type FleetFile, fleetFileJsonSchema, fleetFileSchema } from "../../api/contract/fleet-file.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { Outcome } from "../host.ts";
import { usageError } from "../report.ts";
import type { Define } from "./commands.ts";
import { exportFleet, planFleet, type ServerState, type Step } from "./fleet-plan.ts";
import type { Remote } from "./remote.ts";

/** More is no list of VMs, but an attempt to fill memory. */
const FILE_LIMIT_BYTES = 16 * 2 ** 20;

/** The file's contents, checked. Throws `file-invalid` with the place in the file. */
export function parseFleetFile(source: string, name: string): FleetFile {
  const refuse = (problem: string): IsolaError =>
    new IsolaError({ code: "file-invalid", message: `cannot apply ${name}: ${problem}` });
  if (source.length > FILE_LIMIT_BYTES) throw refuse(`it has more than ${formatSize(FILE_LIMIT_BYTES)}`);
  const document = parseDocument(source);
  const [wrong] = document.errors;
  if (wrong !== undefined) throw refuse(wrong.message.split("\n")[0] ?? "not YAML");
  let value: unknown;
  try {
    // JSON's data alone: aliases that multiply without end are refused by the parser.
    value = document.toJS();
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  const result = fleetFileSchema.safeParse(value);
  if (result.success) return value as FleetFile;
  const [issue] = result.error.issues;
  const place = issue?.path.join("/") ?? "";
  throw refuse(
    `${place === "" ? "the file" : place}: ${issue?.message ?? "not as the schema says"}; see \`isola schema\``,
  );
}

async function readSource(remote: Remote, path: string): Promise<string> {
  try {
    return path === "-" ? await text(remote.host.streams.stdin) : readFileSync(path, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new IsolaError({ code: "file-unreadable", message: `cannot read ${path}: ${reason}`, cause: error });
  }
}

async function stateOf({ api }: Remote): Promise<ServerState> {
  const [vms, projects, pools, templates] = await Promise.all([
    api.listVms(),
    api.listProjects(),
    api.listPools(),
    api.listTemplates(),
  ]);
  return { vms, projects, pools, templates };
}

async function take(remote: Remote, step: Step): Promise<void> {
  const { api } = remote;
  const { name } = step;
  switch (step.kind) {
    case "project":
      await api.putProject({ name, body: step.value });
      return;
    case "pool":
      await api.putPool({ name, body: step.value as never });
      return;
    case "template":
      await api.putTemplate({ name, body: step.value as never });
      return;
    case "create":
      await api.createVm({ body: step.spec as never });
      return;
    case "update":
      await api.updateVm({ vm: name, body: step.change });
      return;
    case "start":
    case "stop":
      await remote.operate({ kind: step.kind, vm: name });
      return;
    case "remove":
      await api.removeVm({ vm: name, query: { force: true } });
  }
}

interface ApplyFlags {
  readonly file?: string;
  readonly dryRun?: boolean;
  readonly prune?: boolean;
}

async function apply(remote: Remote, { file, dryRun = false, prune = false }: ApplyFlags): Promise<Outcome> {
  if (file === undefined) throw usageError("no file; wanted: -f vms.yaml, or -f - for stdin");
  const wanted = parseFleetFile(await readSource(remote, file), file === "-" ? "stdin" : file);
  const steps = planFleet(wanted, await stateOf(remote), { prune });
  const done: { step: string; error: string | null }[] = [];
  const failed = new Set<string>();
  for (const step of steps) {
    let error: string | null = null;
    // What failed for a VM makes its later steps senseless; the others go on.
    if (failed.has(step.name)) error = "not tried: an earlier step failed";
    else if (!dryRun) {
      try {
        await take(remote, step);
      } catch (thrown) {
        if (!(thrown instanceof IsolaError) || thrown.code === "server-unreachable") throw thrown;
        error = thrown.message;
        failed.add(step.name);
      }
    }
    done.push({ step: step.what, error });
    if (!remote.json) {
      if (error === null) remote.print(dryRun ? `would ${step.what}` : step.what);
      else remote.note(`cannot ${step.what}: ${error}`);
    }
  }
  if (remote.json) remote.printJson({ dryRun, steps: done });
  else if (steps.length === 0) remote.note("the server is as the file says");
  return failed.size === 0 ? EXIT_STATUS.ok.status : EXIT_STATUS.hostError.status;
}

const SCHEMAS = { vms: fleetFileJsonSchema, openapi: apiDocument } as const;

export function addApplyCommands(define: Define): void {
  define("apply", "bring the server to what a file says; done twice, the second changes nothing")
    .option("-f, --file <FILE>", "the file, in YAML or JSON; - for stdin")
    .option("--dry-run", "only show what would be done")
    .option("--prune", "remove VMs of the file's projects that it does not name, with their disks")
    .addHelpText(
      "after",
      "\nA VM that has to be off to be changed is stopped and started again.\n\nExamples:\n  isola apply -f vms.yaml --dry-run\n  isola export > vms.yaml && $EDITOR vms.yaml && isola apply -f vms.yaml",
    )
    .action(define.run((remote, _args, flags: ApplyFlags) => apply(remote, flags)));

  define("export", "write what the server has as a file for `isola apply`")
    .argument("[VM...]", "only these; else everything")
    .addHelpText("after", "\nExamples:\n  isola export > vms.yaml\n  isola export web db")
    .action(
      define.run(async (remote, [names]) => {
        const only = names as string[];
        // A name that is not there is an error, not an empty file.
        for (const vm of only) await remote.api.getVm({ vm });
        const file = exportFleet(await stateOf(remote), only, formatExact);
        if (remote.json) remote.printJson(file);
        else remote.host.streams.stdout.write(stringify(file));
        return EXIT_STATUS.ok.status;
      }),
    );
}

/** A size that reads back as the same bytes. */
function formatExact(bytes: number): string {
  for (const [unit, factor] of [
    ["G", 2 ** 30],
    ["M", 2 ** 20],
    ["K", 2 ** 10],
  ] as const) {
    if (bytes > 0 && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return String(bytes);
}

/** `isola schema`: needs no server. */
export function schemaText(name: string): string {
  if (!Object.hasOwn(SCHEMAS, name))
    throw usageError(`schema ${name}: no such schema; wanted: ${Object.keys(SCHEMAS).join(", ")}`);
  return `${JSON.stringify(SCHEMAS[name as keyof typeof SCHEMAS](), null, 2)}\n`;
}
