/**
 * The framing on a VM's control socket: four bytes of length (little-endian, of what follows), one byte that says what
 * the frame holds, then the contents. Both ends check the length before they keep anything.
 */

export const FRAME = {
  /** One JSON value, UTF-8. */
  message: 0,
  /** Console bytes: from the guest towards watchers, to the guest from whoever types. */
  console: 1,
} as const;

export interface Frame {
  readonly kind: number;
  readonly body: Uint8Array;
}

const HEADER_BYTES = 5;
export const MAX_FRAME_BYTES = 512 * 1024;

export function encodeFrame(kind: number, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length + 1, true);
  frame[4] = kind;
  frame.set(body, HEADER_BYTES);
  return frame;
}

export function encodeMessage(message: unknown): Uint8Array {
  return encodeFrame(FRAME.message, new TextEncoder().encode(JSON.stringify(message)));
}

/** The JSON value of a message frame; undefined where it is none. */
export function decodeMessage({ kind, body }: Frame): unknown {
  if (kind !== FRAME.message) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(body)) as unknown;
  } catch {
    return undefined;
  }
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #held = new Uint8Array(0);
  /** Largest frame that is taken; small until the other end has shown who it is. */
  limitBytes: number;

  constructor(limitBytes = MAX_FRAME_BYTES) {
    this.limitBytes = limitBytes;
  }

  /** Frames completed by `bytes`; undefined where the stream breaks the rules: close it. */
  push(bytes: Uint8Array): Frame[] | undefined {
    const all = new Uint8Array(this.#held.length + bytes.length);
    all.set(this.#held);
    all.set(bytes, this.#held.length);
    const frames: Frame[] = [];
    let at = 0;
    while (all.length - at >= HEADER_BYTES) {
      const length = new DataView(all.buffer).getUint32(at, true);
      if (length < 1 || length > this.limitBytes) return undefined;
      if (all.length - at < 4 + length) break;
      frames.push({ kind: all[at + 4] ?? 0, body: all.slice(at + HEADER_BYTES, at + 4 + length) });
      at += 4 + length;
    }
    this.#held = all.slice(at);
    return frames;
  }
}
