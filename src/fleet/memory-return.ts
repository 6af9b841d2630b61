/**
 * Gives the host back what a VM's start has left behind. V8 collects when something allocates, and the main thread of a
 * VM whose guest has booted allocates next to nothing: what unpacking a kernel and starting the engine left, some 30 MB,
 * would stay for as long as the guest idles.
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Seconds after the start at which to collect: boots end at different times. One takes some 50 ms. */
const TIMES_SECONDS = [5, 12, 30];

type Collect = (options: { type: "major"; flavor: "last-resort" }) => void;

/** V8's own collector. Node has no other door to it in a process that was started without the flag. */
function collector(): Collect {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  setFlagsFromString("--no-expose-gc");
  return collect;
}

let begun = false;

/** Collects some times after the first VM's start in this process, and keeps no process alive. */
export function returnMemoryAfterStart(): void {
  if (begun) return;
  begun = true;
  const collect = collector();
  for (const seconds of TIMES_SECONDS) {
    setTimeout(() => collect({ type: "major", flavor: "last-resort" }), seconds * 1000).unref();
  }
}
