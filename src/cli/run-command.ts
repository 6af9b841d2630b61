/** `isola run`: boots one guest, with its serial port on stdin and stdout, until it ends. */

import { type FileDisk, openFileDisk } from "../backends/file-disk.ts";
import { IsolaError } from "../base/errors.ts";
import { formatSize } from "../base/size.ts";
import type {
  BootModule,
  DebugExitConfig,
  EngineName,
  TraceName,
  Vm,
  VmOptions,
  VmResult,
} from "../machine/vm-contract.ts";
import { checkImageMemory } from "../images/store.ts";
import type { DiskOption } from "./disk-option.ts";
import { EXIT_STATUS, statusOf } from "./exit-status.ts";
import { readFwCfg, readGuestFile, readModule } from "./guest-files.ts";
import { describeFigures } from "../machine/engine-figures.ts";
import type { CliHost, Outcome } from "./host.ts";
import { ProgressBar } from "./progress-bar.ts";
import { debugging, oneLine } from "./report.ts";
import { composeCommandLine, type EngineOption, type FwCfgOption, type ScreenName } from "./run-options.ts";
import { ScreenConsole } from "./screen-console.ts";
import { type GuestConsole, Terminal } from "./terminal.ts";

const DEFAULT_IMAGE = "debian";
/** Without an image there is no other command line that would show anything. */
const SERIAL_CONSOLE = "console=ttyS0";
/** No kernel comes near: a vmlinux with all its debugging information has about 1 GiB. */
const KERNEL_LIMIT_BYTES = 2 ** 31;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** How long a VM may take to stop before isola ends without it. */
const STOP_LIMIT_MS = 3000;
const KEEP_ALIVE_MS = 2 ** 30;

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
  /** The CPU model by its canonical name. */
  readonly cpu?: string;
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
  readonly debugExit?: DebugExitConfig;
}

/** The options of a guest whose engine has been chosen. */
type GuestOptions = RunOptions & { readonly engine: EngineName; readonly why?: string };

