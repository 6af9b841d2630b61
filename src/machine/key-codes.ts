/**
 * Keys of a PC keyboard, as scan codes of set 1: for what a terminal sends (characters of the US layout, control
 * characters, and the escape sequences of xterm and the Linux console), and by name. [ECMA-48; XTerm Control Sequences,
 * PC-style function keys; IBM PS/2 101-key keyboard]
 *
 * Neither tells of releases, so each key is pressed and released, its modifiers around it.
 */

const ESCAPE = 0x1b;
const BREAK = 0x80;
const PREFIX = 0xe0;
const KEY = { escape: 0x01, backspace: 0x0e, tab: 0x0f, enter: 0x1c, control: 0x1d, shift: 0x2a, alt: 0x38 } as const;
const MODIFIER = { shift: 1, alt: 2, control: 4 } as const;

/** A make code of set 1, with the prefix 0xe0 in bits 15:8 where it has one. */
type Code = number;
const extended = (code: number): Code => (PREFIX << 8) | code;

/** Rows of the US layout, from the make code of their first key; unshifted and shifted. */
const ROWS = [
  { first: 0x02, plain: "1234567890-=", shifted: "!@#$%^&*()_+" },
  { first: 0x10, plain: "qwertyuiop[]", shifted: "QWERTYUIOP{}" },
  { first: 0x1e, plain: "asdfghjkl;'`", shifted: 'ASDFGHJKL:"~' },
  { first: 0x2b, plain: "\\zxcvbnm,./", shifted: "|ZXCVBNM<>?" },
  { first: 0x39, plain: " ", shifted: "" },
] as const;
const CHARACTERS = new Map<number, { readonly code: Code; readonly shift: boolean }>();
for (const { first, plain, shifted } of ROWS) {
  for (const [index, character] of Array.from(plain).entries()) {
    CHARACTERS.set(character.charCodeAt(0), { code: first + index, shift: false });
  }
  for (const [index, character] of Array.from(shifted).entries()) {
    CHARACTERS.set(character.charCodeAt(0), { code: first + index, shift: true });
  }
}
/** Control characters that are keys of their own. */
const CONTROLS: ReadonlyMap<number, Code> = new Map([
  [0x08, KEY.backspace],
  [0x09, KEY.tab],
  [0x0a, KEY.enter],
  [0x0d, KEY.enter],
  [0x7f, KEY.backspace],
]);
/** Control with these is 0x1c to 0x1f; and 0x00 is control with the space bar. */
const CONTROL_CHARACTERS = "\\]6-";

