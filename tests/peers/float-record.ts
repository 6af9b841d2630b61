/**
 * Records a small set of this processor's floating-point answers into src/isa/float/vectors, for `npm test` on hosts
 * of any kind. Run by hand: node tests/peers/float-record.ts
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { SSE_RECORD_BYTES, X87_RECORD_BYTES } from "../../src/isa/float/replay.ts";
import { x87Name } from "../../src/isa/float/x87.ts";
import { buildFloatOracle } from "./float-oracle.ts";

const SEED = 2026;
/** Cases kept for each SSE operation and immediate, and for each x87 instruction, by what makes them differ. */
const KEPT_SSE = 4;
const KEPT_X87 = 2;

const directory = new URL("../../src/isa/float/vectors/", import.meta.url);

/** Keeps the first records of every kind. */
function sample(view: DataView, bytes: number, kept: number, kindOf: (at: number) => string): Buffer {
  const counts = new Map<string, number>();
  const chosen: Uint8Array[] = [];
  for (let at = 0; at < view.byteLength; at += bytes) {
    const kind = kindOf(at);
    const count = counts.get(kind) ?? 0;
    if (count >= kept) continue;
    counts.set(kind, count + 1);
    chosen.push(new Uint8Array(view.buffer, view.byteOffset + at, bytes));
  }
  return Buffer.concat(chosen);
}

const oracle = buildFloatOracle();
mkdirSync(directory, { recursive: true });
const sse = oracle.sse(SEED, 60_000);
const sseKept = sample(sse, SSE_RECORD_BYTES, KEPT_SSE, (at) => {
  const trapped = sse.getUint8(at + 4);
  const raised = sse.getUint8(at + 5) !== 0;
  return `${sse.getUint8(at)} ${trapped} ${raised}`;
});
const x87 = oracle.x87(SEED, 60_000);
const x87Kept = sample(x87, X87_RECORD_BYTES, KEPT_X87, (at) => {
  const name = x87Name(x87.getUint8(at), x87.getUint8(at + 1)) ?? "undefined";
  const status = x87.getUint16(at + 16 + 160 + 2, true);
  return `${name} ${x87.getUint8(at + 2)} ${(status & 0x80) !== 0} ${(status & 0x40) !== 0}`;
});
writeFileSync(new URL("sse.bin.gz", directory), gzipSync(sseKept, { level: 9 }));
writeFileSync(new URL("x87.bin.gz", directory), gzipSync(x87Kept, { level: 9 }));
const manifest = { processor: oracle.processor, sseOperations: oracle.sseOperations };
writeFileSync(new URL("manifest.json", directory), `${JSON.stringify(manifest, undefined, 2)}\n`);
console.log(`${sseKept.length / SSE_RECORD_BYTES} SSE and ${x87Kept.length / X87_RECORD_BYTES} x87 records kept`);
