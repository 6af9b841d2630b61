/**
 * Gives the host back what a thread of a VM no longer needs. V8 collects when something allocates, and the threads of a
 * VM whose guest idles allocate next to nothing: what the start has left would stay for as long as the guest idles, 25 MB
 * or more on the main thread and as much on a vCPU's.
 */

import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** How often a thread is looked at, in ms, and how much its heap must have grown to be worth a collection of 50 ms. */
const LOOK_MS = 5000;
const WORTH_BYTES = 3 * 2 ** 20;

type Collect = (options: { type: "major"; flavor: "last-resort" }) => void;

/** V8's own collector. Node has no other door to it in a process that was started without the flag. */
function collector(): Collect {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  setFlagsFromString("--no-expose-gc");
  return collect;
}

function heapBytes(): number {
  const { total_heap_size: own, external_memory: outside } = getHeapStatistics();
  return own + outside;
}

/** One thread's: to be asked on it, whenever it has nothing else to do. */
export class MemoryReturn {
  readonly #collect = collector();
  #left = 0;
  #looked = performance.now();

  /**
   * Collects where the heap has grown since the last time; does nothing when asked again within seconds. `trim` lets go
   * of what can be done without.
   */
  look(trim?: () => void): void {
    const now = performance.now();
    if (now - this.#looked < LOOK_MS) return;
    this.#looked = now;
    if (heapBytes() < this.#left + WORTH_BYTES) return;
    trim?.();
    this.#collect({ type: "major", flavor: "last-resort" });
    this.#left = heapBytes();
  }
}

let watched = false;

/** Looks after the main thread from now on, and keeps no process alive. */
export function watchMainThread(): void {
  if (watched) return;
  watched = true;
  const memory = new MemoryReturn();
  setInterval(() => memory.look(), LOOK_MS).unref();
}