const CURSOR_KEYS: Readonly<Record<string, Code>> = {
  A: extended(0x48),
  B: extended(0x50),
  C: extended(0x4d),
  D: extended(0x4b),
  F: extended(0x4f),
  H: extended(0x47),
  P: 0x3b,
  Q: 0x3c,
  R: 0x3d,
  S: 0x3e,
};
/** By the number before a tilde. */
const NUMBERED_KEYS: Readonly<Record<number, Code>> = {
  1: extended(0x47),
  2: extended(0x52),
  3: extended(0x53),
  4: extended(0x4f),
  5: extended(0x49),
  6: extended(0x51),
  7: extended(0x47),
  8: extended(0x4f),
  11: 0x3b,
  12: 0x3c,
  13: 0x3d,
  14: 0x3e,
  15: 0x3f,
  17: 0x40,
  18: 0x41,
  19: 0x42,
  20: 0x43,
  21: 0x44,
  23: 0x57,
  24: 0x58,
};
/** CSI or SS3, numbers, a letter; the Linux console's F1 to F5 have a second bracket. */
const SEQUENCE = /^(?:\[\[([A-E])|[[O](?:(\d{1,2})(?:;(\d{1,2}))?)?([A-Z~]))/;
const LONGEST_SEQUENCE = 12;

const bytesOf = (code: Code, released: boolean): number[] => {
  const byte = (code & 0xff) | (released ? BREAK : 0);
  return code > 0xff ? [PREFIX, byte] : [byte];
};

/** Presses and releases a key between those of its modifiers. */
const stroke = (code: Code, modifiers: number): number[] => {
  const held = [
    ...((modifiers & MODIFIER.control) !== 0 ? [KEY.control] : []),
    ...((modifiers & MODIFIER.alt) !== 0 ? [KEY.alt] : []),
    ...((modifiers & MODIFIER.shift) !== 0 ? [KEY.shift] : []),
  ];
  return [...held, ...bytesOf(code, false), ...bytesOf(code, true), ...held.toReversed().map((key) => key | BREAK)];
};

const character = (byte: number, modifiers: number): number[] => {
  const control = CONTROLS.get(byte);
  if (control !== undefined) return stroke(control, modifiers);
  if (byte === ESCAPE) return stroke(KEY.escape, modifiers);
  if (byte >= 0x20) {
    const found = CHARACTERS.get(byte);
    // What is not on a US keyboard cannot be typed on one.
    return found === undefined ? [] : stroke(found.code, modifiers | (found.shift ? MODIFIER.shift : 0));
  }
  // Control with a letter, the space bar, or one of the four others.
  const typed = byte === 0 ? 0x20 : byte <= 0x1a ? byte + 0x60 : CONTROL_CHARACTERS.charCodeAt(byte - 0x1c);
  const found = CHARACTERS.get(typed);
  return found === undefined ? [] : stroke(found.code, modifiers | MODIFIER.control);
};

/** The key of an escape sequence, and how many bytes follow the escape. */
const sequence = (text: string): { readonly codes: number[]; readonly length: number } | undefined => {
  const match = SEQUENCE.exec(text);
  if (match === null) return undefined;
  const [whole, console, number, modifier, final = ""] = match;
  let code: Code | undefined;
  if (console !== undefined) code = 0x3b + console.charCodeAt(0) - 0x41;
  else if (final === "~") code = NUMBERED_KEYS[Number(number)];
  else code = final === "Z" ? KEY.tab : CURSOR_KEYS[final];
  // The parameter is one more than the bits: 1 shift, 2 alt, 4 control.
  const modifiers = final === "Z" ? MODIFIER.shift : Math.max(Number(modifier ?? 1) - 1, 0) & 7;
  return { codes: code === undefined ? [] : stroke(code, modifiers), length: whole.length };
};

/**
 * Scan codes of set 1 for bytes as a terminal sent them. A sequence must come in one piece, as terminals send it: an
 * escape at the end is the Escape key, and before another character it is Alt.
 */
export function keyCodes(typed: Uint8Array): Uint8Array {
  const codes: number[] = [];
  for (let at = 0; at < typed.length; at++) {
    const byte = typed[at] ?? 0;
    if (byte !== ESCAPE || at + 1 === typed.length) {
      codes.push(...character(byte, 0));
      continue;
    }
    const found = sequence(String.fromCharCode(...typed.subarray(at + 1, at + 1 + LONGEST_SEQUENCE)));
    if (found === undefined) codes.push(...character(typed[++at] ?? 0, MODIFIER.alt));
    else {
      codes.push(...found.codes);
      at += found.length;
    }
  }
  return Uint8Array.from(codes);
}

/** Keys that have a name of more than one character; F1 to F12 follow below. */
const NAMED_KEYS: Readonly<Record<string, Code>> = {
  esc: KEY.escape,
  backspace: KEY.backspace,
  tab: KEY.tab,
  enter: KEY.enter,
  space: 0x39,
  capslock: 0x3a,
  numlock: 0x45,
  scrolllock: 0x46,
  insert: extended(0x52),
  delete: extended(0x53),
  home: extended(0x47),
  end: extended(0x4f),
  pageup: extended(0x49),
  pagedown: extended(0x51),
  up: extended(0x48),
  down: extended(0x50),
  left: extended(0x4b),
  right: extended(0x4d),
  menu: extended(0x5d),
  ...Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`f${index + 1}`, 0x3b + index])),
  f11: 0x57,
  f12: 0x58,
};
const NAMED_MODIFIERS: Readonly<Record<string, number>> = {
  ctrl: MODIFIER.control,
  alt: MODIFIER.alt,
  shift: MODIFIER.shift,
};

/** The names that `namedKey` knows, beside single characters. */
export const KEY_NAMES: readonly string[] = Object.keys(NAMED_KEYS);

/** Any number of modifiers, and what is left: the key, which may be a hyphen. */
const CHORD = /^((?:(?:ctrl|alt|shift)-)*)(.+)$/i;

/** Scan codes for a key by name with its modifiers before it, as in `ctrl-alt-delete` or `F2`; undefined: no such key. */
export function namedKey(name: string): Uint8Array | undefined {
  const [, held = "", key = ""] = CHORD.exec(name) ?? [];
  let modifiers = 0;
  for (const part of held.toLowerCase().split("-")) modifiers |= NAMED_MODIFIERS[part] ?? 0;
  const code = Object.hasOwn(NAMED_KEYS, key.toLowerCase()) ? NAMED_KEYS[key.toLowerCase()] : undefined;
  if (code !== undefined) return Uint8Array.from(stroke(code, modifiers));
  // A single character is taken as it is written: `A` is with Shift.
  const found = key.length === 1 ? CHARACTERS.get(key.charCodeAt(0)) : undefined;
  if (found === undefined) return undefined;
  return Uint8Array.from(stroke(found.code, modifiers | (found.shift ? MODIFIER.shift : 0)));
}
