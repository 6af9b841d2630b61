/**
 * Pages of guest memory that code was decoded or compiled from: which bytes belong to whom, and who is told when they are
 * written. A write forgets only what was made of the bytes it touches, so patching one instruction of a kernel's page
 * costs little; a page that is written again and again is forgotten as a whole.
 */

import type { GuestMemory } from "../../memory/guest-memory.ts";
import { CODE_MAP } from "./layout.ts";

export const PAGE_BYTES = 4096;
/** So many writes to its code are followed one by one, until the page is forgotten as a whole. */
const PATIENCE = 16;

/** Something made from code, which is told when that is written. */
export interface CodeOwner {
  /** Its bytes changed, by the code write of this number. It may be told more than once. */
  forget(write: number): void;
}

/** Bytes [from, to) of a page belong to an owner. */
interface Claim {
  readonly owner: CodeOwner;
  readonly from: number;
  readonly to: number;
}

interface CodePage {
  claims: Claim[];
  /** One bit a byte that belongs to some owner. */
  readonly bytes: Uint8Array;
  writes: number;
}

export class CodePages {
  readonly #memory: GuestMemory;
  readonly #pages = new Map<number, CodePage>();
  readonly #claimed: (place: number) => void;
  #writes = 0;

  /** `claimed` is called when the page at a place in the memory becomes one that holds code: no view may write it unseen. */
  constructor(memory: GuestMemory, claimed: (place: number) => void) {
    this.#memory = memory;
    this.#claimed = claimed;
  }

  /** From now on a write to the RAM page at a physical address is noticed; before its bytes are read as code. */
  claim(pageAddress: number): void {
    this.#pageOf(pageAddress);
  }

  /** Has `owner` told when a byte of [from, to) of a RAM page is written. */
  own(pageAddress: number, from: number, to: number, owner: CodeOwner): void {
    const page = this.#pageOf(pageAddress);
    if (page === undefined) return;
    page.claims.push({ owner, from, to });
    mark(page.bytes, from, to);
  }

  #pageOf(pageAddress: number): CodePage | undefined {
    const offset = this.#memory.offsetOf(pageAddress, 1);
    if (offset < 0) return undefined;
    const number = this.#number(offset);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = { claims: [], bytes: new Uint8Array(PAGE_BYTES / 8), writes: 0 };
      this.#pages.set(number, page);
      // Seen by the thread that writes for devices [machine/code-notices.ts].
      Atomics.store(this.#memory.bytes, CODE_MAP + number, 1);
      this.#claimed(offset - (offset % PAGE_BYTES));
    }
    return page;
  }

  #number(place: number): number {
    return (place - (this.#memory.regions[0]?.offset ?? 0)) >>> 12;
  }

  /** Bytes at a place in the memory are about to change. Whether the page still holds code afterwards. */
  written(place: number, bytes: number): boolean {
    const number = this.#number(place >>> 0);
    const page = this.#pages.get(number);
    if (page === undefined) return false;
    const from = place & (PAGE_BYTES - 1);
    const to = Math.min(from + bytes, PAGE_BYTES);
    if (!isMarked(page.bytes, from, to)) return true;
    const write = ++this.#writes;
    const { claims } = page;
    page.claims = [];
    if (++page.writes < PATIENCE) {
      page.bytes.fill(0);
      for (const claim of claims) {
        if (claim.from < to && from < claim.to) continue;
        page.claims.push(claim);
        mark(page.bytes, claim.from, claim.to);
      }
    }
    const holds = page.claims.length > 0;
    if (!holds) {
      this.#pages.delete(number);
      this.#memory.bytes[CODE_MAP + number] = 0;
    }
    const kept = new Set(page.claims);
    for (const claim of claims) if (!kept.has(claim)) claim.owner.forget(write);
    return holds;
  }

  clear(): void {
    for (const number of this.#pages.keys()) this.#memory.bytes[CODE_MAP + number] = 0;
    this.#pages.clear();
  }
}

function mark(bits: Uint8Array, from: number, to: number): void {
  for (let i = from; i < to; i++) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7));
}

function isMarked(bits: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (((bits[i >> 3] ?? 0) & (1 << (i & 7))) !== 0) return true;
  return false;
}
