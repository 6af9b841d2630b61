/**
 * The list of commands in a BusyBox binary, found without running it.
 * BusyBox keeps its applets' names as one sorted run of NUL-ended strings that begins with `[` and `[[`.
 */

import { IsolaError } from "../base/errors.ts";

const APPLET_NAME = /^[a-z0-9[][a-z0-9_.[-]*$/i;
/** Without these there is no session; a list that lacks them was not the list. */
const NEEDED = [
  "sh",
  "mount",
  "poweroff",
  "reboot",
  "setsid",
  "cttyhack",
  "start-stop-daemon",
  "hostname",
  "sync",
  "modprobe",
];

/** Names in the order of the binary. @throws IsolaError `busybox-invalid` */
export function busyboxApplets(binary: Uint8Array): string[] {
  // latin1 keeps one character per byte, so that offsets agree.
  const text = new TextDecoder("latin1").decode(binary);
  let best: string[] = [];
  for (let at = text.indexOf("\0[\0[[\0"); at >= 0; at = text.indexOf("\0[\0[[\0", at + 1)) {
    const names: string[] = [];
    for (let from = at + 1; ; ) {
      const end = text.indexOf("\0", from);
      const name = end < 0 || end - from > 32 ? "" : text.slice(from, end);
      if (!APPLET_NAME.test(name)) break;
      names.push(name);
      from = end + 1;
    }
    if (names.length > best.length) best = names;
  }
  const missing = NEEDED.filter((name) => !best.includes(name));
  if (missing.length > 0) {
    throw new IsolaError({
      code: "busybox-invalid",
      message: `reading BusyBox: ${best.length} commands found, without ${missing.join(", ")}; wanted a full static build`,
    });
  }
  return best;
}
