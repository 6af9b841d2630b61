/**
 * Bringing a vCPU's thread out of the guest, from another thread, without ever losing the wish. [kvm api §5,
 * immediate_exit]
 *
 * The kicker sets `immediate_exit` and then interrupts the thread. Wherever the thread is, it comes out: inside the
 * guest, or halted in the kernel, by the signal; before KVM_RUN, by the flag, which the kernel reads after it has begun
 * to look for signals. The thread clears the flag when it is out, and only then looks at what is wanted of it: whoever
 * wants something says so first and kicks after.
 */

import type { Sys } from "../../sys/sys.ts";
import { KVM_RUN_STATE } from "./abi.ts";

/** The words that a thread and its kickers share. */
export const KICK = {
  /** The thread's number; 0 while it has not begun, or is done with the guest. */
  thread: 0,
  bytes: 4,
} as const;

export class Kicker {
  readonly shared: SharedArrayBuffer;
  readonly #sys: Sys;
  readonly #runBytes: Uint8Array;
  readonly #words: Int32Array;

  /** `runBytes` is the vCPU's kvm_run, mapped for as long as `kick` may be called. */
  constructor(sys: Sys, runBytes: Uint8Array, shared: SharedArrayBuffer) {
    this.#sys = sys;
    this.#runBytes = runBytes;
    this.shared = shared;
    this.#words = new Int32Array(shared);
  }

  kick(): void {
    Atomics.store(this.#runBytes, KVM_RUN_STATE.offset.immediateExit, 1);
    const thread = Atomics.load(this.#words, KICK.thread);
    if (thread !== 0) this.#sys.interrupt(thread);
  }
}

/** For the vCPU's own thread: while `body` runs, kicks reach it. */
export function kickable<T>(sys: Sys, shared: SharedArrayBuffer, body: () => T): T {
  const words = new Int32Array(shared);
  Atomics.store(words, KICK.thread, sys.threadId());
  try {
    return body();
  } finally {
    Atomics.store(words, KICK.thread, 0);
  }
}
