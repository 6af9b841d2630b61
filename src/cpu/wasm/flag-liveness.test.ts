/** Which instructions need their flags though the next one overwrites them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { DECODE, Decoder } from "../../isa/decode.ts";
import { INSTRUCTIONS } from "../../isa/table.ts";
import { type FlagUse, flagsOverwritten, flagUse } from "./flag-liveness.ts";
import { buildHandler, handlerName } from "./handlers.ts";

const decoder = new Decoder(INSTRUCTIONS);

function useOf(...bytes: number[]): FlagUse {
  const decoded = decoder.decode(Uint8Array.from(bytes), DECODE.long);
  if (typeof decoded === "string") throw new Error(`decode ${bytes.join(" ")}: found ${decoded}`);
  return flagUse(buildHandler(handlerName(decoded), decoded).statements);
}

test("POPF shows its own flags: what follows may be decoded anew", () => {
  assert.deepEqual(useOf(0x9d), { reads: false, writes: true, leaves: true, shows: true });
});

test("ADD of registers only writes; with memory it may fault before", () => {
  assert.deepEqual(useOf(0x01, 0xd8), { reads: false, writes: true, leaves: false, shows: false });
  assert.deepEqual(useOf(0x03, 0x03), { reads: false, writes: true, leaves: true, shows: false });
});

test("flags live on through MOV, and up to what reads them or may fault", () => {
  const move = useOf(0x89, 0xd8);
  const add = useOf(0x01, 0xd8);
  assert.equal(flagsOverwritten(move, flagsOverwritten(add, false)), true);
  assert.equal(flagsOverwritten(useOf(0x11, 0xd8), true), false);
  assert.equal(flagsOverwritten(useOf(0x8b, 0x03), true), false);
});
