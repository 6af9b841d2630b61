/** What a guest prints, awaited by patterns; a failure shows what was on its console. */

import assert from "node:assert/strict";

/** Characters of the console that a failure shows. */
const SHOWN_CHARACTERS = 4000;
/** Whether consoles are shown as they are written: ISOLA_TEST_SHOW. */
const SHOW = process.env["ISOLA_TEST_SHOW"] !== undefined;

/** Waits without keeping the process alive. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}

/** The console's text so far, and waiting for more. */
export class Transcript {
  #text = "";
  /** Where the part that no `expect` has taken yet begins. */
  #next = 0;
  /** How the guest ended, once it has. */
  #end: string | undefined;
  #changed = Promise.withResolvers<void>();
  readonly #decoder = new TextDecoder();

  add(bytes: Uint8Array): void {
    const piece = this.#decoder.decode(bytes, { stream: true });
    this.#text += piece;
    if (SHOW) process.stderr.write(piece);
    this.#wake();
  }

  end(how: string): void {
    this.#end = how;
    this.#wake();
  }

  get text(): string {
    return this.#text;
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async expect(pattern: RegExp, seconds: number): Promise<RegExpExecArray> {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const match = pattern.exec(this.#text.slice(this.#next));
      if (match !== null) {
        this.#next += match.index + match[0].length;
        return match;
      }
      const left = deadline - performance.now();
      if (this.#end !== undefined) this.#fail(`the guest ended (${this.#end}) before it printed ${pattern}`);
      if (left <= 0) this.#fail(`the guest did not print ${pattern} within ${seconds} s`);
      await Promise.race([this.#changed.promise, pause(left)]);
    }
  }

  /** `promise`, or a failure after so many seconds. */
  async within<T>(promise: Promise<T>, what: string, seconds: number): Promise<T> {
    const late = Symbol("late");
    const first = await Promise.race([promise, pause(seconds * 1000).then((): typeof late => late)]);
    if (first === late) this.#fail(`${what} took more than ${seconds} s`);
    return first;
  }

  #fail(why: string): never {
    const shown = this.#text.slice(-SHOWN_CHARACTERS);
    assert.fail(`${why}; its console, from character ${this.#text.length - shown.length}:\n${shown}`);
  }
}
