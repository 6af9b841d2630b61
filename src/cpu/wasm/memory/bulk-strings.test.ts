/** Bulk REP MOVS and STOS against single steps, by a property over random spans. */

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { CoreFixture, SUPERVISOR_VIEW } from "./core-fixture.ts";

const fixture = new CoreFixture();
const { core } = fixture;
/** Three pages of RAM that the spans lie in. */
const BASE = 0x20000;
const SPAN = 0x3000;

beforeEach(() => fixture.reset());

function touch(): void {
  for (let page = 0; page < SPAN; page += 0x1000) core.store(BigInt(BASE + page), 1, 0n);
}
function fillPattern(): Uint8Array {
  const bytes = Uint8Array.from({ length: SPAN }, (_, i) => (i * 7 + (i >> 8) * 13 + 1) & 0xff);
  fixture.memory.slice(BASE, SPAN)?.set(bytes);
  return bytes;
}
const SIZE = fc.constantFrom(1, 2, 4, 8);
/** Spans that meet pages' ends, and each other, often. */
const OFFSET = fc.oneof(fc.integer({ min: 0, max: SPAN - 64 }), fc.integer({ min: 0xfe0, max: 0x1020 }));
const COUNT = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 5000 }));

describe("bulk strings", () => {
  test("MOVS does a prefix of what single steps do, and stays in both pages", () => {
    touch();
    fc.assert(
      fc.property(SIZE, COUNT, OFFSET, OFFSET, (size, count, to, from) => {
        const expected = fillPattern();
        const done = Number(core.repMovs(size, BigInt(count), BigInt(BASE + to), BigInt(BASE + from)));
        assert.ok(done <= count && (to % 0x1000) + done * size <= 0x1000 && (from % 0x1000) + done * size <= 0x1000);
        for (let i = 0; i < done * size; i++) expected[to + i] = expected[from + i] ?? 0;
        assert.deepEqual(fixture.memory.slice(BASE, SPAN)?.slice(), expected);
      }),
      { numRuns: 300 },
    );
  });
  test("STOS stores the low bytes of the value", () => {
    touch();
    fc.assert(
      fc.property(
        SIZE,
        COUNT,
        OFFSET,
        fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
        (size, count, to, value) => {
          const expected = fillPattern();
          const done = Number(core.repStos(size, BigInt(count), BigInt(BASE + to), value));
          assert.equal(done, Math.min(count, Math.floor((0x1000 - (to % 0x1000)) / size)));
          for (let i = 0; i < done * size; i++) expected[to + i] = Number((value >> BigInt(8 * (i % size))) & 0xffn);
          assert.deepEqual(fixture.memory.slice(BASE, SPAN)?.slice(), expected);
        },
      ),
      { numRuns: 300 },
    );
  });
  test("a count beyond 2^32 is unsigned and limited by the page", () => {
    touch();
    assert.equal(core.repStos(4, -1n, BigInt(BASE), 0n), 1024n);
    assert.equal(core.repStos(4, 1n << 32n, BigInt(BASE), 0n), 1024n);
  });
  test("a pattern that repeats itself is left to single steps", () => {
    touch();
    assert.equal(core.repMovs(1, 16n, BigInt(BASE + 1), BigInt(BASE)), 0n);
    assert.equal(core.repMovs(8, 2n, BigInt(BASE + 8), BigInt(BASE)), 0n);
    assert.equal(core.repMovs(8, 1n, BigInt(BASE + 8), BigInt(BASE)), 1n);
    assert.equal(core.repMovs(1, 16n, BigInt(BASE), BigInt(BASE + 1)), 16n);
  });
  test("a miss on either side, or a page with decoded code as destination, gives 0", () => {
    core.load(BigInt(BASE), 1);
    fixture.markCode(BASE + 0x1000, true);
    core.store(BigInt(BASE + 0x1000), 1, 0n);
    assert.equal(core.repMovs(1, 8n, BigInt(BASE), BigInt(BASE + 0x2000)), 0n, "source misses");
    assert.equal(core.repMovs(1, 8n, BigInt(BASE + 0x2000), BigInt(BASE)), 0n, "destination misses");
    assert.equal(core.repMovs(1, 8n, BigInt(BASE + 0x1000), BigInt(BASE)), 0n, "destination holds code");
    assert.equal(core.repStos(1, 8n, BigInt(BASE + 0x1000), 0n), 0n);
    assert.equal(core.repMovs(1, 8n, BigInt(BASE), BigInt(BASE + 0x1000)), 8n, "code may be copied from");
    assert.equal(fixture.tlb(BigInt(BASE + 0x1000), "write", SUPERVISOR_VIEW), undefined);
  });
});
