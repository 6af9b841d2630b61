/** One guest at the terminal: from its start to its end, by whatever command it was started. */

import { type FileDisk, openFileDisk } from "../backends/file-disk.ts";
import { IsolaError } from "../base/errors.ts";
import { formatSize } from "../base/size.ts";
import { saveVmFile } from "../fleet/saved-file.ts";
import { describeFigures } from "../machine/engine-figures.ts";
import type { Vm, VmResult } from "../machine/vm-contract.ts";
import type { DiskOption } from "./disk-option.ts";
import { hearEndSignals } from "./end-signals.ts";
import { EXIT_STATUS, statusOf } from "./exit-status.ts";
import type { CliHost, Outcome } from "./host.ts";
import { debugging, describeError } from "./report.ts";
import type { ScreenName } from "./run-options.ts";
import { ScreenConsole } from "./screen-console.ts";
import { type GuestConsole, Terminal } from "./terminal.ts";

/** Node keeps SIGUSR1 for its debugger. */
const SAVE_SIGNAL = "SIGUSR2";
/** How long a VM may take to stop before isola ends without it. */
const STOP_LIMIT_MS = 3000;
const KEEP_ALIVE_MS = 2 ** 30;

/** Opens a guest's disks, in their order; the stack closes them. */
export async function openDisks(
  stack: AsyncDisposableStack,
  options: readonly DiskOption[],
  holder = "",
): Promise<FileDisk[]> {
  const disks: FileDisk[] = [];
  for (const disk of options) disks.push(stack.use(await openFileDisk({ ...disk, holder })));
  return disks;
}

/** The line that tells a person why a guest ended, where that is not plain success. */
function explain(result: VmResult, whyNoReboot: string): string | undefined {
  switch (result.kind) {
    case "power-off":
    case "stopped":
    case "debug-exit":
      return undefined;
    case "reset":
      return `the guest reset itself; ended, ${whyNoReboot}`;
    case "triple-fault":
      return `the guest ended in a triple fault: ${result.message}`;
    case "internal-error":
      return `the engine failed: ${result.message}`;
  }
}

export interface SessionOptions {
  readonly memoryBytes: number;
  readonly screen: ScreenName;
  readonly disks: readonly FileDisk[];
  /** Report the engine's figures at the end. */
  readonly stats?: boolean;
  /** Where the guest is saved when that is asked for. */
  readonly saveTo?: string;
}

/** A VM that is about to start. */
export interface Boot {
  readonly vm: Vm;
  /** Called when it has started: what it was made of may go. */
  started?(): void | Promise<void>;
  /** A line to be shown then. A guest that could not be started has a reason of its own, and that is the one to show. */
  readonly note?: string;
  /** Input that waits for it. */
  readonly typed?: Uint8Array;
}

/** One guest from its start to its end, through any number of resets. */
export class GuestSession {
  readonly #options: SessionOptions;
  readonly #terminal: GuestConsole;
  #vm: Vm | undefined;
  #stopping = false;
  /** Resolved when the guest is to be stopped: from then on its output waits for nobody. */
  readonly #left = Promise.withResolvers<void>();
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  #signal: NodeJS.Signals | undefined;
  #outputError: Error | undefined;
  #saving = false;
  #saved = false;

