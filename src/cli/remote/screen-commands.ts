/** `isola screen` and `isola keys`: a VM's text screen and its keyboard, for guests that know no serial port. */

import { setTimeout as sleep } from "node:timers/promises";
import { MAX_KEY_TEXT } from "../../fleet/contract.ts";
import { hearEndSignals } from "../end-signals.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { Outcome } from "../host.ts";
import { usageError } from "../report.ts";
import { ScreenPainter } from "../screen-painter.ts";
import { Terminal } from "../terminal.ts";
import type { Define } from "./commands.ts";
import type { Remote } from "./remote.ts";

const HELP = "Ctrl-A x leaves, the guest goes on; Ctrl-A Ctrl-A sends Ctrl-A";
const ENTER = "\x1b[?1049h\x1b[?7l";
const LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/** Between one look at the screen and the next, in milliseconds. */
const LOOK_MS = 100;
const STATUS_MS = 4000;

interface ScreenFlags {
  readonly interactive?: boolean;
}

async function printScreen(remote: Remote, vm: string): Promise<Outcome> {
  const { screen } = await remote.api.getScreen({ vm });
  if (remote.json) remote.printJson(screen);
  else if (screen === null) remote.note(`${vm} is off, or shows graphics`);
  else remote.print(screen.lines.join("\n").trimEnd());
  return EXIT_STATUS.ok.status;
}

/** Shows the screen until the person leaves; what is typed goes to the guest's keyboard, in its order. */
async function watchScreen(remote: Remote, vm: string): Promise<Outcome> {
  const { streams } = remote.host;
  const { stdout } = streams;
  if (!stdout.isTTY || !streams.stdin.isTTY) {
    throw usageError("--interactive: stdin and stdout are no terminal; wanted: one, or `isola screen` without it");
  }
  const end = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const painter = new ScreenPainter();
  let statusEnds = performance.now() + STATUS_MS;
  painter.status = HELP;
  const terminal = new Terminal(streams, {
    leave: () => resolve(EXIT_STATUS.ok.status),
    help: () => {
      painter.status = HELP;
      statusEnds = performance.now() + STATUS_MS;
    },
    outputFailed: reject,
  });
  const look = async (): Promise<void> => {
    while (!end.signal.aborted) {
      const { screen } = await remote.api.getScreen({ vm });
      if (performance.now() > statusEnds) painter.status = "";
      const picture = screen === null ? undefined : { rows: screen.painted, cursor: screen.cursor ?? undefined };
      const painted = painter.paint(picture, { columns: stdout.columns, rows: stdout.rows });
      if (painted !== "" && stdout.writableLength === 0 && !end.signal.aborted) stdout.write(painted);
      await sleep(LOOK_MS, undefined, { signal: end.signal }).catch(() => undefined);
    }
  };
  let pressed: Promise<unknown> = Promise.resolve();
  const decoder = new TextDecoder("latin1");
  const letGo = hearEndSignals(resolve);
  try {
    // Before the screen is taken: a VM that is not there is told of in a line.
    await remote.api.getVm({ vm });
    terminal.open();
    stdout.write(ENTER);
    terminal.attach({
      write: (bytes) => {
        const text = decoder.decode(bytes.subarray(0, MAX_KEY_TEXT));
        pressed = pressed.then(() => remote.api.pressKeys({ vm, body: { text } })).catch(reject);
        return text.length;
      },
      onInputSpace: () => undefined,
    });
    look().catch(reject);
    return await promise;
  } finally {
    end.abort();
    letGo();
    terminal.detach();
    terminal.close();
    stdout.write(LEAVE);
  }
}

async function keys(
  remote: Remote,
  vm: string,
  names: readonly string[],
  { text }: { text?: string },
): Promise<Outcome> {
  if (names.length === 0 && text === undefined) throw usageError("no keys; wanted: names of keys, or --text");
  for (let at = 0; at < (text?.length ?? 0); at += MAX_KEY_TEXT) {
    await remote.api.pressKeys({ vm, body: { text: (text ?? "").slice(at, at + MAX_KEY_TEXT) } });
  }
  if (names.length > 0) await remote.api.pressKeys({ vm, body: { keys: [...names] } });
  return EXIT_STATUS.ok.status;
}

export function addScreenCommands(define: Define): void {
  define("screen", "what a VM's VGA shows, as text")
    .argument("<VM>", "its name or id")
    .option("-i, --interactive", "show it as it changes, and type on its keyboard; Ctrl-A x leaves")
    .addHelpText("after", "\nExamples:\n  isola screen memtest\n  isola screen -i memtest")
    .action(
      define.run((remote, [vm], { interactive = false }: ScreenFlags) =>
        interactive ? watchScreen(remote, vm as string) : printScreen(remote, vm as string),
      ),
    );

  define("keys", "press keys of a VM's keyboard, which has the US layout")
    .argument("<VM>", "its name or id")
    .argument("[KEY...]", "enter, esc, f1, up, a, ... with ctrl-, alt- or shift- before them")
    .option("--text <TEXT>", "characters to type, before the keys")
    .addHelpText(
      "after",
      "\nExamples:\n  isola keys web ctrl-alt-delete\n  isola keys memtest f1\n  isola keys web --text root enter",
    )
    .action(
      define.run((remote, [vm, names], flags: { text?: string }) =>
        keys(remote, vm as string, names as string[], flags),
      ),
    );
}
