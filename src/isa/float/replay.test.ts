/** Replays recorded answers of a processor; tests/peers/float.test.ts asks the processor itself. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { replaySse, replayX87, SSE_RECORD_BYTES, X87_RECORD_BYTES } from "./replay.ts";
import { sseCode } from "./sse-packed.ts";
import { x87Name } from "./x87.ts";

function load(name: string): DataView {
  const bytes = gunzipSync(readFileSync(new URL(`./vectors/${name}`, import.meta.url)));
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

interface Manifest {
  readonly processor: string;
  readonly sseOperations: readonly string[];
}

const manifest = JSON.parse(readFileSync(new URL("./vectors/manifest.json", import.meta.url), "utf8")) as Manifest;

test(`SSE agrees with ${manifest.processor}`, () => {
  const view = load("sse.bin.gz");
  const seen = new Set<string>();
  for (let at = 0; at < view.byteLength; at += SSE_RECORD_BYTES) {
    const name = manifest.sseOperations[view.getUint8(at)] ?? "";
    seen.add(name);
    assert.equal(replaySse(view, at, sseCode(name), name), undefined);
  }
  assert.deepEqual([...seen].toSorted(), [...new Set(manifest.sseOperations)].toSorted());
});

test(`x87 agrees with ${manifest.processor}`, () => {
  const view = load("x87.bin.gz");
  const seen = new Set<string>();
  const worst = new Map<string, number>();
  for (let at = 0; at < view.byteLength; at += X87_RECORD_BYTES) {
    seen.add(x87Name(view.getUint8(at), view.getUint8(at + 1)) ?? "undefined");
    const line = replayX87(view, at, (name, units) => worst.set(name, Math.max(worst.get(name) ?? 0, units)));
    assert.equal(line, undefined);
  }
  // The measured bound: no result is off by more than one unit in the last place.
  assert.equal(worst.size, 8);
  for (const [name, units] of worst) assert.ok(units <= 1, `${name}: ${units}`);
  const all = new Set<string>();
  for (let n = 0; n < 2048; n++) all.add(x87Name(0xd8 + (n >> 8), n & 0xff) ?? "undefined");
  assert.deepEqual([...seen].toSorted(), [...all].toSorted());
});
