/** How failures reach a person: one line on stderr that begins with `isola: `; the stack only under ISOLA_DEBUG=1. */

import { IsolaError } from "../base/errors.ts";

/** A value in one line: control characters, which could move the cursor of a terminal, are shown as escapes. */
export function oneLine(text: string): string {
  return text
    .trim()
    .replaceAll(/\s*\n\s*/g, " ")
    .replaceAll(/[\p{Cc}\u2028\u2029]/gu, (character) => {
      const code = character.codePointAt(0) ?? 0;
      return `\\x${code.toString(16).padStart(2, "0")}`;
    });
}

/** A wrong command line. Exit status: EXIT_STATUS.usage. */
export function usageError(message: string): IsolaError {
  return new IsolaError({ code: "usage", message });
}

/** The line for `error`, and in debug mode its stack and causes. Ends without newline. */
export function describeError(error: unknown, debug: boolean): string {
  const lines: string[] = [];
  if (error instanceof IsolaError) {
    lines.push(`isola: ${oneLine(error.message)}`);
  } else {
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const hint = debug ? "" : " (ISOLA_DEBUG=1 shows where)";
    lines.push(`isola: unexpected failure: ${oneLine(message)}${hint}`);
  }
  if (debug) {
    for (let at: unknown = error; at instanceof Error; at = at.cause) lines.push(at.stack ?? String(at));
  }
  return lines.join("\n");
}

/** Whether the person wants stacks: ISOLA_DEBUG=1. */
export function debugging(): boolean {
  return process.env["ISOLA_DEBUG"] === "1";
}
