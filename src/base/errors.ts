/** Failures that a person or a program is to read: one line naming the action, the value found and the value wanted. */

export interface IsolaErrorOptions {
  /** Stable, for programs: `kernel-invalid`, `memory-too-small`. */
  readonly code: string;
  readonly message: string;
  readonly cause?: unknown;
}

export class IsolaError extends Error {
  readonly code: string;

  constructor(options: IsolaErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "IsolaError";
    this.code = options.code;
  }
}
