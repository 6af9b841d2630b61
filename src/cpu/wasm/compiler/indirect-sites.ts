/** Places in the engine's memory where compiled code notes where its indirect jumps lead [layout.ts, INDIRECT_SITES]. */

import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { INDIRECT_SITES } from "../layout.ts";

/** Targets at most that a region follows from one jump, and how rare the rarest of them may be, of all that were noted. */
const MAX_TARGETS = 24;
const RAREST = 1 / 64;

export class IndirectSites {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #free: number[] = [];
  #next = 0;

  constructor({ view, bytes }: GuestMemory) {
    this.#view = view;
    this.#bytes = bytes;
  }

  /** An empty site that is looked at after so many exits; undefined where there are no more. */
  take(exits: number): number | undefined {
    const known = this.#free.pop();
    if (known === undefined && this.#next >= INDIRECT_SITES.sites) return undefined;
    const site = known ?? INDIRECT_SITES.base + this.#next++ * INDIRECT_SITES.bytes;
    this.#bytes.fill(0, site, site + INDIRECT_SITES.bytes);
    this.#view.setInt32(site, exits, true);
    return site;
  }

  give(site: number): void {
    this.#free.push(site);
  }

  /** The frequent targets of a site, as distances from the page of its region's head. */
  targets(site: number): number[] {
    const found: { target: number; count: number }[] = [];
    for (let slot = 0; slot < INDIRECT_SITES.slots; slot++) {
      const at = site + INDIRECT_SITES.first + slot * INDIRECT_SITES.slotBytes;
      const count = this.#view.getInt32(at + 4, true);
      if (count > 0) found.push({ target: this.#view.getInt32(at, true), count });
    }
    const all = found.reduce((sum, { count }) => sum + count, 0);
    return found
      .filter(({ count }) => count >= all * RAREST)
      .sort((a, b) => b.count - a.count)
      .slice(0, MAX_TARGETS)
      .map(({ target }) => target);
  }
}
