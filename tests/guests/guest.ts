/**
 * A guest in a test: what it prints is awaited, what it reads is typed, and a failure shows what was on its console.
 * The guest is a VM in this process, or the command line as a process of its own.
 */

import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseCompiler } from "../../src/cli/run-options.ts";
import { createNodeVm } from "../../src/fleet/node-vm.ts";
import { InputPump } from "../../src/machine/input-pump.ts";
import { Transcript } from "./transcript.ts";
import type { EngineName, Vm, VmOptions, VmResult } from "../../src/machine/vm-contract.ts";

export const MIB = 1024 * 1024;
/** Any wait is bounded; generous, since tests share two processors with other work. */
const PATIENCE_SECONDS = Number(process.env["ISOLA_TEST_PATIENCE"] ?? 120);
/** What runs the guests: ISOLA_TEST_ENGINE, the portable engine unless it says kvm. */
export const ENGINE: EngineName = process.env["ISOLA_TEST_ENGINE"] === "kvm" ? "kvm" : "wasm";

/** What both kinds of guest can do. */
abstract class Console {
  protected readonly transcript = new Transcript();

  /** Everything printed so far. */
  get text(): string {
    return this.transcript.text;
  }

  /** Waits until what was printed after the last match matches `pattern`. Fails at the guest's end and at the timeout. */
  expect(pattern: RegExp, seconds = PATIENCE_SECONDS): Promise<RegExpExecArray> {
    return this.transcript.expect(pattern, seconds);
  }

  abstract type(text: string): void;
}
/** How the portable engine compiles: ISOLA_TEST_COMPILER, as --compiler takes it; unset, as it does by itself. */
const COMPILER = process.env["ISOLA_TEST_COMPILER"];

/** A VM of this process. Disposing of it pulls its plug. */
export class Guest extends Console {
  vm: Vm;
  readonly #pump = new InputPump({ hold: () => undefined });

  private constructor(options: VmOptions) {
    super();
    this.vm = createNodeVm(options);
  }

  async #run(vm: Vm): Promise<void> {
    this.vm = vm;
    vm.onOutput((bytes) => this.transcript.add(bytes));
    const end = (how: string): void => {
      if (this.vm === vm) this.transcript.end(how);
    };
    await vm.start();
    this.#pump.attach(vm);
    vm.done.then(
      (result) => end(JSON.stringify(result)),
      (error: unknown) => end(String(error)),
    );
  }

  /** Goes on in another VM, which `next` makes of the present one. That is ended; its console is the next one's. */
  async moveTo(next: (vm: Vm) => Promise<Vm>): Promise<void> {
    const former = this.vm;
    this.#pump.detach();
    const made = await next(former);
    this.vm = made;
    former.stop();
    await former.done;
    await this.#run(made);
  }

  static async start(options: Omit<VmOptions, "engine"> & { readonly engine?: EngineName }): Promise<Guest> {
    const compiler = COMPILER === undefined ? {} : { compileAfter: parseCompiler(COMPILER) };
    const guest = new Guest({ engine: ENGINE, ...compiler, ...options });
    await guest.#run(guest.vm);
    return guest;
  }

  type(text: string): void {
    this.#pump.push(new TextEncoder().encode(text));
  }

  /** How the guest ended. */
  end(seconds = PATIENCE_SECONDS): Promise<VmResult> {
    return this.transcript.within(this.vm.done, "the guest's end", seconds);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.vm.stop();
    await this.vm.done;
  }
}

const LAUNCHER = fileURLToPath(new URL("../../bin/isola.js", import.meta.url));

export interface Exit {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stderr: string;
}

/** A command line that a shell takes apart into these words. */
function quoted(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}

/**
 * `isola` as a process, with pipes for its standard streams, or on a terminal of its own that script(1) makes.
 * Disposing of it kills it.
 */
export class GuestProcess extends Console {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ended: Promise<Exit>;

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv = process.env, terminal = false) {
    super();
    const [name, ...rest] = args;
    const chosen = name === "run" || name === "restore";
    const compiler = name === "run" && COMPILER !== undefined ? ["--compiler", COMPILER] : [];
    const engine = chosen ? [name, "--engine", ENGINE, ...compiler] : name === undefined ? [] : [name];
    const command = [process.execPath, LAUNCHER, ...engine, ...rest];
    const words = terminal ? ["script", "-qec", quoted(command), "/dev/null"] : command;
    this.child = spawn(words[0] ?? "", words.slice(1), { stdio: "pipe", env: environment });
    let stderr = "";
    this.child.stdout.on("data", (bytes: Buffer) => this.transcript.add(bytes));
    this.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    // A guest that has ended reads no more; what it missed is in the transcript of a failure.
    this.child.stdin.on("error", () => undefined);
    this.#ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (status, signal) => {
        this.transcript.end(`status ${status}, signal ${signal}, stderr ${JSON.stringify(stderr)}`);
        resolve({ status, signal, stderr });
      });
    });
  }

  type(text: string): void {
    this.child.stdin.write(text);
  }

  end(seconds = PATIENCE_SECONDS): Promise<Exit> {
    return this.transcript.within(this.#ended, "the end of isola", seconds);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.#ended;
  }
}
