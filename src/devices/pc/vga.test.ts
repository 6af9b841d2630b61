import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ManualClock, newArena } from "../test-rig.ts";
import { screenLines, screenText } from "./text-screen.ts";
import { readScreen, vga } from "./vga.ts";

let clock: ManualClock;
const make = () => vga.instantiate({ arena: newArena(), clock, port: null });
let card: ReturnType<typeof make>;

const out = (port: number, value: number): void => card.write(port - 0x3c0, 1, value);
const inb = (port: number): number => card.read(port - 0x3c0, 1);
const indexed = (port: number, index: number, value: number): void => {
  out(port, index);
  out(port + 1, value);
};
/** Byte of video memory, `address` from 0xa0000 to 0xbffff. */
const poke = (address: number, value: number): void => card.write(0x20 + address - 0xa0000, 1, value);
const peek = (address: number): number => card.read(0x20 + address - 0xa0000, 1);
const type = (cell: number, text: string, attribute = 0x07): void => {
  for (const [index, character] of Array.from(text).entries()) {
    card.write(0x20 + 0x18000 + (cell + index) * 2, 2, character.charCodeAt(0) | (attribute << 8));
  }
};
const screen = () => readScreen(card.context) ?? assert.fail("no text screen");

beforeEach(() => {
  clock = new ManualClock();
  card = make();
  card.reset();
});

test("power-on is 80 by 25 empty characters, the cursor at the top left", () => {
  const { columns, rows, cursor, blink } = screen();
  assert.deepEqual(
    { columns, rows, cursor, blink },
    { columns: 80, rows: 25, cursor: { column: 0, row: 0 }, blink: true },
  );
  assert.equal(screenText(screen()), "");
});

test("characters and attributes written to 0xb8000 are the screen", () => {
  type(0, "hello");
  type(80 * 24 + 75, "end\x01\xdb", 0x1e);
  const shown = screen();
  const lines = screenLines(shown);
  assert.equal(lines[0], "hello");
  assert.equal(lines[24], `${" ".repeat(75)}end☺█`);
  assert.equal(shown.attributes[80 * 24 + 75], 0x1e);
  assert.equal(screenText(shown), `hello\n${"\n".repeat(23)}${lines[24]}\n`);
  assert.equal(card.read(0x20 + 0x18000, 4), 0x07650768);
});

test("start address scrolls, cursor registers move and hide the cursor", () => {
  type(80, "second line");
  indexed(0x3d4, 0x0d, 80);
  indexed(0x3d4, 0x0e, 0);
  indexed(0x3d4, 0x0f, 80 + 85);
  assert.equal(screenLines(screen())[0], "second line");
  assert.deepEqual(screen().cursor, { column: 5, row: 1 });
  indexed(0x3d4, 0x0a, 0x2d);
  assert.equal(screen().cursor, undefined);
  // The last page wraps around the 32 KiB.
  indexed(0x3d4, 0x0c, 0xff);
  assert.equal(screenLines(screen()).length, 25);
});

test("lines of 8 dots make 50 rows; 132 columns by their registers", () => {
  indexed(0x3d4, 0x09, 0x47);
  assert.equal(screen().rows, 50);
  // Registers 0 to 7 are protected until bit 7 of register 0x11 is cleared.
  indexed(0x3d4, 0x01, 131);
  assert.equal(screen().columns, 80);
  indexed(0x3d4, 0x11, 0x0e);
  indexed(0x3d4, 0x01, 131);
  indexed(0x3d4, 0x13, 66);
  assert.equal(screen().columns, 132);
});

test("the window follows the memory map field, and is closed elsewhere", () => {
  assert.equal(peek(0xa0000), 0xff);
  assert.equal(peek(0xb0000), 0xff);
  indexed(0x3ce, 6, 0x0a);
  assert.equal(peek(0xb8000), 0xff);
  poke(0xb0000, 0x41);
  assert.equal(screenLines(screen())[0], "A");
  indexed(0x3ce, 6, 0x05);
  assert.equal(readScreen(card.context), undefined);
});

test("a font is loaded through planar memory, and the text stays", () => {
  type(0, "text");
  indexed(0x3c4, 2, 0x04);
  indexed(0x3c4, 4, 0x07);
  indexed(0x3ce, 4, 0x02);
  indexed(0x3ce, 5, 0x00);
  indexed(0x3ce, 6, 0x04);
  for (let i = 0; i < 32; i++) poke(0xa0000 + i, i ^ 0x5a);
  for (let i = 0; i < 32; i++) assert.equal(peek(0xa0000 + i), i ^ 0x5a);
  indexed(0x3c4, 2, 0x03);
  indexed(0x3c4, 4, 0x03);
  indexed(0x3ce, 4, 0x00);
  indexed(0x3ce, 5, 0x10);
  indexed(0x3ce, 6, 0x0e);
  assert.equal(screenLines(screen())[0], "text");
});

