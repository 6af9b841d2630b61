import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ESCAPE_BYTE, type EscapeEvent, EscapeParser } from "./escape.ts";

const A = "\x01";
const bytes = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** Events as text: input as it is, "<leave>" and "<help>". */
function shown(events: readonly EscapeEvent[]): string {
  return events
    .map((event) => (event.kind === "input" ? String.fromCharCode(...event.bytes) : `<${event.kind}>`))
    .join("");
}

const feed = (...texts: string[]): string => {
  const parser = new EscapeParser();
  return texts.map((text) => shown(parser.feed(bytes(text)))).join("");
};

test("typed text passes unchanged", () => {
  assert.equal(feed("ls\r", "\x03\x1b[A\xff"), "ls\r\x03\x1b[A\xff");
});

test("Ctrl-A x leaves, Ctrl-A h and ? help, in the middle of other text", () => {
  assert.equal(feed(`ab${A}xcd`), "ab<leave>cd");
  assert.equal(feed(`${A}h${A}?`), "<help><help>");
  assert.equal(feed(`a${A}sb`), "a<save>b");
});

test("Ctrl-A Ctrl-A sends one Ctrl-A", () => {
  assert.equal(feed(`a${A}${A}b`), `a${A}b`);
  assert.equal(feed(`${A}${A}${A}x`), `${A}<leave>`);
  assert.equal(feed(`${A}${A}x`), `${A}x`);
});

test("Ctrl-A with another key is dropped", () => {
  assert.equal(feed(`a${A}qb`), "ab");
});

test("the key after Ctrl-A may come later", () => {
  assert.equal(feed(`a${A}`, "xb"), "a<leave>b");
  assert.equal(feed(`a${A}`, A, "b"), `a${A}b`);
  assert.equal(feed(`a${A}`, "", "x"), "a<leave>");
});

test("how the bytes are cut into chunks changes nothing", () => {
  const keys = fc.array(fc.constantFrom(ESCAPE_BYTE, 0x78, 0x68, 0x61, 0xff), { maxLength: 40 });
  fc.assert(
    fc.property(keys, fc.nat(40), fc.nat(40), (typed, first, second) => {
      const [low, high] = first < second ? [first, second] : [second, first];
      const parts = [typed.slice(0, low), typed.slice(low, high), typed.slice(high)];
      const parser = new EscapeParser();
      const whole = shown(new EscapeParser().feed(Uint8Array.from(typed)));
      assert.equal(parts.map((part) => shown(parser.feed(Uint8Array.from(part)))).join(""), whole);
    }),
    { numRuns: 300 },
  );
});
