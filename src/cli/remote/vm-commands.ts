/** Commands on single VMs: create them, move them through their life, change, show and remove them. */

import type { Command } from "commander";
import { EXIT_STATUS } from "../exit-status.ts";
import { usageError } from "../report.ts";
import { attachConsole } from "./console-command.ts";
import type { Remote } from "./remote.ts";
import { type VmFlags, specOf, vmOptions } from "./vm-options.ts";
import type { Define } from "./commands.ts";

interface CreateFlags extends VmFlags {
  readonly name?: string;
  readonly template?: string;
  readonly start?: boolean;
  readonly dryRun?: boolean;
}

const CREATE_HELP = `
Examples:
  isola create debian --name web --memory 128M --start
  isola create debian --name db --disk size=1G --cpu-reservation 20 --shares 2048
  isola create memtest86+ --name mt --cap 25 --start     at most a quarter of a processor
  isola create --template small --name a                  what the template says, but for what is given here
  isola create debian --name big --memory 3G --dry-run    whether there is room for it, changing nothing`;

/** `debian`, then `debian-2`, ...: the first name that no VM has. */
async function freeName(remote: Remote, base: string): Promise<string> {
  const stem = base.replaceAll("+", "").replace(/[^A-Za-z0-9]$/, "");
  const taken = new Set((await remote.api.listVms()).map(({ name }) => name));
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? stem : `${stem}-${number}`;
    if (!taken.has(name)) return name;
  }
}

async function create(remote: Remote, image: string | undefined, flags: CreateFlags): Promise<number> {
  const { template } = flags;
  if (image === undefined && flags.kernel === undefined && template === undefined) {
    throw usageError(
      "nothing to boot; wanted: an IMAGE as in `isola image list`, --kernel or --template; see isola create --help",
    );
  }
  const name = flags.name ?? (await freeName(remote, image ?? template ?? "vm"));
  const body = { ...specOf(flags), ...(image === undefined ? {} : { image }), name };
  const query = template === undefined ? {} : { query: { template } };
  if (flags.dryRun === true) {
    const spec = await remote.api.checkVm({ body, ...query });
    if (remote.json) remote.printJson(spec);
    else remote.print(`${name}: there is room for it`);
    return EXIT_STATUS.ok.status;
  }
  let vm = await remote.api.createVm({ body, ...query });
  if (flags.start === true) vm = (await remote.operate({ kind: "start", vm: vm.id })) ?? vm;
  if (remote.json) remote.printJson(vm);
  else remote.print(vm.name);
  return EXIT_STATUS.ok.status;
}

/** A command that does one thing to each VM it is given, and prints their names. */
function lifecycle(
  define: Define,
  kind: "start" | "pause" | "resume" | "save" | "reset" | "kill",
  description: string,
  more: string,
): Command {
  return define(kind, description)
    .argument("<VM...>", "names or ids")
    .addHelpText("after", `\nExamples:\n  isola ${kind} web\n  ${more}`);
}