test("planar writes: set/reset, bit mask, rotation and logic, latches, colour compare", () => {
  indexed(0x3c4, 2, 0x0f);
  indexed(0x3c4, 4, 0x06);
  indexed(0x3ce, 5, 0x00);
  indexed(0x3ce, 6, 0x05);
  const planes = (address: number): number[] =>
    [0, 1, 2, 3].map((plane) => {
      indexed(0x3ce, 4, plane);
      return peek(address);
    });
  indexed(0x3ce, 0, 0x05);
  indexed(0x3ce, 1, 0x07);
  poke(0xa0000, 0x3c);
  assert.deepEqual(planes(0xa0000), [0xff, 0x00, 0xff, 0x3c]);
  // Write mode 2: a colour through the bit mask; the other bits come from the latches.
  indexed(0x3ce, 1, 0);
  indexed(0x3ce, 5, 2);
  indexed(0x3ce, 8, 0x0f);
  peek(0xa0000);
  poke(0xa0000, 0x02);
  assert.deepEqual(planes(0xa0000), [0xf0, 0x0f, 0xf0, 0x30]);
  // Mode 1 copies latches; mode 0 rotates and combines.
  indexed(0x3ce, 5, 1);
  peek(0xa0000);
  poke(0xa0001, 0);
  assert.deepEqual(planes(0xa0001), [0xf0, 0x0f, 0xf0, 0x30]);
  indexed(0x3ce, 5, 0);
  indexed(0x3ce, 8, 0xff);
  indexed(0x3ce, 3, 0x18 | 4);
  peek(0xa0001);
  poke(0xa0001, 0x0f);
  assert.deepEqual(planes(0xa0001), [0x00, 0xff, 0x00, 0xc0]);
  // Mode 3: the data is a mask of its own.
  indexed(0x3ce, 3, 0);
  indexed(0x3ce, 5, 3);
  indexed(0x3ce, 0, 0x08);
  peek(0xa0001);
  poke(0xa0001, 0xf0);
  assert.deepEqual(planes(0xa0001), [0x00, 0x0f, 0x00, 0xf0]);
  // Read mode 1: which dots have colour 8, in planes 0 to 3.
  indexed(0x3ce, 5, 8);
  indexed(0x3ce, 2, 0x08);
  indexed(0x3ce, 7, 0x0f);
  assert.equal(peek(0xa0001), 0xf0);
});

test("attribute registers alternate index and data; the palette is written while it is off", () => {
  inb(0x3da);
  out(0x3c0, 0x01);
  out(0x3c0, 0x3f);
  assert.equal(inb(0x3c1), 0x3f);
  out(0x3c0, 0x30);
  out(0x3c0, 0x04);
  assert.equal(inb(0x3c1), 0x04);
  assert.equal(screen().blink, false);
  out(0x3c0, 0x21);
  out(0x3c0, 0x00);
  assert.equal(inb(0x3c1), 0x3f);
  // Colour 1 is now the brightest white.
  assert.deepEqual([...screen().palette.subarray(0, 6)], [0, 0, 0, 255, 255, 255]);
});

test("colours are written and read in threes, the index counting on", () => {
  out(0x3c8, 10);
  for (const part of [1, 2, 3, 4, 5, 0xff]) out(0x3c9, part);
  out(0x3c7, 10);
  assert.equal(inb(0x3c7), 3);
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].map(() => inb(0x3c9)),
    [1, 2, 3, 4, 5, 0x3f],
  );
});

test("the retrace comes once a frame", () => {
  let edges = 0;
  let before = 0;
  for (let line = 0; line < 449; line++) {
    clock.time = line * 31_776;
    const now = inb(0x3da) & 8;
    if (now > before) edges++;
    before = now;
  }
  assert.equal(edges, 1);
});

test("registers of any value make a screen of bounded size", () => {
  for (const value of [0x00, 0x55, 0xaa, 0xff]) {
    card.context.state.crtc.fill(value);
    const { columns, rows, characters } = screen();
    assert.ok(columns <= 160 && rows <= 100 && characters.length === columns * rows);
  }
});
