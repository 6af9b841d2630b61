/** Where the server keeps its state. [XDG Base Directory Specification 0.8] */

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/** $ISOLA_STATE, else $XDG_STATE_HOME/isola, else ~/.local/state/isola. */
export function defaultStateFolder(environment: NodeJS.ProcessEnv): string {
  const own = environment["ISOLA_STATE"] ?? "";
  if (isAbsolute(own)) return own;
  const state = environment["XDG_STATE_HOME"] ?? "";
  return join(isAbsolute(state) ? state : join(homedir(), ".local", "state"), "isola");
}

/** The socket of the server with that state. */
export function socketPathIn(stateFolder: string): string {
  return join(stateFolder, "isola.sock");
}

export function defaultSocketPath(environment: NodeJS.ProcessEnv): string {
  return socketPathIn(defaultStateFolder(environment));
}
