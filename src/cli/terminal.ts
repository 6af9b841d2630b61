/**
 * The person's side of the guest's serial port: stdin and stdout, a terminal or not.
 *
 * On a terminal, stdin is raw while the guest runs and the escape key works; the former mode comes back on every way
 * out. Otherwise bytes pass unchanged, and the end of stdin is not the end of the guest.
 */

import { spawnSync } from "node:child_process";
import { EscapeParser } from "./escape.ts";
import { InputPump, type InputSink } from "../machine/input-pump.ts";
import type { Vm } from "../machine/vm-contract.ts";

const HELP = [
  "Ctrl-A h       this help",
  "Ctrl-A x       leave: the guest is switched off at once",
  "Ctrl-A s       save the guest to the file of --save-to, and leave",
  "Ctrl-A Ctrl-A  send Ctrl-A to the guest",
];
const BELL = "\x07";
const LINE_FEED = 0x0a;

export interface TerminalStreams {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

export interface TerminalEvents {
  /** Ctrl-A x. */
  readonly leave: () => void;
  /** Ctrl-A s. */
  readonly save?: () => void;
  /** Ctrl-A h; absent: the help is printed as notes. */
  readonly help?: () => void;
  /** Output can go nowhere any more: the reader of stdout is gone, or the disk is full. */
  readonly outputFailed: (error: Error) => void;
}

/** A person's side of a guest, whatever shows it: created, opened once, attached to one VM after the other, closed. */
export interface GuestConsole {
  /** Whether a person types here: only then is there an escape key. */
  readonly interactive: boolean;
  open(): void;
  /** Gives the terminal back as it was. Harmless when repeated; called on every way out. */
  close(): void;
  attach(vm: Vm): void;
  /** Keeps input until the next VM is attached. */
  detach(): void;
  /** Input for the guest's serial port that no VM has taken yet: a copy. */
  unsent(): Uint8Array;
  /** Input as if it were typed, for the serial port. */
  type(bytes: Uint8Array): void;
  /** Takes output of the guest's serial port; resolves when more may follow. */
  write(bytes: Uint8Array): void | Promise<void>;
  /** A line from isola itself. */
  note(line: string): void;
}

export class Terminal implements GuestConsole {
  readonly #streams: TerminalStreams;
  readonly #events: TerminalEvents;
  readonly #escapes = new EscapeParser();
  readonly #pump: InputPump;
  readonly #encode: (typed: Uint8Array) => Uint8Array;
  #outputError: Error | undefined;
  #open = false;
  /** Whether the guest's output ended in the middle of a line. */
  #midLine = false;

  /** `encode` turns what is typed into what the guest is sent; absent: it is sent as it is. */
  constructor(streams: TerminalStreams, events: TerminalEvents, encode = (typed: Uint8Array): Uint8Array => typed) {
    this.#streams = streams;
    this.#events = events;
    this.#encode = encode;
    this.#pump = new InputPump({ hold: (held) => this.#hold(held) });
  }

  get interactive(): boolean {
    return this.#streams.stdin.isTTY;
  }

  open(): void {
    const { stdin, stdout } = this.#streams;
    this.#open = true;
    this.#setRaw(true);
    process.on("exit", this.close);
    process.on("SIGCONT", this.#resumed);
    stdin.on("data", this.#received);
    // A terminal that went away, or an unreadable stdin, leaves the guest without input, as an unplugged keyboard does.
    stdin.on("error", () => undefined);
    stdout.on("error", this.#failed);
  }

  readonly close = (): void => {
    if (!this.#open) return;
    this.#open = false;
    const { stdin } = this.#streams;
    this.#setRaw(false);
    process.off("exit", this.close);
    process.off("SIGCONT", this.#resumed);
    stdin.off("data", this.#received);
    stdin.pause();
  };

  /** Connects input to a VM's serial port. */
  attach(sink: InputSink): void {
    this.#pump.attach(sink);
  }

  detach(): void {
    this.#pump.detach();
  }

  unsent(): Uint8Array {
    return this.#pump.queued();
  }

  type(bytes: Uint8Array): void {
    this.#pump.push(bytes);
  }

  /** Writes guest output; resolves when more may follow, at once unless the reader is slow. */
  write(bytes: Uint8Array): void | Promise<void> {
    const { stdout } = this.#streams;
    if (bytes.length > 0) this.#midLine = bytes[bytes.length - 1] !== LINE_FEED;
    if (this.#outputError !== undefined || stdout.write(bytes)) return undefined;
    return new Promise((resolve) => {
      const done = (): void => {
        stdout.off("drain", done);
        stdout.off("error", done);
        resolve();
      };
      stdout.on("drain", done);
      stdout.on("error", done);
    });
  }

  /** A line from isola itself, on stderr; on a terminal it begins at the left edge. */
  note(line: string): void {
    const { stdout, stderr } = this.#streams;
    // In raw mode a line feed alone does not return the cursor.
    const end = this.#open && this.interactive ? "\r\n" : "\n";
    const start = this.#midLine && stdout.isTTY && stderr.isTTY ? end : "";
    this.#midLine = false;
    stderr.write(`${start}${line}${end}`);
  }

  #setRaw(raw: boolean): void {
    if (!this.interactive) return;
    try {
      const { stdin } = this.#streams;
      stdin.setRawMode(raw);
      // Node's raw mode still adds a carriage return to each line feed, which breaks the guest's full-screen programs.
      // Where there is no stty, that remains. Leaving raw mode restores this as well.
      if (raw && stdin === process.stdin) spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
    } catch {
      // The terminal is gone (EIO): there is no mode left to restore.
    }
  }

  /** A person stopped isola from another terminal and continued it: the shell has reset the mode meanwhile. */
  readonly #resumed = (): void => {
    this.#setRaw(false);
    this.#setRaw(true);
  };

  readonly #failed = (error: Error): void => {
    this.#outputError = error;
    this.#events.outputFailed(error);
  };

  readonly #received = (bytes: Uint8Array): void => {
    if (!this.interactive) {
      this.#pump.push(this.#encode(bytes));
      return;
    }
    for (const event of this.#escapes.feed(bytes)) {
      if (event.kind === "leave") this.#events.leave();
      else if (event.kind === "save") this.#events.save?.();
      else if (event.kind === "help") this.#help();
      else if (this.#pump.full) this.#streams.stderr.write(BELL);
      else this.#pump.push(this.#encode(event.bytes));
    }
  };

  #help(): void {
    if (this.#events.help !== undefined) this.#events.help();
    else for (const line of HELP) this.note(line);
  }

  #hold(held: boolean): void {
    const { stdin } = this.#streams;
    // A terminal is read on in any case: Ctrl-A x must work though the guest reads nothing.
    if (this.interactive) return;
    if (held) stdin.pause();
    else if (this.#open) stdin.resume();
  }
}
