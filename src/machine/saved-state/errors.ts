/** How a saved state is refused: one line with the reason, and what to do. */

import { IsolaError } from "../../base/errors.ts";

/** The file is damaged, or none of isola's. */
export const savedStateInvalid = (why: string, cause?: unknown): IsolaError =>
  new IsolaError({
    code: "saved-state-invalid",
    message: `loading the saved state: ${why}; the file is damaged, or was not written by isola save`,
    cause,
  });

/** The file is sound, and this isola or this host cannot go on with it. */
export const savedStateMismatch = (why: string): IsolaError =>
  new IsolaError({ code: "saved-state-mismatch", message: `loading the saved state: ${why}` });
