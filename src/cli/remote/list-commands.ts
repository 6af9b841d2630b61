/** Commands that show: VMs in a table, one in full, the server live, events as they happen. */

import { formatSize } from "../../base/size.ts";
import type { FleetEvent, HostInventory, VmStatus } from "../../api/contract/api.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { Outcome } from "../host.ts";
import { oneLine } from "../report.ts";
import { formatDuration, table } from "../table.ts";
import type { Define } from "./commands.ts";
import type { Remote } from "./remote.ts";

const OFF = new Set<VmStatus["state"]>(["stopped", "failed"]);
const REFRESH_MS = 1000;
const BAR_CELLS = 30;
/** q, Ctrl-C, Ctrl-D, Escape. */
const LEAVING_KEYS = new Set([0x71, 0x03, 0x04, 0x1b]);

/** Bytes for a narrow column: three digits and a unit. */
function amount(bytes: number): string {
  if (bytes < 1024 * 1000) return formatSize(Math.round(bytes / 1024) * 1024);
  return formatSize(Math.round(bytes / 2 ** 20) * 2 ** 20);
}

const percent = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)}%`;

export function vmRow(vm: VmStatus): string[] {
  const { capPercent, shares } = vm.spec.cpu;
  const off = OFF.has(vm.state);
  return [
    vm.name,
    vm.state,
    vm.engine ?? "-",
    vm.spec.image ?? vm.spec.kernel?.split("/").at(-1) ?? "",
    off ? `-/${formatSize(vm.memory.asked)}` : `${amount(vm.memory.used)}/${formatSize(vm.memory.asked)}`,
    off ? "-" : percent(vm.cpu.used),
    capPercent === null ? "-" : `${capPercent}%`,
    String(shares),
    vm.disk.asked === 0 ? "-" : `${amount(vm.disk.used)}/${formatSize(vm.disk.asked)}`,
    off ? (vm.exit?.kind ?? "-") : formatDuration(vm.uptimeSeconds),
    vm.project,
  ];
}

const HEADER = ["NAME", "STATE", "ENGINE", "IMAGE", "MEMORY", "CPU", "CAP", "SHARES", "DISK", "UP", "PROJECT"];

function bar(label: string, used: number, reserved: number, total: number, text: string): string {
  const cells = (value: number): number =>
    Math.min(BAR_CELLS, Math.max(0, Math.round((value / Math.max(total, 1)) * BAR_CELLS)));
  const solid = cells(used);
  const held = Math.max(solid, cells(reserved));
  return `${label.padEnd(7)}[${"#".repeat(solid)}${"=".repeat(held - solid)}${" ".repeat(BAR_CELLS - held)}] ${text}`;
}

/** The server in three bars (# used, = reserved beyond that), then its VMs, the busiest first. */
export function topScreen(host: HostInventory, vms: readonly VmStatus[]): string {
  const { memory, processors, disk, pools } = host;
  const capacity = processors.count * 100;
  const reservedPercent = pools.reduce((sum, pool) => sum + pool.reservedPercent, 0);
  const rows = [...vms].sort((a, b) => b.cpu.used - a.cpu.used || a.name.localeCompare(b.name)).map(vmRow);
  return [
    `${host.hostname}: ${vms.length} VMs, ${vms.filter(({ state }) => state === "running").length} running`,
    bar("CPU", processors.usedPercent, reservedPercent, capacity, `${percent(processors.usedPercent)} of ${capacity}%`),
    bar(
      "memory",
      memory.usedBytes,
      memory.reservedBytes,
      memory.allocatableBytes,
      `${amount(memory.usedBytes)} used, ${amount(memory.reservedBytes)} reserved of ${amount(memory.allocatableBytes)}`,
    ),
    bar(
      "disk",
      disk.usedBytes,
      disk.grantedBytes,
      disk.quotaBytes,
      `${amount(disk.usedBytes)} used, ${amount(disk.grantedBytes)} granted of ${amount(disk.quotaBytes)}`,
    ),
    "",
    table([HEADER, ...rows]),
  ].join("\n");
}

interface PsFlags {
  readonly all?: boolean;
  readonly quiet?: boolean;
  readonly project?: string;
}

async function ps(remote: Remote, { all = false, quiet = false, project }: PsFlags): Promise<number> {
  const query = project === undefined ? {} : { query: { project } };
  const every = await remote.api.listVms(query);
  const shown = all ? every : every.filter(({ state }) => !OFF.has(state));
  if (remote.json) remote.printJson(shown);
  else if (quiet) for (const { name } of shown) remote.print(name);
  else {
    remote.print(table([HEADER, ...shown.map(vmRow)]));
    const hidden = every.length - shown.length;
    if (hidden > 0 && remote.host.streams.stdout.isTTY) {
      remote.note(`${hidden} ${hidden === 1 ? "VM is" : "VMs are"} off; isola ps -a shows them`);
    }
  }
  return EXIT_STATUS.ok.status;
}

/** Rows of `label  value`; a nested object is indented. */
function lines(value: unknown, indent = ""): string[] {
  return Object.entries(value as object).flatMap(([key, item]) => {
    if (item === null || typeof item !== "object") return [`${indent}${key}: ${oneLine(String(item ?? "-"))}`];
    if (Array.isArray(item) && item.length === 0) return [`${indent}${key}: -`];
    if (!Array.isArray(item)) return [`${indent}${key}:`, ...lines(item, `${indent}  `)];
    return [
      `${indent}${key}:`,
      ...item.flatMap((entry: unknown) =>
        typeof entry === "object" && entry !== null
          ? [`${indent}  -`, ...lines(entry, `${indent}    `)]
          : [`${indent}  - ${String(entry)}`],
      ),
    ];
  });
}

async function inspect(remote: Remote, names: readonly string[]): Promise<Outcome> {
  const found: VmStatus[] = [];
  const outcome = await remote.each(names, async (vm) => {
    found.push(await remote.api.getVm({ vm }));
  });
  if (remote.json) remote.printJson(found);
  else remote.print(found.map((vm) => lines(vm).join("\n")).join("\n\n"));
  return outcome;
}

/** Waits, or until the person wants to leave. */
function leaveOrWait(left: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const waited = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  return Promise.race([left.then(() => true), waited]).finally(() => clearTimeout(timer));
}

async function top(remote: Remote, { stream = true }: { stream?: boolean }): Promise<Outcome> {
  const { stdout, stdin } = remote.host.streams;
  const screen = async (): Promise<string> => {
    const [host, vms] = await Promise.all([remote.api.getHost(), remote.api.listVms()]);
    return remote.json ? JSON.stringify({ host, vms }) : topScreen(host, vms);
  };
  if (!stream || !stdout.isTTY || remote.json) {
    remote.print(await screen());
    return EXIT_STATUS.ok.status;
  }
  const { promise: left, resolve: leave } = Promise.withResolvers<void>();
  // Ctrl-C arrives as a byte while the terminal is raw.
  const typed = (bytes: Buffer): void => {
    if (bytes.some((byte) => LEAVING_KEYS.has(byte))) leave();
  };
  const restore = (): void => {
    if (stdin.isTTY) stdin.setRawMode(false);
    stdout.write("\x1b[?25h\x1b[?1049l");
  };
  process.on("SIGINT", leave);
  process.on("SIGTERM", leave);
  process.on("exit", restore);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on("data", typed);
  stdout.write("\x1b[?1049h\x1b[?25l");
  try {
    for (let done = false; !done; ) {
      const columns = stdout.columns > 0 ? stdout.columns : 80;
      const rows = stdout.rows > 0 ? stdout.rows : 24;
      const text = `${await screen()}\n\nq leaves`;
      const shown = text
        .split("\n")
        .slice(0, rows)
        .map((line) => `${line.slice(0, columns)}\x1b[K`);
      stdout.write(`\x1b[H${shown.join("\r\n")}\x1b[J`);
      done = await leaveOrWait(left, REFRESH_MS);
    }
  } finally {
    process.off("SIGINT", leave);
    process.off("SIGTERM", leave);
    process.off("exit", restore);
    stdin.off("data", typed);
    stdin.pause();
    restore();
  }
  return EXIT_STATUS.ok.status;
}

export function eventLine(event: FleetEvent): string {
  const by = event.actor === null ? "" : ` (${event.actor})`;
  return `${event.time}  ${event.kind.padEnd(14)}  ${event.name}: ${oneLine(event.message)}${by}`;
}

interface EventFlags {
  readonly replay?: boolean;
  readonly follow?: boolean;
}

async function events(remote: Remote, { replay = false, follow = true }: EventFlags): Promise<Outcome> {
  const print = (event: FleetEvent): void => remote.print(remote.json ? JSON.stringify(event) : eventLine(event));
  if (!follow) {
    for (let after = 0; ; ) {
      const page = await remote.api.listEvents({ query: { after } });
      for (const event of page) print(event);
      const last = page.at(-1);
      if (last === undefined) return EXIT_STATUS.ok.status;
      after = last.sequence;
    }
  }
  const stop = new AbortController();
  let signal: NodeJS.Signals | undefined;
  const interrupt = (name: NodeJS.Signals): void => {
    signal = name;
    stop.abort();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  try {
    for await (const event of await remote.api.followEvents({ query: { replay } }, { signal: stop.signal }))
      print(event);
    remote.note("the server has ended the stream of events");
    return EXIT_STATUS.hostError.status;
  } catch (error) {
    if (signal === undefined) throw error;
    return signal;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

export function addListCommands(define: Define): void {
  define("ps", "list VMs: state, memory and CPU, used and asked")
    .alias("list")
    .option("-a, --all", "also those that are off")
    .option("-q, --quiet", "names only")
    .option("--project <NAME>", "of one project")
    .addHelpText(
      "after",
      "\nExamples:\n  isola ps -a\n  isola kill $(isola ps -q)\n  isola ps --json | jq '.[].memory'",
    )
    .action(define.run((remote, _args, flags: PsFlags) => ps(remote, flags)));

  define("inspect", "everything about VMs: what was asked, granted and used, and what confines them")
    .argument("<VM...>", "names or ids")
    .addHelpText("after", "\nExamples:\n  isola inspect web\n  isola inspect web --json | jq '.[0].confinement'")
    .action(define.run((remote, [names]) => inspect(remote, names as string[])));

  define("top", "the server and its VMs, live; q leaves")
    .option("--no-stream", "once")
    .addHelpText("after", "\nExamples:\n  isola top\n  isola top --no-stream\n  isola top --json")
    .action(define.run((remote, _args, flags: { stream?: boolean }) => top(remote, flags)));

  define("events", "what happens on the server, as it happens; Ctrl-C leaves")
    .option("--replay", "first what is kept of the past")
    .option("--no-follow", "only what is kept of the past")
    .addHelpText(
      "after",
      "\nExamples:\n  isola events\n  isola events --no-follow --json | jq -c 'select(.kind==\"vm.state\")'",
    )
    .action(define.run((remote, _args, flags: EventFlags) => events(remote, flags)));
}
