/** What goes over a console's WebSocket beside the console's own bytes, and how one is opened from a browser. */

import { z } from "zod";

export const CONSOLE_PROTOCOL = "isola.console.v1";
/** The subprotocol by which a browser, which cannot set headers on a WebSocket, hands over its token. */
export const TOKEN_PROTOCOL = "isola.token.";

/** Text messages from the server. */
export const consoleMessageSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("gap"), lostBytes: z.int().positive() }),
  z.object({ type: z.literal("end"), reason: z.string() }),
]);
export type ConsoleMessage = z.infer<typeof consoleMessageSchema>;

/** The subprotocols to offer: isola's own, and the token where there is one. */
export function consoleProtocols(token: string | undefined): string[] {
  return token === undefined ? [CONSOLE_PROTOCOL] : [CONSOLE_PROTOCOL, `${TOKEN_PROTOCOL}${token}`];
}

/** Where a VM's console is, for `new WebSocket(url, consoleProtocols(token))`. `baseUrl` is http or https. */
export function consoleUrl(baseUrl: string, vm: string, replayBytes?: number): string {
  const query = replayBytes === undefined ? "" : `?replayBytes=${replayBytes}`;
  return `${baseUrl.replace(/^http/, "ws").replace(/\/$/, "")}/api/v1/vms/${encodeURIComponent(vm)}/console${query}`;
}
