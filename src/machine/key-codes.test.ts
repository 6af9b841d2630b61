import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KEY_NAMES, keyCodes, namedKey } from "./key-codes.ts";

const codes = (typed: string): number[] => [...keyCodes(Uint8Array.from(typed, (c) => c.charCodeAt(0)))];

test("letters, digits and signs of the US layout, with Shift where it is needed", () => {
  assert.deepEqual(codes("a1 "), [0x1e, 0x9e, 0x02, 0x82, 0x39, 0xb9]);
  assert.deepEqual(codes("A"), [0x2a, 0x1e, 0x9e, 0xaa]);
  assert.deepEqual(codes("|"), [0x2a, 0x2b, 0xab, 0xaa]);
  assert.deepEqual(codes("/?"), [0x35, 0xb5, 0x2a, 0x35, 0xb5, 0xaa]);
});

test("every printable ASCII character has a stroke of its own", () => {
  const strokes = Array.from({ length: 95 }, (_, i) => codes(String.fromCharCode(32 + i)).join(" "));
  assert.equal(new Set(strokes).size, 95);
  assert.ok(!strokes.includes(""));
});

test("Enter, Tab, Backspace, Escape; Control and Alt with a letter", () => {
  assert.deepEqual(codes("\r\n"), [0x1c, 0x9c, 0x1c, 0x9c]);
  assert.deepEqual(codes("\t\x7f\x1b"), [0x0f, 0x8f, 0x0e, 0x8e, 0x01, 0x81]);
  assert.deepEqual(codes("\x03"), [0x1d, 0x2e, 0xae, 0x9d]);
  assert.deepEqual(codes("\x1bx"), [0x38, 0x2d, 0xad, 0xb8]);
  assert.deepEqual(codes("\0\x1c"), [0x1d, 0x39, 0xb9, 0x9d, 0x1d, 0x2b, 0xab, 0x9d]);
});

test("cursor and function keys in the forms of xterm and of the Linux console", () => {
  assert.deepEqual(codes("\x1b[A"), [0xe0, 0x48, 0xe0, 0xc8]);
  assert.deepEqual(codes("\x1bOA"), [0xe0, 0x48, 0xe0, 0xc8]);
  assert.deepEqual(codes("\x1bOP\x1b[[A\x1b[11~"), [0x3b, 0xbb, 0x3b, 0xbb, 0x3b, 0xbb]);
  assert.deepEqual(codes("\x1b[24~"), [0x58, 0xd8]);
  assert.deepEqual(codes("\x1b[1;5D"), [0x1d, 0xe0, 0x4b, 0xe0, 0xcb, 0x9d]);
  assert.deepEqual(codes("\x1b[3;2~"), [0x2a, 0xe0, 0x53, 0xe0, 0xd3, 0xaa]);
  assert.deepEqual(codes("\x1b[Z"), [0x2a, 0x0f, 0x8f, 0xaa]);
  assert.deepEqual(codes("a\x1b[99~b"), [0x1e, 0x9e, 0x30, 0xb0]);
});

test("whatever is typed, no key stays down", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (typed) => {
      const down = new Set<number>();
      let prefix = 0;
      for (const code of keyCodes(typed)) {
        if (code === 0xe0) prefix = 0x100;
        else {
          if (code < 0x80) down.add(prefix | code);
          else assert.ok(down.delete(prefix | (code & 0x7f)));
          prefix = 0;
        }
      }
      assert.equal(down.size, 0);
    }),
  );
});

test("keys by name, with modifiers before them", () => {
  const named = (name: string): number[] | undefined => {
    const found = namedKey(name);
    return found === undefined ? undefined : [...found];
  };
  assert.deepEqual(named("ctrl-alt-delete"), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
  assert.deepEqual(named("F12"), [0x58, 0xd8]);
  assert.deepEqual(named("F10"), [0x44, 0xc4]);
  assert.deepEqual([named("a"), named("A")], [codes("a"), codes("A")]);
  assert.deepEqual([named("-"), named("ctrl--")], [codes("-"), [0x1d, 0x0c, 0x8c, 0x9d]]);
  assert.deepEqual(named("Shift-Tab"), codes("\x1b[Z"));
  for (const wrong of ["", "f13", "super-a", "ctrl-", "ctrl-alt", "ä", "constructor", "toString-a"]) {
    assert.equal(named(wrong), undefined, wrong);
  }
  for (const name of KEY_NAMES) assert.ok((named(name)?.length ?? 0) >= 2, name);
});
