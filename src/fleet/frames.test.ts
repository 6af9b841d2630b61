import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeMessage, encodeFrame, encodeMessage, FRAME, FrameReader } from "./frames.ts";

test("frames come out as they went in, however the stream is cut", () => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(bodies, fc.integer({ min: 1, max: 40 }), (contents, step) => {
      const stream = Buffer.concat(contents.map((body) => encodeFrame(FRAME.console, body)));
      const reader = new FrameReader();
      const found = [];
      for (let at = 0; at < stream.length; at += step)
        found.push(...(reader.push(stream.subarray(at, at + step)) ?? []));
      assert.deepEqual(
        found.map(({ body }) => [...body]),
        contents.map((body) => [...body]),
      );
    }),
  );
});

test("a frame that is too long, or has no kind, ends the stream before anything is kept", () => {
  assert.equal(new FrameReader(100).push(encodeFrame(FRAME.console, new Uint8Array(100))), undefined);
  assert.equal(new FrameReader().push(Uint8Array.of(0, 0, 0, 0, 0)), undefined);
  assert.equal(new FrameReader().push(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0)), undefined);
});

test("a message is a value, and what is none is nothing", () => {
  const [frame] = new FrameReader().push(encodeMessage({ a: [1, "ä"] })) ?? [];
  assert.deepEqual(frame && decodeMessage(frame), { a: [1, "ä"] });
  assert.equal(decodeMessage({ kind: FRAME.message, body: new TextEncoder().encode("{") }), undefined);
  assert.equal(decodeMessage({ kind: FRAME.console, body: new TextEncoder().encode("{}") }), undefined);
});