/** Chooses where the user left it to isola; `why` is the line that says so where that is not the fast one. */
function withEngine(host: CliHost, options: RunOptions): GuestOptions {
  if (options.engine !== "auto") return { ...options, engine: options.engine };
  const { engine, reason } = host.chooseEngine();
  const why = reason === undefined ? {} : { why: `isola: on the portable engine, since ${oneLine(reason)}` };
  return { ...options, engine, ...why };
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
  const { memory, engine, cpu, cpus, trace, debugExit, rng = false } = options;
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
    ...(debugExit === undefined ? {} : { debugExit }),
    ...(cpu === undefined ? {} : { cpu }),
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

/** The line that tells a person why a guest ended, where that is not plain success. */
function explain(result: VmResult): string | undefined {
  switch (result.kind) {
    case "power-off":
    case "stopped":
    case "debug-exit":
      return undefined;
    case "reset":
      return "the guest reset itself; ended, as --no-reboot asks";
    case "triple-fault":
      return `the guest ended in a triple fault: ${result.message}`;
    case "internal-error":
      return `the engine failed: ${result.message}`;
  }
}

/** One guest from power-on to its end, through any number of resets. */
class Session {
  readonly #host: CliHost;
  readonly #options: GuestOptions;
  readonly #disks: readonly FileDisk[];
  readonly #terminal: GuestConsole;
  #vm: Vm | undefined;
  #stopping = false;
  /** Resolved when the guest is to be stopped: from then on its output waits for nobody. */
  readonly #left = Promise.withResolvers<void>();
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  #signal: NodeJS.Signals | undefined;
  #outputError: Error | undefined;

  constructor(host: CliHost, options: GuestOptions, disks: readonly FileDisk[]) {
    this.#host = host;
    this.#options = options;
    this.#disks = disks;
    for (const disk of disks) disk.onTrouble = (message) => this.#terminal.note(`isola: ${message}`);
    const Console = options.screen === "text" ? ScreenConsole : Terminal;
    this.#terminal = new Console(host.streams, {
      leave: () => this.#stop(),
      outputFailed: (error) => {
        this.#outputError = error;
        this.#stop();
      },
    });
  }

  /** `first` is for the first start; after a reset the files are read anew, so that nothing of them is held meanwhile. */
  async run(first: VmOptions): Promise<Outcome> {
    for (const signal of SIGNALS) process.on(signal, this.#signalled);
    // The end of stdin must not let Node run out of things to wait for.
    const alive = setInterval(() => undefined, KEEP_ALIVE_MS);
    try {
      if (this.#terminal.interactive) {
        this.#terminal.note(`isola: ${formatSize(first.memoryBytes)} of memory; Ctrl-A x leaves, Ctrl-A h helps`);
      }
      this.#terminal.open();
      const result = await this.#runToEnd(first);
      this.#terminal.close();
      return this.#outcome(result);
    } finally {
      this.#terminal.close();
      clearInterval(alive);
      for (const signal of SIGNALS) process.off(signal, this.#signalled);
    }
  }

  async #runToEnd(first: VmOptions): Promise<VmResult> {
    let boot = first;
    for (;;) {
      const vm = this.#host.createVm(boot);
      this.#vm = vm;
      vm.onOutput((bytes) => {
        const slow = this.#stopping ? undefined : this.#terminal.write(bytes);
        return slow && Promise.race([slow, this.#left.promise]);
      });
      vm.onTrace((line) => this.#terminal.note(`isola: ${line}`));
      // `done` may reject while `start` is still awaited; the rejection is taken up below.
      vm.done.catch(() => undefined);
      await vm.start();
      // A guest that could not be started has a reason of its own, and that is the one to show.
      if (boot === first && this.#options.why !== undefined) this.#terminal.note(this.#options.why);
      release(boot);
      this.#terminal.attach(vm);
      const result = await vm.done;
      clearTimeout(this.#stopTimer);
      this.#terminal.detach();
      const { engine } = this.#options.stats === true ? vm.stats() : {};
      for (const line of engine === undefined ? [] : describeFigures(engine)) this.#terminal.note(`isola: ${line}`);
      if (result.kind !== "reset" || !this.#options.reboot || this.#stopping) return result;
      this.#terminal.note("isola: the guest reset itself and is started anew");
      boot = await gather(this.#host, this.#options, this.#disks);
    }
  }

  #outcome(result: VmResult): Outcome {
    if (this.#signal !== undefined) return this.#signal;
    if (this.#outputError !== undefined) {
      throw new IsolaError({
        code: "output-failed",
        message: `cannot write the guest's output: ${this.#outputError.message}; the guest was switched off`,
        cause: this.#outputError,
      });
    }
    if (this.#stopping) {
      this.#terminal.note("isola: the guest was switched off");
      return EXIT_STATUS.ok.status;
    }
    const why = explain(result);
    if (why !== undefined) this.#terminal.note(`isola: ${why}`);
    if (result.kind === "internal-error") for (const line of result.details ?? []) this.#terminal.note(`  ${line}`);
    if (result.kind === "internal-error" && result.stack !== undefined && debugging()) {
      for (const line of result.stack.split("\n")) this.#terminal.note(line);
    }
    return statusOf(result);
  }

  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#left.resolve();
    this.#vm?.stop();
    // A VM that cannot stop must not keep a person in a raw terminal: the exit hook of the terminal restores it.
    this.#stopTimer = setTimeout(() => {
      this.#terminal.close();
      this.#terminal.note(`isola: the engine did not stop within ${STOP_LIMIT_MS} ms`);
      process.exit(EXIT_STATUS.engineError.status);
    }, STOP_LIMIT_MS).unref();
  }

  readonly #signalled = (signal: NodeJS.Signals): void => {
    this.#signal ??= signal;
    this.#stop();
  };
}

/** Runs a guest; resolves to how isola is to end. Throws IsolaErrors before the guest starts, or when the host fails. */
export async function runCommand(host: CliHost, asked: RunOptions): Promise<Outcome> {
  const options = withEngine(host, asked);
  await using opened = new AsyncDisposableStack();
  const disks: FileDisk[] = [];
  for (const disk of options.disks) {
    disks.push(opened.use(await openFileDisk({ ...disk, holder: options.name ?? "" })));
  }
  const vmOptions = await gather(host, options, disks);
  if (options.name !== undefined) process.title = `isola ${options.name}`;
  return await new Session(host, options, disks).run(vmOptions);
}
