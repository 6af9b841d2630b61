/**
 * Plain data as JSON: bigints as {"$int": hexadecimal}, bytes as {"$bytes": base64}, or, where they are many, as
 * {"$blob": number} beside the text. What is read is hostile until checked.
 */

import { savedStateInvalid } from "./errors.ts";

/** More bytes than this become a blob of their own, which the codec can make small. */
const INLINE_BYTES = 256;
const DEEPEST = 16;

/** What can be saved. */
export type Plain =
  | string
  | number
  | boolean
  | bigint
  | Uint8Array
  | readonly Plain[]
  | { readonly [name: string]: Plain | undefined };

/** The value as JSON takes it; byte arrays that are too long for it are added to `blobs`. */
export function encodePlain(value: Plain, blobs: Uint8Array[]): unknown {
  if (typeof value === "bigint") return { $int: `0x${value.toString(16)}` };
  if (value instanceof Uint8Array) {
    if (value.length > INLINE_BYTES) return { $blob: blobs.push(value) - 1 };
    // A copy: the bytes may lie in shared memory.
    return { $bytes: Uint8Array.from(value).toBase64() };
  }
  if (Array.isArray(value)) return value.map((item: Plain) => encodePlain(item, blobs));
  if (typeof value !== "object") return value;
  const fields = Object.entries(value as Record<string, Plain | undefined>);
  return Object.fromEntries(
    fields.filter(([, field]) => field !== undefined).map(([name, field]) => [name, encodePlain(field ?? 0, blobs)]),
  );
}

/** What `encodePlain` made, from parsed JSON. Throws `saved-state-invalid`. */
export function decodePlain(value: unknown, blobs: readonly Uint8Array[], depth = 0): Plain {
  if (depth > DEEPEST) throw savedStateInvalid(`its manifest is nested more than ${DEEPEST} deep`);
  if (typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return value;
  if (Array.isArray(value)) return value.map((item) => decodePlain(item, blobs, depth + 1));
  if (typeof value !== "object" || value === null) throw savedStateInvalid("its manifest holds a null");
  const special = value as { $int?: unknown; $bytes?: unknown; $blob?: unknown };
  if (special.$int !== undefined) {
    if (typeof special.$int !== "string" || !/^0x[0-9a-f]{1,32}$/.test(special.$int)) {
      throw savedStateInvalid("its manifest holds a number that is none");
    }
    return BigInt(special.$int);
  }
  if (special.$blob !== undefined) {
    const blob = typeof special.$blob === "number" ? blobs[special.$blob] : undefined;
    if (blob === undefined) throw savedStateInvalid("its manifest names bytes that are not there");
    return blob;
  }
  if (special.$bytes !== undefined) {
    try {
      return Uint8Array.fromBase64(typeof special.$bytes === "string" ? special.$bytes : "!");
    } catch (error) {
      throw savedStateInvalid("its manifest holds bytes that are no base64", error);
    }
  }
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, decodePlain(field, blobs, depth + 1)]));
}
