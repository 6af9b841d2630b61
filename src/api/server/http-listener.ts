/** One listener of Node's: its requests to the app and back, bodies within bounds, upgrades to the consoles. */

import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { BODY_LIMIT_BYTES, type IsolaApp } from "./app.ts";
import { SAFETY_HEADERS } from "./browser-safety.ts";
import type { ConsoleSockets } from "./console-sockets.ts";
import type { ApiAnswer, ApiRequest } from "./exchange.ts";

/** How long the head of a request, and a whole request, may take to arrive, in milliseconds. */
const HEAD_MS = 10_000;
const REQUEST_MS = 60_000;
const HEAD_LIMIT_BYTES = 16 * 1024;
/** Connections of one listener. */
const CONNECTION_LIMIT = 1000;
/** How long a client that sends too much may take to read the answer, and how much of the rest is read meanwhile. */
const LINGER_MS = 500;
const LINGER_BYTES = 8 * 2 ** 20;
const LINGER_LOOK_MS = 5;
/** How long requests under way may take to end when the server closes. */
const CLOSE_MS = 2000;

export interface Listener {
  readonly server: HttpServer;
  close(): Promise<void>;
}

/** Path and query of a request's target, which may be a whole address. [RFC 9112 §3.2.2] */
function targetOf(url: string): { path: string; query: string } {
  const target = url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?#]*/i, "");
  const at = target.indexOf("?");
  return at < 0 ? { path: target, query: "" } : { path: target.slice(0, at), query: target.slice(at + 1) };
}

function requestOf(incoming: IncomingMessage, local: boolean): ApiRequest {
  return {
    method: incoming.method ?? "GET",
    ...targetOf(incoming.url ?? "/"),
    headers: incoming.headers,
    // The connection outlives a body that is too large, for the answer.
    body: () => incoming.iterator({ destroyOnReturn: false }),
    local,
    address: local ? "unix" : (incoming.socket.remoteAddress ?? "unknown"),
  };
}

/**
 * Once the answer is out: what the client still sends is thrown away, so that it gets to read the answer; not for long,
 * and not much of it.
 */
function drain(incoming: IncomingMessage): void {
  const { socket } = incoming;
  if (incoming.complete || socket.destroyed) return;
  incoming.resume();
  const end = performance.now() + LINGER_MS;
  const limit = socket.bytesRead + LINGER_BYTES;
  const look = setInterval(() => {
    const patient = performance.now() < end && socket.bytesRead < limit;
    if (patient && !socket.destroyed && !incoming.complete) return;
    clearInterval(look);
    if (!incoming.complete) socket.destroy();
  }, LINGER_LOOK_MS);
}

/** Sends a stream at its reader's pace. One that fails, such as by its reader's slowness, breaks the answer off. */
async function pour(body: ReadableStream<Uint8Array>, outgoing: ServerResponse): Promise<void> {
  const reader = body.getReader();
  let wake: (() => void) | undefined;
  outgoing.on("drain", () => wake?.());
  outgoing.once("close", () => {
    wake?.();
    reader.cancel().catch(() => undefined);
  });
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (outgoing.write(part.value) || outgoing.destroyed) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await promise;
    }
    outgoing.end();
  } catch {
    outgoing.destroy();
  }
}

async function send(answer: ApiAnswer, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { status, headers, body } = answer;
  const streamed = body instanceof ReadableStream;
  const silent = incoming.method === "HEAD";
  if (outgoing.destroyed || silent) await (streamed ? body.cancel() : undefined);
  if (outgoing.destroyed) return;
  const length =
    typeof body === "string" ? Buffer.byteLength(body) : streamed || body === null ? undefined : body.length;
  outgoing.writeHead(status, {
    ...SAFETY_HEADERS,
    ...headers,
    ...(length === undefined ? {} : { "content-length": length }),
  });
  if (streamed && !silent) {
    outgoing.flushHeaders();
    await pour(body, outgoing);
  } else outgoing.end(silent || streamed ? null : body);
}

export function makeListener(
  app: IsolaApp,
  consoles: ConsoleSockets,
  local: boolean,
  tls: { readonly key: string | Buffer; readonly cert: string | Buffer } | undefined,
): Listener {
  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    // A client that goes away in the middle is not worth a word.
    for (const end of [incoming, outgoing]) end.on("error", () => undefined);
    outgoing.on("finish", () => drain(incoming));
    await send(await app(requestOf(incoming, local)), incoming, outgoing);
  };
  const limits = { maxHeaderSize: HEAD_LIMIT_BYTES };
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    answer(incoming, outgoing).catch(() => outgoing.destroy());
  };
  const server =
    tls === undefined ? createHttpServer(limits, listener) : createHttpsServer({ ...limits, ...tls }, listener);
  server.headersTimeout = HEAD_MS;
  server.requestTimeout = REQUEST_MS;
  server.maxConnections = CONNECTION_LIMIT;
  // A client that waits for leave to send its body gets it from what reads the body, after all checks of the head.
  server.on("checkContinue", (incoming, outgoing) => {
    const length = Number(incoming.headers["content-length"] ?? 0);
    if (length <= BODY_LIMIT_BYTES) outgoing.writeContinue();
    listener(incoming, outgoing);
  });
  server.on("upgrade", (request, socket, head) => void consoles.upgrade(request, socket, head, local));
  return {
    server,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const impatient = setTimeout(() => server.closeAllConnections(), CLOSE_MS);
      await closed;
      clearTimeout(impatient);
    },
  };
}
