import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { ProgressBar, progressLine } from "./progress-bar.ts";

function fakeStream(isTTY: boolean, columns = 60) {
  const writes: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      writes.push(chunk);
      done();
    },
  });
  return { writes, stream: Object.assign(stream, { isTTY, columns }) as unknown as NodeJS.WriteStream };
}

test("a line shows the step, a bar, the part and the size", () => {
  assert.equal(
    progressLine({ step: "downloading x", fraction: 0.5, totalBytes: 4096 }, 80),
    "downloading x [############------------]  50% of 4K",
  );
  assert.equal(progressLine({ step: "storing", fraction: 1 }, 80), "storing [########################] 100%");
  assert.equal(progressLine({ step: "reading the index" }, 80), "reading the index ...");
});

test("a line never exceeds the terminal, whatever is reported", () => {
  const step = "x".repeat(200);
  for (const fraction of [undefined, -1, 0, 0.3, 1, 7, Number.NaN]) {
    for (const columns of [1, 20, 39, 80]) {
      const line = progressLine(fraction === undefined ? { step } : { step, fraction, totalBytes: 12_345 }, columns);
      assert.ok(line.length <= columns, line);
    }
  }
});

test("on a terminal one line is redrawn, not too often, and taken away at the end", () => {
  const { stream, writes } = fakeStream(true);
  let now = 0;
  const bar = new ProgressBar(stream, () => now);
  bar.update({ step: "a", fraction: 0 });
  bar.update({ step: "a", fraction: 0.1 });
  now += 100;
  bar.update({ step: "a", fraction: 0.2 });
  bar.update({ step: "b" });
  bar.end();
  bar.end();
  assert.equal(writes.length, 4);
  assert.ok(writes.every((text) => text.startsWith("\r\x1b[2K") && !text.includes("\n")));
  assert.equal(writes.at(-1), "\r\x1b[2K");
});

test("elsewhere each step is one plain line", () => {
  const { stream, writes } = fakeStream(false);
  const bar = new ProgressBar(stream);
  bar.update({ step: "a", fraction: 0 });
  bar.update({ step: "a", fraction: 1 });
  bar.update({ step: "b" });
  bar.end();
  assert.deepEqual(writes, ["isola: a\n", "isola: b\n"]);
});
