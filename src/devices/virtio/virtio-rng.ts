/** Entropy device. [virtio 1.2 §5.4] */

import { f64 } from "../state.ts";
import { defineVirtio } from "./define-virtio.ts";

export interface EntropySource {
  /** Fills `bytes` with random ones. */
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

/** What one request gets at the most: a guest that asks for gigabytes gets less, as it may. */
const MOST_BYTES = 65536;

export const virtioRng = defineVirtio<null, EntropySource>()({
  name: "virtio-rng",
  version: 1,
  type: 4,
  // Other, unclassified.
  pciClass: 0x00ff,
  queues: { requests: 64 },
  /** Bytes handed out. */
  state: { served: f64 },
  notified({ state, port, queues }) {
    for (const chain of queues.requests.take()) {
      let written = 0;
      for (const buffer of chain.writable) {
        const bytes = new Uint8Array(Math.min(buffer.length, MOST_BYTES - written));
        port.fill(bytes);
        buffer.set(bytes);
        written += bytes.length;
        if (written === MOST_BYTES) break;
      }
      state.served += written;
      chain.complete(written);
    }
  },
});
