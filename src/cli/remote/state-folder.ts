/** Where the server keeps its state, and its socket in it. */

import { isAbsolute, join } from "node:path";
import { defaultStateFolder as defaultFor } from "../../fleet/state-folder.ts";

/** $ISOLA_STATE, else /var/lib/isola for root, $XDG_STATE_HOME/isola or ~/.local/state/isola for others. */
export function defaultStateFolder(environment: NodeJS.ProcessEnv): string {
  const own = environment["ISOLA_STATE"] ?? "";
  return isAbsolute(own) ? own : defaultFor(environment);
}

/** The socket of the server with that state. */
export function socketPathIn(stateFolder: string): string {
  return join(stateFolder, "isola.sock");
}

export function defaultSocketPath(environment: NodeJS.ProcessEnv): string {
  return socketPathIn(defaultStateFolder(environment));
}
