import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { JumpContexts } from "./jump-contexts.ts";
import { FETCH_RIGHTS, JUMP_CACHE, REGION_STAMP } from "./layout.ts";

const { all, supervisor, user } = FETCH_RIGHTS;
const DECODED = 0x21;

test("a flush ends the contexts of the rights that it names, and no others", () => {
  const jumps = new JumpContexts(GuestMemory.create(1 << 20));
  const contexts = () => [jumps.of(DECODED, false), jumps.of(DECODED, true)] as const;
  const [kernel, program] = contexts();
  assert.notEqual(kernel, program);
  assert.notEqual(kernel, jumps.of(DECODED + 1, false));
  jumps.forget(user);
  assert.equal(contexts()[0], kernel);
  const second = contexts()[1];
  assert.notEqual(second, program);
  jumps.forget(supervisor);
  assert.notEqual(contexts()[0], kernel);
  assert.equal(contexts()[1], second);
  jumps.forget(all);
  assert.notEqual(contexts()[1], second);
});

test("a context is never 0, and what holds one goes before it comes again", () => {
  const memory = GuestMemory.create(1 << 20);
  const jumps = new JumpContexts(memory);
  const first = jumps.of(0, false);
  memory.view.setInt32(JUMP_CACHE.base + 12, first, true);
  memory.view.setInt32(REGION_STAMP.base + 4, first, true);
  let flushes = 0;
  do {
    assert.notEqual(jumps.of(0, false), 0);
    jumps.forget(supervisor);
    assert.ok(++flushes < 1 << 20, "contexts repeat at some time");
  } while (jumps.of(0, false) !== first);
  assert.equal(memory.view.getInt32(JUMP_CACHE.base + 12, true), 0);
  assert.equal(memory.view.getInt32(REGION_STAMP.base + 4, true), 0);
});
