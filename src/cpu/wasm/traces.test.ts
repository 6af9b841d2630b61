import assert from "node:assert/strict";
import { test } from "node:test";
import { DECODE, Decoder } from "../../isa/decode.ts";
import { INSTRUCTIONS } from "../../isa/table.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { TraceCache } from "./traces.ts";

const RAM_BYTES = 256 * 2 ** 20;
const RET = 0xc3;
/** As many as a boot and a C compiler make. */
const TRACES = 160_000;
const MOST_BYTES_BETWEEN = 64;

test("a guest with large programs keeps all its decoded code", () => {
  const memory = GuestMemory.create(RAM_BYTES);
  let forgotten = 0;
  let handlers = 0;
  const traces = new TraceCache(
    memory,
    {
      fetch: Number,
      addHandlers: (added) => added.map(() => ++handlers),
      forgetJumps: () => forgotten++,
      forgetWritable: () => undefined,
      mayBreak: () => false,
      onUndefined: () => assert.fail("RET is in the table"),
    },
    new Decoder(INSTRUCTIONS),
  );
  // Places as a compiler puts them: at distances that follow no pattern.
  let place = 0x10_0000;
  let seed = 1;
  for (let i = 0; i < TRACES; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    place += 1 + ((seed >>> 8) % MOST_BYTES_BETWEEN);
    memory.bytes[memory.offsetOf(place, 1)] = RET;
    traces.decode(BigInt(place), DECODE.long);
  }
  assert.equal(forgotten, 0);
});
