/** The areas of the engine's memory lie beside each other: what runs over one would be found in another much later. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ARENA,
  CODE_MAP,
  FETCH_GLOBAL,
  FETCH_TLB,
  FETCHED_PAGES,
  INDIRECT_SITES,
  JUMP_CACHE,
  KEPT_PAGES,
  LARGE_PAGES,
  PROFILE,
  REGION_STAMP,
  STATE_BASE,
  TLB,
  TLB_LOGS,
  TRACE_HASH,
} from "./layout.ts";

const MAX_RAM_PAGES = 2 ** 20;

test("no area runs into the next one", () => {
  const areas: readonly (readonly [name: string, start: number, bytes: number])[] = [
    ["STATE", STATE_BASE, 4096],
    ["TLB", TLB.base, TLB.end - TLB.base],
    ...Object.values(TLB_LOGS).flatMap(({ base, capacity, count }) => [
      ["TLB_LOGS", base, capacity * 4] as const,
      ["TLB_LOGS' count", count, 4] as const,
    ]),
    ["KEPT_PAGES", KEPT_PAGES.base, KEPT_PAGES.entries * KEPT_PAGES.entryBytes],
    ["LARGE_PAGES", LARGE_PAGES.base, LARGE_PAGES.bytes],
    ["FETCH_TLB", FETCH_TLB.base, FETCH_TLB.entries * FETCH_TLB.entryBytes],
    ["FETCH_GLOBAL", FETCH_GLOBAL, FETCH_TLB.entries],
    ["FETCHED_PAGES", FETCHED_PAGES.base, 2 * FETCHED_PAGES.pages],
    ["FETCHED_PAGES.local", FETCHED_PAGES.local, 2],
    ["JUMP_CACHE", JUMP_CACHE.base, JUMP_CACHE.entries * 16],
    ["REGION_STAMP", REGION_STAMP.base, REGION_STAMP.regions * 4],
    ["INDIRECT_SITES", INDIRECT_SITES.base, INDIRECT_SITES.sites * INDIRECT_SITES.bytes],
    ["TRACE_HASH", TRACE_HASH.base, TRACE_HASH.entries * 16],
    ["CODE_MAP", CODE_MAP, MAX_RAM_PAGES],
    ["ARENA", ARENA.base, ARENA.end - ARENA.base],
    ["PROFILE", PROFILE, 0],
  ];
  const sorted = areas.toSorted(([, a], [, b]) => a - b);
  for (const [i, [name, start, bytes]] of sorted.entries()) {
    const [following, next] = sorted[i + 1] ?? ["nothing", Infinity];
    assert.ok(start + bytes <= next, `${name} ends at ${start + bytes}, ${following} begins at ${next}`);
  }
});
