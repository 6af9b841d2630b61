import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { CodePages } from "./code-pages.ts";
import { CODE_MAP } from "./layout.ts";

const PAGE = 0x5000;

function createPages() {
  const memory = GuestMemory.create(1 << 20);
  const claimed: number[] = [];
  const pages = new CodePages(memory, (place) => claimed.push(place));
  const told: string[] = [];
  const owner = (name: string) => ({ forget: (write: number) => void told.push(`${name}${write}`) });
  const write = (offset: number, bytes: number) => pages.written(memory.offsetOf(PAGE + offset, 1), bytes);
  const mapped = () => memory.bytes[CODE_MAP + (PAGE >> 12)];
  return { memory, pages, told, owner, write, mapped, claimed };
}

test("a write tells those whose bytes it touches, and no others", () => {
  const { memory, pages, told, owner, write, mapped, claimed } = createPages();
  pages.own(PAGE, 0x10, 0x20, owner("a"));
  pages.own(PAGE, 0x1f, 0x30, owner("b"));
  pages.own(PAGE, 0x40, 0x50, owner("c"));
  assert.deepEqual(claimed, [memory.offsetOf(PAGE, 1)]);
  assert.equal(write(0x30, 0x10), true);
  assert.equal(write(0x1e, 1), true);
  assert.deepEqual(told, ["a1"]);
  assert.equal(write(0x10, 0xf), true, "its bytes are nobody's now");
  assert.equal(write(0, 0x1000), false);
  assert.deepEqual(told, ["a1", "b2", "c2"]);
  assert.equal(mapped(), 0);
  assert.equal(write(0x40, 1), false);
});

test("a page that is written again and again is forgotten as a whole", () => {
  const { pages, told, owner, write } = createPages();
  pages.own(PAGE, 0x800, 0x900, owner("kept"));
  let writes = 0;
  while (!told.some((name) => name.startsWith("kept"))) {
    pages.own(PAGE, 0, 4, owner("rewritten"));
    write(0, 4);
    assert.ok(++writes < 100, "the other owner is told at some time");
  }
  assert.ok(writes > 1, "not by the first write");
});

test("a page outside RAM holds no code, and forgetting all leaves no mark", () => {
  const { pages, told, owner, write, mapped } = createPages();
  pages.own(1 << 30, 0, 16, owner("nowhere"));
  pages.own(PAGE, 0, 16, owner("a"));
  assert.equal(mapped(), 1);
  pages.clear();
  assert.equal(mapped(), 0);
  assert.equal(write(0, 4), false);
  assert.deepEqual(told, []);
});
