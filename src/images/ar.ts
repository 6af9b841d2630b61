/**
 * Reader of `ar` archives in the common form that .deb packages use: short names, no symbol table needed. [ar(5)]
 * Input is hostile: sizes are checked before they are used.
 */

import { IsolaError } from "../base/errors.ts";

const MAGIC = "!<arch>\n";
const HEADER_BYTES = 60;

export interface ArMember {
  readonly name: string;
  /** A view of the archive, not a copy. */
  readonly bytes: Uint8Array;
}

function damaged(what: string): IsolaError {
  return new IsolaError({ code: "ar-damaged", message: `reading ar archive: ${what}; download the package again` });
}

/** Whether `bytes` begin as an ar archive does. */
export function isAr(bytes: Uint8Array): boolean {
  return new TextDecoder("latin1").decode(bytes.subarray(0, MAGIC.length)) === MAGIC;
}

/** Members in the order of the archive. @throws IsolaError `ar-damaged` */
export function readAr(bytes: Uint8Array): ArMember[] {
  const text = (from: number, length: number) =>
    new TextDecoder("latin1").decode(bytes.subarray(from, from + length)).trimEnd();
  if (!isAr(bytes)) throw damaged('the file does not begin with "!<arch>"');
  const members: ArMember[] = [];
  let at = MAGIC.length;
  while (at < bytes.length) {
    if (at + HEADER_BYTES > bytes.length) throw damaged(`a header at byte ${at} is cut off`);
    if (bytes[at + 58] !== 0x60 || bytes[at + 59] !== 0x0a) throw damaged(`no header at byte ${at}`);
    // GNU ends a name by a slash, so that it may hold spaces.
    const name = text(at, 16).replace(/\/$/, "");
    const sizeText = text(at + 48, 10);
    if (!/^[0-9]+$/.test(sizeText)) throw damaged(`the size of the member at byte ${at} is not a number`);
    const size = Number(sizeText);
    const start = at + HEADER_BYTES;
    if (size > bytes.length - start) {
      throw damaged(`the member at byte ${at} claims ${size} bytes, ${bytes.length - start} are left`);
    }
    members.push({ name, bytes: bytes.subarray(start, start + size) });
    // Members begin at even offsets.
    at = start + size + (size & 1);
  }
  return members;
}
