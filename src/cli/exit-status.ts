/** The exit statuses of `isola`, the one place where they are written down; `--help` prints this table. */

import type { VmResult } from "../machine/vm-contract.ts";

export const EXIT_STATUS = {
  ok: { status: 0, meaning: "the guest powered off, or you left it with Ctrl-A x; for other commands: done" },
  hostError: { status: 1, meaning: "isola could not do it: a file, an image, the network or the host" },
  usage: { status: 2, meaning: "the command line is wrong" },
  guestReset: { status: 3, meaning: "the guest reset itself, under --no-reboot" },
  tripleFault: { status: 4, meaning: "the guest ended in a triple fault" },
  engineError: { status: 5, meaning: "isola's engine failed; please report it" },
} as const;

/** Added to a signal's number, as shells do; isola ends itself by the same signal, so a parent sees the signal. */
const SIGNAL_BASE = 128;

/** The exit status for the end of a VM that is not to be started again. */
export function statusOf(result: VmResult): number {
  switch (result.kind) {
    case "power-off":
    case "stopped":
      return EXIT_STATUS.ok.status;
    case "reset":
      return EXIT_STATUS.guestReset.status;
    case "debug-exit":
      // As QEMU's isa-debug-exit has it: always odd, so never success, which a power-off means.
      return ((result.value << 1) | 1) & 0xff;
    case "triple-fault":
      return EXIT_STATUS.tripleFault.status;
    case "internal-error":
      return EXIT_STATUS.engineError.status;
  }
}

export function describeExitStatuses(): string {
  const rows = Object.values(EXIT_STATUS).map(({ status, meaning }) => `  ${String(status).padEnd(7)}${meaning}`);
  const debug = "  2v+1   the guest wrote v to isa-debug-exit, under --debug-exit";
  return ["Exit status:", ...rows, debug, `  ${SIGNAL_BASE}+n  isola was ended by signal n`].join("\n");
}
