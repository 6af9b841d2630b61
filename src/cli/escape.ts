/**
 * The escape key of the terminal, with the habits of QEMU's serial multiplexer: Ctrl-A, then x to leave, s to save, h for
 * help, Ctrl-A again to send one Ctrl-A. Ctrl-A with any other key is dropped. A pure state machine: no terminal in sight.
 */

export const ESCAPE_BYTE = 0x01;
const KEY_LEAVE = 0x78;
const KEY_SAVE = 0x73;
const KEY_HELP = new Set([0x68, 0x3f]);

export type EscapeEvent =
  | { readonly kind: "input"; readonly bytes: Uint8Array }
  | { readonly kind: "leave" }
  | { readonly kind: "save" }
  | { readonly kind: "help" };

export class EscapeParser {
  #escaped = false;

  /** Splits typed bytes into what goes to the guest and what is for isola, in order. Keeps state between calls. */
  feed(bytes: Uint8Array): EscapeEvent[] {
    const events: EscapeEvent[] = [];
    let start = 0;
    const flush = (end: number): void => {
      if (end > start) events.push({ kind: "input", bytes: bytes.slice(start, end) });
    };
    for (const [index, byte] of bytes.entries()) {
      if (this.#escaped) {
        this.#escaped = false;
        // The second Ctrl-A stays part of the input that follows it; any other key is consumed.
        start = byte === ESCAPE_BYTE ? index : index + 1;
        if (byte === KEY_LEAVE) events.push({ kind: "leave" });
        else if (byte === KEY_SAVE) events.push({ kind: "save" });
        else if (KEY_HELP.has(byte)) events.push({ kind: "help" });
      } else if (byte === ESCAPE_BYTE) {
        flush(index);
        start = index + 1;
        this.#escaped = true;
      }
    }
    flush(bytes.length);
    return events;
  }
}
