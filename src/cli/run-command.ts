/** `isola run`: boots one guest, with its serial port on stdin and stdout, until it ends. */

import type { FileDisk } from "../backends/file-disk.ts";
import type { SmbiosIdentity } from "../machine/smbios.ts";
import type { BootModule, DebugExitConfig, EngineName, TraceName, VmOptions } from "../machine/vm-contract.ts";
import { checkImageMemory } from "../images/store.ts";
import type { DiskOption } from "./disk-option.ts";
import { type Boot, GuestSession, openDisks } from "./guest-session.ts";
import { readFwCfg, readGuestFile, readModule } from "./guest-files.ts";
import type { CliHost, Outcome } from "./host.ts";
import { ProgressBar } from "./progress-bar.ts";
import { oneLine } from "./report.ts";
import { composeCommandLine, cpuFor, type EngineOption, type FwCfgOption, type ScreenName } from "./run-options.ts";

const DEFAULT_IMAGE = "debian";
/** Without an image there is no other command line that would show anything. */
const SERIAL_CONSOLE = "console=ttyS0";
/** No kernel comes near: a vmlinux with all its debugging information has about 1 GiB. */
const KERNEL_LIMIT_BYTES = 2 ** 31;

export interface RunOptions {
  readonly image: string | undefined;
  readonly kernel?: string;
  /** Initrds, or modules: a file each, with its command line after it. */
  readonly initrds: readonly string[];
  /** In the order of their letters: the first is /dev/vda. */
  readonly disks: readonly DiskOption[];
  /** An entropy device. */
  readonly rng?: boolean;
  readonly append?: string;
  /** Bytes. */
  readonly memory: number;
  readonly engine: EngineOption;
  readonly cpus: number;
  /** The CPU model as the user wrote it. */
  readonly cpu?: string;
  /** Hz. */
  readonly tsc?: number;
  readonly name?: string;
  /** Start anew when the guest resets. */
  readonly reboot: boolean;
  readonly trace: readonly TraceName[];
  /** Executions before code is compiled; 0: never. */
  readonly compiler?: number;
  /** Report the engine's figures at the end. */
  readonly stats?: boolean;
  /** What stdin and stdout are: the serial port, or keyboard and text screen. */
  readonly screen: ScreenName;
  /** Files for fw_cfg: each as `name=NAME,file=FILE` or `name=NAME,string=TEXT`. */
  readonly fwCfg: readonly FwCfgOption[];
  /** What the guest is told about the machine. */
  readonly smbios?: SmbiosIdentity;
  readonly debugExit?: DebugExitConfig;
  /** Where the guest is saved when that is asked for. */
  readonly saveTo?: string;
}

/** The options of a guest whose engine has been chosen. */
type GuestOptions = RunOptions & { readonly engine: EngineName; readonly why?: string };

/** Chooses where the user left it to isola; `why` is the line that says so where that is not the fast one. */
function withEngine(host: CliHost, options: RunOptions): GuestOptions {
  const { engine, why } = engineOf(host, options.engine);
  const cpu = options.cpu === undefined ? {} : { cpu: cpuFor(engine, options.cpu) };
  return { ...options, engine, ...cpu, ...(why === undefined ? {} : { why }) };
}

/** What runs a guest where the user asks for it so; `why` is the line that says why it is not KVM. */
export function engineOf(
  host: CliHost,
  asked: EngineOption,
  wanted?: Parameters<CliHost["chooseEngine"]>[0],
): { readonly engine: EngineName; readonly why?: string } {
  if (asked !== "auto") return { engine: asked };
  const { engine, reason } = host.chooseEngine(wanted);
  return {
    engine,
    ...(reason === undefined ? {} : { why: `isola: on the portable engine, since ${oneLine(reason)}` }),
  };
}

/** Reads modules one after the other: what is left of the guest's memory bounds the next. */
async function readModules(initrds: readonly string[], memoryBytes: number): Promise<BootModule[]> {
  const modules: BootModule[] = [];
  let left = memoryBytes;
  for (const initrd of initrds) {
    const module = await readModule("initrd", initrd, left);
    modules.push(module);
    left -= module.bytes.length;
  }
  return modules;
}

/** Gathers what the guest boots from: an image, single files, or an image with files in place of its own. */
async function gather(host: CliHost, options: GuestOptions, disks: readonly FileDisk[]): Promise<VmOptions> {
  const { memory, engine, cpu, tsc, cpus, trace, debugExit, rng = false } = options;
  const [kernelFile, modules, fwCfg] = await Promise.all([
    options.kernel === undefined ? undefined : readGuestFile("kernel", options.kernel, KERNEL_LIMIT_BYTES),
    readModules(options.initrds, memory),
    Promise.all(options.fwCfg.map(readFwCfg)),
  ]);
  const vm = (kernel: Uint8Array, initrd: Uint8Array | undefined, base: string): VmOptions => ({
    memoryBytes: memory,
    kernel,
    ...(modules.length > 0 ? { modules } : initrd === undefined ? {} : { initrd }),
    commandLine: composeCommandLine(base, options.append),
    engine,
    cpus,
    disks,
    entropy: rng,
    trace,
    ...(options.compiler === undefined ? {} : { compileAfter: options.compiler }),
    ...(fwCfg.length === 0 ? {} : { fwCfg }),
    ...(options.smbios === undefined ? {} : { smbios: options.smbios }),
    ...(debugExit === undefined ? {} : { debugExit }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(tsc === undefined ? {} : { tscHz: tsc }),
  });
  if (kernelFile !== undefined && options.image === undefined) {
    // A console that the user names must be the only one, or it would not be /dev/console's first choice.
    const base = /(^|\s)console=/.test(options.append ?? "") ? "" : SERIAL_CONSOLE;
    return vm(kernelFile, undefined, base);
  }
  const bar = new ProgressBar(host.streams.stderr);
  try {
    const name = options.image ?? DEFAULT_IMAGE;
    const image = await host.openStore().open(name, bar.update);
    if (kernelFile === undefined) checkImageMemory(name, image.minimumMemoryBytes, memory);
    return vm(kernelFile ?? image.kernel, image.initrd, image.commandLine);
  } finally {
    bar.end();
  }
}

/**
 * Gives back the memory of files that only `gather` holds: 50 MiB of a kernel would stay for as long as nothing makes
 * the collector run, which in an idle process is for ever.
 */
function release({ kernel, initrd, modules = [] }: VmOptions): void {
  for (const bytes of [kernel, initrd, ...modules.map((module) => module.bytes)]) {
    // Small buffers are slices of a pool; those stay.
    if (bytes?.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength) bytes.buffer.transfer(0);
  }
}

/** Runs a guest; resolves to how isola is to end. Throws IsolaErrors before the guest starts, or when the host fails. */
export async function runCommand(host: CliHost, asked: RunOptions): Promise<Outcome> {
  const options = withEngine(host, asked);
  await using opened = new AsyncDisposableStack();
  const disks = await openDisks(opened, options.disks, options.name);
  const boot = async (): Promise<Boot> => {
    const vmOptions = await gather(host, options, disks);
    return { vm: host.createVm(vmOptions), started: () => release(vmOptions) };
  };
  const first = { ...(await boot()), ...(options.why === undefined ? {} : { note: options.why }) };
  if (options.name !== undefined) process.title = `isola ${options.name}`;
  const session = new GuestSession(host, { ...options, memoryBytes: options.memory, disks });
  // After a reset the files are read anew, so that nothing of them is held meanwhile.
  return await session.run(first, options.reboot ? boot : "as --no-reboot asks");
}
