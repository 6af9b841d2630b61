/** `isola console` and `isola logs`: what a guest prints, and what is typed to it. */

import { hearEndSignals } from "../end-signals.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { Outcome } from "../host.ts";
import { usageError } from "../report.ts";
import { Terminal } from "../terminal.ts";
import type { Define } from "./commands.ts";
import type { Remote } from "./remote.ts";

const HELP = [
  "Ctrl-A h       this help",
  "Ctrl-A x       leave; the guest goes on",
  "Ctrl-A Ctrl-A  send Ctrl-A to the guest",
];
/** Bytes on their way to the server at which no more are taken from the keyboard. */
const UNSENT_LIMIT_BYTES = 256 * 1024;
const UNSENT_LOOK_MS = 20;

export interface ConsoleFlags {
  /** Bytes of what was printed before. */
  readonly replay?: string;
}

/** Watches and types until the person leaves, the VM ends, or stdin ends in a pipe and the VM with it. */
export async function attachConsole(remote: Remote, vm: string, flags: ConsoleFlags): Promise<Outcome> {
  const replay = flags.replay === undefined ? undefined : Number(flags.replay);
  if (replay !== undefined && !(Number.isInteger(replay) && replay >= 0 && replay <= 2 ** 20)) {
    throw usageError(`--replay ${flags.replay}: not a number of bytes; wanted: 0 to 1048576`);
  }
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const ok = EXIT_STATUS.ok.status;
  const terminal = new Terminal(remote.host.streams, {
    leave: () => resolve(ok),
    help: () => {
      for (const line of HELP) terminal.note(line);
    },
    outputFailed: reject,
  });
  let announced = false;
  const console = remote.connection.openConsole(
    vm,
    {
      data: (bytes) => {
        if (!announced && terminal.interactive) terminal.note(`console of ${vm}; Ctrl-A x leaves, Ctrl-A h helps`);
        announced = true;
        const slow = terminal.write(bytes);
        if (slow === undefined) return;
        // What stdout does not take stays on the server.
        console.hold(true);
        void slow.then(() => console.hold(false));
      },
      gap: (lost) => terminal.note(`isola: this side was slow, ${lost} bytes are lost`),
      end: (reason, error) => {
        if (error !== undefined) {
          reject(error);
          return;
        }
        terminal.close();
        terminal.note(`isola: ${vm}: ${reason}`);
        resolve(ok);
      },
    },
    replay,
  );
  let space: (() => void) | undefined;
  const look = setInterval(() => {
    if (console.unsentBytes < UNSENT_LIMIT_BYTES) space?.();
  }, UNSENT_LOOK_MS);
  const letGo = hearEndSignals(resolve);
  try {
    terminal.open();
    terminal.attach({
      write: (bytes) => {
        if (console.unsentBytes >= UNSENT_LIMIT_BYTES) return 0;
        console.write(bytes);
        return bytes.length;
      },
      onInputSpace: (listener) => {
        space = listener;
      },
    });
    return await promise;
  } finally {
    clearInterval(look);
    letGo();
    terminal.detach();
    terminal.close();
    console.close();
  }
}

interface LogFlags {
  readonly follow?: boolean;
  readonly tail?: string;
}

/** Where the last `lines` lines of a text begin. */
export function tailStart(text: Uint8Array, lines: number): number {
  let left = lines;
  // The line feed that ends the last line begins no other.
  for (let at = text.length - 2; at >= 0; at -= 1) {
    if (text[at] !== 0x0a) continue;
    left -= 1;
    if (left === 0) return at + 1;
  }
  return lines === 0 ? text.length : 0;
}

async function logs(remote: Remote, vm: string, { follow = false, tail }: LogFlags): Promise<Outcome> {
  const { stdout } = remote.host.streams;
  const lines = tail === undefined || tail === "all" ? undefined : Number(tail);
  if (lines !== undefined && !(Number.isInteger(lines) && lines >= 0)) {
    throw usageError(`--tail ${tail}: not a number of lines; wanted: a whole number, or all`);
  }
  const kept = new Uint8Array(await new Response(await remote.api.getVmLog({ vm })).arrayBuffer());
  const start = lines === undefined ? 0 : tailStart(kept, lines);
  if (remote.json) {
    remote.printJson({ vm, text: new TextDecoder().decode(kept.subarray(start)) });
    return EXIT_STATUS.ok.status;
  }
  if (!follow) {
    stdout.write(kept.subarray(start));
    return EXIT_STATUS.ok.status;
  }
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.on("SIGINT", interrupt);
  stdout.on("error", interrupt);
  try {
    const query = { follow: true, tailBytes: kept.length - start };
    for await (const bytes of await remote.api.getVmLog({ vm, query }, { signal: stop.signal })) {
      if (!stdout.write(bytes)) await new Promise((resolve) => stdout.once("drain", resolve));
    }
    return EXIT_STATUS.ok.status;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return "SIGINT";
  } finally {
    process.off("SIGINT", interrupt);
    stdout.off("error", interrupt);
  }
}

export function addConsoleCommands(define: Define): void {
  define("console", "a VM's serial console on this terminal; Ctrl-A x leaves, the guest goes on")
    .alias("attach")
    .argument("<VM>", "its name or id")
    .option("--replay <BYTES>", "how much of what was printed before (default: all that is kept)")
    .addHelpText("after", "\nExamples:\n  isola console web\n  echo uname -a | isola console web --replay 0")
    .action(define.run((remote, [vm], flags: ConsoleFlags) => attachConsole(remote, vm as string, flags)));

  define("logs", "what a VM's console printed: its last 1 MiB, over restarts")
    .argument("<VM>", "its name or id")
    .option("-f, --follow", "go on until the VM ends")
    .option("-n, --tail <LINES>", "only the last lines (default: all)")
    .addHelpText("after", "\nExamples:\n  isola logs web | grep panic\n  isola logs -f --tail 20 web")
    .action(define.run((remote, [vm], flags: LogFlags) => logs(remote, vm as string, flags)));
}
