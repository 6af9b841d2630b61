/**
 * The person's side of the guest's keyboard and text screen. On a terminal the screen is shown while the guest runs;
 * the last one is printed as text at the end, on a terminal or not. What the guest sends on its serial port is dropped.
 */

import { keyCodes } from "../machine/key-codes.ts";
import { paintedRows } from "../machine/painted-screen.ts";
import { screenText, type Vm } from "../machine/vm-contract.ts";
import { ScreenPainter } from "./screen-painter.ts";
import { type GuestConsole, Terminal, type TerminalEvents, type TerminalStreams } from "./terminal.ts";

const HELP = "Ctrl-A x leaves: the guest is switched off; Ctrl-A s saves it; Ctrl-A Ctrl-A sends Ctrl-A";
/** Thirty times a second the screen is compared with what is shown. */
const FRAME_MS = 33;
const STATUS_MS = 6000;
const ENTER = "\x1b[?1049h";
const LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l";

export class ScreenConsole implements GuestConsole {
  readonly #streams: TerminalStreams;
  readonly #terminal: Terminal;
  readonly #painter = new ScreenPainter();
  #vm: Vm | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #open = false;
  #statusEnds = 0;

  constructor(streams: TerminalStreams, events: TerminalEvents) {
    this.#streams = streams;
    this.#terminal = new Terminal(streams, { ...events, help: () => this.note(HELP) }, keyCodes);
  }

  get interactive(): boolean {
    return this.#terminal.interactive;
  }

  open(): void {
    this.#open = true;
    this.#terminal.open();
    if (!this.#streams.stdout.isTTY) return;
    process.on("exit", this.close);
    process.on("SIGCONT", this.#resumed);
    this.#streams.stdout.write(ENTER);
    this.#timer = setInterval(this.#paint, FRAME_MS);
  }

  readonly close = (): void => {
    if (!this.#open) return;
    this.#open = false;
    const { stdout } = this.#streams;
    if (this.#timer !== undefined) {
      clearInterval(this.#timer);
      process.off("exit", this.close);
      process.off("SIGCONT", this.#resumed);
      stdout.write(LEAVE);
    }
    this.#terminal.close();
    const screen = this.#vm?.screen();
    if (screen !== undefined) stdout.write(screenText(screen));
  };

  attach(vm: Vm): void {
    this.#vm = vm;
    this.#terminal.attach(vm.keyboard);
  }

  detach(): void {
    this.#terminal.detach();
  }

  unsent(): Uint8Array {
    // Keys are typed, not bytes for the serial port.
    return new Uint8Array(0);
  }

  type(): void {
    // The serial port has no place here.
  }

  write(): void {
    // Serial output has no place on this screen.
  }

  note(line: string): void {
    if (this.#timer === undefined || !this.#open) {
      this.#terminal.note(line);
      return;
    }
    this.#painter.status = line;
    this.#statusEnds = performance.now() + STATUS_MS;
  }

  readonly #resumed = (): void => {
    this.#streams.stdout.write(ENTER);
    this.#painter.forget();
  };

  readonly #paint = (): void => {
    const { stdout } = this.#streams;
    // A slow terminal misses frames.
    if (this.#vm === undefined || stdout.writableLength > 0) return;
    if (performance.now() > this.#statusEnds) this.#painter.status = "";
    const screen = this.#vm.screen();
    const picture = screen && { rows: paintedRows(screen, stdout.columns), cursor: screen.cursor };
    const painted = this.#painter.paint(picture, { columns: stdout.columns, rows: stdout.rows });
    if (painted !== "") stdout.write(painted);
  };
}
