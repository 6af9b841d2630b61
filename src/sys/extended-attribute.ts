/** Extended attributes of files, which Node does not read. [xattr(7)] */

import { ffi } from "./ffi.ts";

const LIBC = { getxattr: { arguments: ["string", "string", "pointer", "uint64"], return: "int64" } } as const;
const MOST_BYTES = 256;

function load() {
  // SAFETY: the signature is that of glibc on 64-bit Linux; the two strings are copies that end with a zero.
  return ffi().dlopen("libc.so.6", LIBC).functions;
}

let libc: ReturnType<typeof load> | undefined;

/** An attribute's text, of up to 256 bytes; undefined where there is none, or it may not be read here. */
export function extendedAttribute(path: string, name: string): string | undefined {
  try {
    libc ??= load();
  } catch {
    return undefined;
  }
  const value = new Uint8Array(MOST_BYTES);
  // SAFETY: the kernel writes at most as many bytes as the buffer has, during the call.
  const length = Number(libc.getxattr(path, name, value, BigInt(value.length)));
  return length < 0 ? undefined : new TextDecoder().decode(value.subarray(0, length));
}
