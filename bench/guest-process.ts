/**
 * A guest in a process of its own, with its serial console on the process's stdin and stdout, and the clock beside it.
 * Times are in seconds since the process was started; the console's bytes are looked at as soon as they arrive.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { IsolaError } from "../src/base/errors.ts";
import { cpuSeconds } from "./host.ts";
import { MARKS, type MarkName } from "./marks.ts";

/** When a mark came. */
export interface Mark {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

export interface GuestCommand {
  /** As a person names it. */
  readonly machine: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Whether the program sends messages over Node's channel. */
  readonly channel: boolean;
  /** Beside this process's environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** The end of the output that an error shows. */
const TAIL = 300;

export class GuestProcess {
  readonly machine: string;
  readonly marks = new Map<MarkName, Mark>();
  /** Messages over the channel, in order. */
  readonly messages: unknown[] = [];
  /** All of the console so far. */
  output = "";
  readonly #child: ChildProcess;
  readonly #started = performance.now();
  #errors = "";
  #end: string | undefined;
  #changed: () => void = () => {};

  constructor({ machine, program, args, channel, environment = {} }: GuestCommand) {
    this.machine = machine;
    this.#child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe", ...(channel ? (["ipc"] as const) : [])],
      env: { ...process.env, ...environment },
    });
    this.#child.stdout?.on("data", (bytes: Buffer) => this.#arrived(bytes));
    this.#child.stderr?.on("data", (bytes: Buffer) => {
      this.#errors += bytes.toString("latin1");
    });
    // A guest that has ended takes no input; that it ended is told by its exit.
    this.#child.stdin?.on("error", () => undefined);
    this.#child.on("message", (message) => {
      this.messages.push(message);
      this.#changed();
    });
    this.#child.on("error", (error) => this.#ended(error.message));
    this.#child.on("exit", (status, signal) =>
      this.#ended(`it ended with ${signal ?? `status ${status ?? "unknown"}`}`),
    );
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Seconds since the process was started. */
  get age(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** What the process said on stderr. */
  get errors(): string {
    return this.#errors;
  }

  #arrived(bytes: Buffer): void {
    const wallSeconds = this.age;
    this.output += bytes.toString("latin1");
    for (const name of Object.keys(MARKS) as MarkName[]) {
      if (this.marks.has(name) || !this.output.includes(MARKS[name])) continue;
      this.marks.set(name, { wallSeconds, cpuSeconds: cpuSeconds(this.pid) });
    }
    this.#changed();
  }

  #ended(how: string): void {
    this.#end ??= how;
    this.#changed();
  }

  /**
   * Waits until `condition` holds; asked again whenever something has come from the guest.
   * @throws IsolaError `bench-guest-ended`, `bench-timeout`
   */
  async until(what: string, timeoutSeconds: number, condition: () => boolean): Promise<void> {
    const deadline = performance.now() + timeoutSeconds * 1000;
    while (!condition()) {
      const left = deadline - performance.now();
      if (this.#end !== undefined) throw this.#failure("bench-guest-ended", `${this.#end} before ${what}`);
      if (left <= 0) throw this.#failure("bench-timeout", `no ${what} within ${timeoutSeconds} s`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  #failure(code: string, what: string): IsolaError {
    // A line that names the error says more than the end of a stack.
    const named = this.#errors.split("\n").find((line) => /\berror\b|Error:/.test(line));
    const words = named ?? (this.#errors.trim() || this.output.trim());
    const tail = words.slice(-TAIL).replaceAll(/\s+/g, " ");
    return new IsolaError({
      code,
      message: `running the guest under ${this.machine}: ${what}; its last words: ${tail}`,
    });
  }

  async mark(name: MarkName, timeoutSeconds: number): Promise<Mark> {
    await this.until(`"${MARKS[name]}"`, timeoutSeconds, () => this.marks.has(name));
    return this.marks.get(name) ?? { wallSeconds: Number.NaN, cpuSeconds: Number.NaN };
  }

  /**
   * Types a line at the shell and waits for its output. The console echoes what is typed, so the end is marked by a
   * word that the line itself does not hold.
   * @returns the output, and the seconds from typing to the mark
   */
  async command(line: string, timeoutSeconds: number): Promise<{ readonly output: string; readonly seconds: number }> {
    const from = this.output.length;
    const end = `\nEND-${from}\r`;
    const begun = performance.now();
    this.#child.stdin?.write(`${line}; echo E""ND-${from}\n`);
    await this.until(`end of "${line.slice(0, 60)}"`, timeoutSeconds, () => this.output.indexOf(end, from) >= 0);
    const seconds = (performance.now() - begun) / 1000;
    return { output: this.output.slice(from, this.output.indexOf(end, from)), seconds };
  }

  /**
   * Types a line that prints "@begin NAME" and "@end NAME CHECKSUM", and takes the time between the two, on the clock
   * and of the processor.
   * @throws IsolaError `bench-guest-ended`, `bench-timeout`
   */
  async timed(
    line: string,
    name: string,
    timeoutSeconds: number,
  ): Promise<{ readonly checksum: string; readonly seconds: number; readonly cpuSeconds: number }> {
    const from = this.output.length;
    const found = (pattern: RegExp) => pattern.exec(this.output.slice(from));
    const begin = new RegExp(`^@begin ${name}\r`, "m");
    const end = new RegExp(`^@end ${name} ([0-9a-f]+)\r`, "m");
    this.#child.stdin?.write(`${line}\n`);
    await this.until(`beginning of ${name}`, timeoutSeconds, () => found(begin) !== null);
    const [begun, used] = [performance.now(), cpuSeconds(this.pid)];
    await this.until(`end of ${name}`, timeoutSeconds, () => found(end) !== null);
    const seconds = (performance.now() - begun) / 1000;
    return { checksum: found(end)?.[1] ?? "", seconds, cpuSeconds: cpuSeconds(this.pid) - used };
  }

  /** Asks the program over its channel; its next message is the answer. */
  async ask(question: unknown, timeoutSeconds: number): Promise<unknown> {
    const before = this.messages.length;
    this.#child.send(question as string);
    await this.until("answer", timeoutSeconds, () => this.messages.length > before);
    return this.messages[before];
  }

  /** Ends the process, as by pulling the plug, and waits until it is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
  }
}
