import assert from "node:assert/strict";
import { test } from "node:test";
import { paintedRows } from "../machine/painted-screen.ts";
import type { TextScreen } from "../machine/vm-contract.ts";
import { ScreenPainter, type TerminalSize } from "./screen-painter.ts";

const COLUMNS = 10;
const ROWS = 4;
const SIZE = { columns: 80, rows: 24 };

/** What is painted, with ⎋ for each escape. */
const shown = (painter: ScreenPainter, screen: TextScreen | undefined, size: TerminalSize): string =>
  painter
    .paint(screen && { rows: paintedRows(screen, size.columns), cursor: screen.cursor }, size)
    .replaceAll("\x1b", "⎋");

function screen(lines: readonly string[], more: Partial<TextScreen> = {}): TextScreen {
  const characters = new Uint8Array(COLUMNS * ROWS).fill(0x20);
  for (const [row, line] of lines.entries()) characters.set(new TextEncoder().encode(line), row * COLUMNS);
  const attributes = new Uint8Array(COLUMNS * ROWS).fill(0x07);
  return { columns: COLUMNS, rows: ROWS, characters, attributes, blink: true, palette: new Uint8Array(48), ...more };
}

test("the first paint is the whole screen, the next only what changed, then nothing", () => {
  const painter = new ScreenPainter();
  const first = shown(painter, screen(["one", "two"]), SIZE);
  assert.match(first, /⎋\[2J/);
  assert.match(first, /⎋\[1;1H⎋\[0;37;40mone {7}⎋\[0m/);
  const second = shown(painter, screen(["one", "TWO"]), SIZE);
  assert.match(second, /⎋\[2;1H.*TWO/);
  assert.doesNotMatch(second, /one|\[2J/);
  assert.equal(shown(painter, screen(["one", "TWO"]), SIZE), "");
});

test("attributes are colours: blue on red blinking, bright where bit 7 is the background's", () => {
  const attributes = new Uint8Array(COLUMNS * ROWS).fill(0x07);
  attributes[0] = 0xc9;
  assert.match(shown(new ScreenPainter(), screen(["x"], { attributes }), SIZE), /⎋\[0;94;41;5mx⎋\[0;37;40m/);
  const steady = screen(["x"], { attributes, blink: false });
  assert.match(shown(new ScreenPainter(), steady, SIZE), /⎋\[0;94;101mx/);
});

test("the cursor is placed, or hidden", () => {
  const painter = new ScreenPainter();
  assert.match(shown(painter, screen([], { cursor: { column: 3, row: 2 } }), SIZE), /⎋\[3;4H⎋\[\?25h$/);
  assert.match(shown(painter, screen([]), SIZE), /⎋\[\?25l$/);
});

test("a small terminal shows the rows around the cursor, cut to its width", () => {
  const lines = ["row0abcdef", "row1abcdef", "row2abcdef", "row3abcdef"];
  const painted = shown(new ScreenPainter(), screen(lines, { cursor: { column: 0, row: 3 } }), { columns: 4, rows: 2 });
  assert.match(painted, /⎋\[1;1H[^r]*row2⎋/);
  assert.match(painted, /⎋\[2;1H[^r]*row3⎋/);
  assert.doesNotMatch(painted, /row0|row1|abc/);
});

test("isola's own line goes below the screen, and graphics have a notice", () => {
  const painter = new ScreenPainter();
  painter.status = "a note";
  assert.match(shown(painter, screen(["x"]), SIZE), /⎋\[5;1H⎋\[0;7ma note/);
  painter.status = "";
  assert.doesNotMatch(shown(painter, screen(["x"]), SIZE), /note/);
  assert.match(shown(painter, undefined, SIZE), /the guest shows graphics/);
});
