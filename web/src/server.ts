/** The server as the dashboard knows it: the typed client, its errors as data, and the console's WebSocket. */

import { type ApiClient, createApiClient } from "../../src/api/contract/api.ts";
import { ApiError } from "../../src/api/contract/problem.ts";

/** Why something did not work, for the place where it was asked. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  /** Of a resource that is short: see shortageSchema. */
  readonly details: unknown;
  /** What is wrong with which field of a form, by JSON pointer. */
  readonly fields: ReadonlyMap<string, string>;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof ApiError) {
    const { code, detail, errors = [], ...rest } = error.problem;
    return {
      code,
      message: detail,
      details: rest["details"] ?? rest,
      fields: new Map(errors.map(({ pointer, detail: what }) => [pointer, what])),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "unreachable", message: `The server does not answer: ${message}`, details: null, fields: new Map() };
}

export function openClient(token: string): ApiClient {
  return createApiClient({ baseUrl: location.origin, token });
}

export interface ConsoleHandlers {
  readonly onBytes: (bytes: Uint8Array) => void;
  readonly onGap: (lostBytes: number) => void;
  /** The last call. `ended`: the console itself is over; otherwise the connection is. */
  readonly onClose: (reason: string, ended: boolean) => void;
}

export interface ConsoleConnection {
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

interface ConsoleMessage {
  readonly type?: string;
  readonly lostBytes?: number;
  readonly reason?: string;
}

/** Follows a VM's serial console; a browser gives its token as a subprotocol, since it cannot set a header. */
export function openConsole(vm: string, token: string, handlers: ConsoleHandlers): ConsoleConnection {
  const address = new URL(`/api/v1/vms/${encodeURIComponent(vm)}/console`, location.origin);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, ["isola.console.v1", `isola.token.${token}`]);
  socket.binaryType = "arraybuffer";
  let ended: string | undefined;
  let dropped = false;
  socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
    if (typeof data !== "string") return handlers.onBytes(new Uint8Array(data));
    const message = JSON.parse(data) as ConsoleMessage;
    if (message.type === "gap") handlers.onGap(message.lostBytes ?? 0);
    if (message.type === "end") ended = message.reason ?? "the console ended";
  });
  socket.addEventListener("close", ({ reason, code }) => {
    if (dropped) return;
    handlers.onClose(
      ended ?? (reason === "" ? `the connection closed with code ${code}` : reason),
      ended !== undefined,
    );
  });
  return {
    send(bytes) {
      if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
    },
    close() {
      dropped = true;
      socket.close();
    },
  };
}