export function addVmCommands(define: Define): void {
  vmOptions(define("create", "create a VM; it is off until it is started"))
    .argument("[IMAGE]", "a guest image, as in `isola image list`")
    .option("--name <NAME>", "its name (default: the image's)")
    .option("--template <NAME>", "a template that gives what is left out here")
    .option("--start", "start it at once")
    .option("--dry-run", "only check whether it could be created")
    .addHelpText("after", CREATE_HELP)
    .action(define.run((remote, [image], flags: CreateFlags) => create(remote, image as string | undefined, flags)));

  const kinds = [
    ["start", "power VMs on, or go on with their saved state", "isola start web db && isola console web"],
    ["pause", "let VMs' time stand still; their memory stays", "isola pause web && isola resume web"],
    ["resume", "let paused VMs go on", "isola resume web db"],
    ["save", "save VMs' whole state and switch them off; start goes on with it", "isola save web && isola start web"],
    ["reset", "press VMs' reset button", "isola reset web db"],
    ["kill", "pull VMs' plug: what the guest has not written is lost", "isola kill web db"],
  ] as const;
  for (const [kind, description, example] of kinds) {
    const command = lifecycle(define, kind, description, example);
    if (kind === "start") {
      command.option("-a, --attach", "go on with the console of the first");
      command.option("--cold", "drop a saved state, and boot");
    }
    command.action(
      define.run(async (remote, [names], flags: { attach?: boolean; cold?: boolean }) => {
        const vms: unknown[] = [];
        const outcome = await remote.each(names as string[], async (vm) => {
          const cold = kind === "start" && flags.cold === true;
          const status = cold ? await remote.api.startVm({ vm, query: { cold } }) : await remote.operate({ kind, vm });
          if (remote.json) vms.push(status);
          else if (flags.attach !== true) remote.print(vm);
        });
        if (remote.json) remote.printJson(vms);
        const [first] = names as string[];
        if (flags.attach !== true || first === undefined || outcome !== EXIT_STATUS.ok.status) return outcome;
        return await attachConsole(remote, first, {});
      }),
    );
  }

  define("stop", "press VMs' power button, and pull the plug after a grace time")
    .argument("<VM...>", "names or ids")
    .option("-t, --time <SECONDS>", "the grace time (default: 10)")
    .addHelpText("after", "\nExamples:\n  isola stop web\n  isola stop web db --time 60")
    .action(
      define.run(async (remote, [names], flags: { time?: string }) => {
        const graceSeconds = flags.time === undefined ? undefined : Number(flags.time);
        if (graceSeconds !== undefined && !(graceSeconds >= 0 && graceSeconds <= 3600)) {
          throw usageError(`--time ${flags.time}: not a time; wanted: 0 to 3600 seconds`);
        }
        const vms: unknown[] = [];
        const outcome = await remote.each(names as string[], async (vm) => {
          const grace = graceSeconds === undefined ? {} : { graceSeconds };
          vms.push(await remote.operate({ kind: "stop", vm, ...grace }));
          if (!remote.json) remote.print(vm);
        });
        if (remote.json) remote.printJson(vms);
        return outcome;
      }),
    );

  define("rm", "remove VMs and their disks")
    .argument("<VM...>", "names or ids")
    .option("-f, --force", "kill what runs; no error for what is not there")
    .addHelpText("after", "\nExamples:\n  isola rm web\n  isola rm -f web db")
    .action(
      define.run(async (remote, [names], { force = false }: { force?: boolean }) => {
        const removed: string[] = [];
        const outcome = await remote.each(names as string[], async (vm) => {
          try {
            await remote.api.removeVm({ vm, query: { force } });
          } catch (error) {
            if (force && (error as { code?: unknown }).code === "not-found") return;
            throw error;
          }
          removed.push(vm);
          if (!remote.json) remote.print(vm);
        });
        if (remote.json) remote.printJson({ removed });
        return outcome;
      }),
    );

  define("rename", "give a VM another name")
    .argument("<VM>", "its name or id")
    .argument("<NAME>", "the new name")
    .addHelpText("after", "\nExamples:\n  isola rename web old-web")
    .action(
      define.run(async (remote, [vm, name]) => {
        const status = await remote.api.renameVm({ vm: vm as string, body: { name: name as string } });
        if (remote.json) remote.printJson(status);
        else remote.print(status.name);
        return EXIT_STATUS.ok.status;
      }),
    );

  vmOptions(define("update", "change a VM; most needs it off, shares, cap, pool and reservation act at once"))
    .argument("<VM>", "its name or id")
    .option("--no-cap", "take its cap away")
    .addHelpText("after", "\nExamples:\n  isola update web --cap 50 --shares 512\n  isola update web --memory 512M")
    .action(
      define.run(async (remote, [vm], flags: Omit<VmFlags, "cap"> & { cap?: string | boolean }) => {
        const { cap, ...rest } = flags;
        const spec = specOf({ ...rest, ...(typeof cap === "string" ? { cap } : {}) });
        if (cap === false) spec["cpu"] = { ...(spec["cpu"] as object | undefined), capPercent: null };
        if (Object.keys(spec).length === 0) throw usageError("nothing to change; see isola update --help");
        const status = await remote.api.updateVm({ vm: vm as string, body: spec });
        if (remote.json) remote.printJson(status);
        else remote.print(status.name);
        return EXIT_STATUS.ok.status;
      }),
    );
}