  constructor(host: CliHost, options: SessionOptions) {
    this.#options = options;
    for (const disk of options.disks) disk.onTrouble = (message) => this.#terminal.note(`isola: ${message}`);
    const Console = options.screen === "text" ? ScreenConsole : Terminal;
    this.#terminal = new Console(host.streams, {
      leave: () => this.#stop(),
      save: () => this.#save(),
      outputFailed: (error) => {
        this.#outputError = error;
        this.#stop();
      },
    });
  }

  /** Goes on with what `again` makes after a reset; where it is a text, that says why nothing does. */
  async run(first: Boot, again: (() => Promise<Boot>) | string): Promise<Outcome> {
    const letGo = hearEndSignals(this.#signalled);
    process.on(SAVE_SIGNAL, this.#save);
    // The end of stdin must not let Node run out of things to wait for.
    const alive = setInterval(() => undefined, KEEP_ALIVE_MS);
    try {
      if (this.#terminal.interactive) {
        this.#terminal.note(
          `isola: ${formatSize(this.#options.memoryBytes)} of memory; Ctrl-A x leaves, Ctrl-A h helps`,
        );
      }
      this.#terminal.open();
      const result = await this.#runToEnd(first, again);
      this.#terminal.close();
      return this.#outcome(result, again);
    } finally {
      this.#terminal.close();
      clearInterval(alive);
      letGo();
      process.off(SAVE_SIGNAL, this.#save);
    }
  }

  async #runToEnd(first: Boot, again: (() => Promise<Boot>) | string): Promise<VmResult> {
    let boot = first;
    for (;;) {
      const { vm } = boot;
      this.#vm = vm;
      vm.onOutput((bytes) => {
        const slow = this.#stopping ? undefined : this.#terminal.write(bytes);
        return slow && Promise.race([slow, this.#left.promise]);
      });
      vm.onTrace((line) => this.#terminal.note(`isola: ${line}`));
      // `done` may reject while `start` is still awaited; the rejection is taken up below.
      vm.done.catch(() => undefined);
      await vm.start();
      if (boot.note !== undefined) this.#terminal.note(boot.note);
      await boot.started?.();
      if (boot.typed !== undefined) this.#terminal.type(boot.typed);
      this.#terminal.attach(vm);
      const result = await vm.done;
      clearTimeout(this.#stopTimer);
      this.#terminal.detach();
      const { engine } = this.#options.stats === true ? vm.stats() : {};
      for (const line of engine === undefined ? [] : describeFigures(engine)) this.#terminal.note(`isola: ${line}`);
      if (result.kind !== "reset" || typeof again === "string" || this.#stopping) return result;
      this.#terminal.note("isola: the guest reset itself and is started anew");
      boot = await again();
    }
  }

  #outcome(result: VmResult, again: unknown): Outcome {
    if (this.#signal !== undefined) return this.#signal;
    if (this.#outputError !== undefined) {
      throw new IsolaError({
        code: "output-failed",
        message: `cannot write the guest's output: ${this.#outputError.message}; the guest was switched off`,
        cause: this.#outputError,
      });
    }
    if (this.#saved) {
      const path = this.#options.saveTo ?? "";
      this.#terminal.note(`isola: the guest is in ${path}; isola restore ${path} goes on with it`);
      return EXIT_STATUS.ok.status;
    }
    if (this.#stopping) {
      this.#terminal.note("isola: the guest was switched off");
      return EXIT_STATUS.ok.status;
    }
    const why = explain(result, typeof again === "string" ? again : "");
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

  readonly #save = (): void => void this.#saveGuest();

  /** Saves the guest and ends; where that fails, the guest goes on. */
  async #saveGuest(): Promise<void> {
    const { saveTo } = this.#options;
    const vm = this.#vm;
    if (vm === undefined || this.#stopping || this.#saving) return;
    if (saveTo === undefined) {
      this.#terminal.note("isola: there is no file to save the guest to; wanted: --save-to FILE");
      return;
    }
    this.#saving = true;
    this.#terminal.note(`isola: saving the guest to ${saveTo}`);
    // From here on what is typed waits.
    this.#terminal.detach();
    try {
      await saveVmFile(vm, saveTo, { typed: this.#terminal.unsent() });
      this.#saved = true;
      this.#stop();
    } catch (error) {
      this.#terminal.note(`${describeError(error, debugging())}; the guest goes on`);
      this.#terminal.attach(vm);
      vm.resume();
    } finally {
      this.#saving = false;
    }
  }

  readonly #signalled = (signal: NodeJS.Signals): void => {
    this.#signal ??= signal;
    this.#stop();
  };
}
