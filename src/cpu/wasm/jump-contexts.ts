/**
 * What an entry of the jump cache, and the stamp of a region's pages, must be equal to in order to hold: a decode context,
 * whose rights code is fetched by, and a generation of these rights' translations. A flush begins a new generation, so
 * nothing is wiped; global pages keep the supervisor's generation across a write of CR3, and a page that no code was
 * fetched from keeps both across INVLPG.
 */

import { DECODE } from "../../isa/decode.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { FETCH_RIGHTS, FETCHED_PAGES, JUMP_CACHE, REGION_STAMP } from "./layout.ts";

/** In a jump context: above the decode context and the user bit. */
const GENERATION_SHIFT = DECODE.bits + 1;
const GENERATIONS = 1 << (32 - GENERATION_SHIFT);
/** Never 0, so that a jump context of 0 is none. */
const FIRST_GENERATION = 1;

export class JumpContexts {
  readonly #bytes: Uint8Array;
  #supervisor = FIRST_GENERATION;
  #user = FIRST_GENERATION;

  constructor(memory: GuestMemory) {
    this.#bytes = memory.bytes;
  }

  /** The context of code that is now run. */
  of(decodeContext: number, user: boolean): number {
    const generation = user ? this.#user : this.#supervisor;
    return (generation << GENERATION_SHIFT) | (decodeContext << 1) | (user ? 1 : 0);
  }

  /** Nothing that was found by `rights` (FETCH_RIGHTS) holds any longer. */
  forget(rights: number): void {
    if ((rights & FETCH_RIGHTS.supervisor) !== 0) {
      this.#supervisor = this.#next(this.#supervisor);
      this.#clearPages(0);
    }
    if ((rights & FETCH_RIGHTS.user) !== 0) {
      this.#user = this.#next(this.#user);
      this.#clearPages(1);
    }
  }

  #clearPages(user: 0 | 1): void {
    const pages = FETCHED_PAGES.base + user * FETCHED_PAGES.pages;
    this.#bytes.fill(0, pages, pages + FETCHED_PAGES.pages);
  }

  /** Numbers come again, so what has old ones goes before they do. */
  #next(generation: number): number {
    if (generation + 1 < GENERATIONS) return generation + 1;
    this.#bytes.fill(0, JUMP_CACHE.base, JUMP_CACHE.base + JUMP_CACHE.entries * 16);
    this.#bytes.fill(0, REGION_STAMP.base, REGION_STAMP.base + REGION_STAMP.regions * 4);
    return FIRST_GENERATION;
  }
}
