/** The client in Node: over the server's Unix socket, or over TCP with a token. */

import { type IncomingMessage, Agent as HttpAgent, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { Readable } from "node:stream";
import { WebSocket } from "ws";
import { IsolaError } from "../../base/errors.ts";
import { type ApiClient, createApiClient } from "../contract/api.ts";
import { type ConsoleMessage, consoleMessageSchema, consoleProtocols, consoleUrl } from "../contract/console.ts";
import { ApiError, problemSchema } from "../contract/problem.ts";

export type ServerAddress =
  | { readonly socketPath: string }
  /** `http://host:port` or `https://host:port`; `ca`: a certificate to trust besides the well-known ones, PEM. */
  | { readonly url: string; readonly token: string | undefined; readonly ca?: string };

export interface ConsoleEvents {
  readonly data: (bytes: Uint8Array) => void;
  /** So many bytes were lost because this side was slow. */
  readonly gap: (lostBytes: number) => void;
  /** Called once. `error` where the console broke off or never opened; else the reason that the server gave. */
  readonly end: (reason: string, error?: Error) => void;
}

export interface RemoteConsole {
  write(bytes: Uint8Array): void;
  /** Bytes that were written and have not left yet. */
  readonly unsentBytes: number;
  /** Stops reading, so that the server's output waits. */
  hold(held: boolean): void;
  close(): void;
}

export interface Connection {
  readonly api: ApiClient;
  /** How a person would name it. */
  readonly name: string;
  openConsole(vm: string, events: ConsoleEvents, replayBytes?: number): RemoteConsole;
  /** Lets idle connections go. */
  close(): void;
}

/** Connections to one server; a stream holds one for as long as it is read, further calls wait. */
const CONNECTION_LIMIT = 128;
const OVER_UNIX = "http://localhost";

function unreachable(name: string, error: NodeJS.ErrnoException): IsolaError {
  const reasons: Record<string, string> = {
    ENOENT: "no server has been started",
    ECONNREFUSED: "no server answers",
    EACCES: "this user may not",
    ENOTFOUND: "there is no such host",
    ECONNRESET: "it broke the connection off",
    DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is signed by itself; see --ca",
  };
  const reason = reasons[error.code ?? ""] ?? error.message;
  return new IsolaError({
    code: "server-unreachable",
    message: `cannot reach the server at ${name}: ${reason}; wanted: a running one (\`isola up\`), or its address by --server or ISOLA_SERVER`,
    cause: error,
  });
}

/** The head of an answer as the Fetch standard has it. */
function toResponse(incoming: IncomingMessage): Response {
  const status = incoming.statusCode ?? 500;
  const headers = new Headers();
  for (let index = 0; index + 1 < incoming.rawHeaders.length; index += 2) {
    headers.append(incoming.rawHeaders[index] ?? "", incoming.rawHeaders[index + 1] ?? "");
  }
  const empty = status === 204 || status === 304;
  if (empty) incoming.resume();
  return new Response(empty ? null : (Readable.toWeb(incoming) as unknown as ReadableStream), { status, headers });
}

/** Makes a connection; it opens nothing before the first call. */
export function connectTo(address: ServerAddress): Connection {
  const unix = "socketPath" in address;
  const name = unix ? address.socketPath : address.url;
  const baseUrl = unix ? OVER_UNIX : address.url;
  const token = unix ? undefined : address.token;
  const ca = unix ? undefined : address.ca;
  const secure = baseUrl.startsWith("https:");
  const limits = { keepAlive: true, maxSockets: CONNECTION_LIMIT };
  const agent = secure ? new HttpsAgent(limits) : new HttpAgent(limits);
  const where = { ...(unix ? { socketPath: address.socketPath } : {}), ...(ca === undefined ? {} : { ca }) };

  const send = (url: string, init: RequestInit): Promise<Response> =>
    new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)(url, {
        ...where,
        agent,
        method: init.method ?? "GET",
        headers: init.headers as Record<string, string>,
        ...(init.signal === undefined || init.signal === null ? {} : { signal: init.signal }),
      });
      request.on("response", (incoming) => resolve(toResponse(incoming)));
      request.on("error", (error) => reject(init.signal?.aborted === true ? error : unreachable(name, error)));
      request.end(init.body ?? undefined);
    });

  const api = createApiClient({ baseUrl, fetch: send, ...(token === undefined ? {} : { token }) });

  function openConsole(vm: string, events: ConsoleEvents, replayBytes?: number): RemoteConsole {
    const target = consoleUrl(baseUrl, vm, replayBytes);
    // The form in which ws takes a Unix socket: its path, then the request's.
    const url = unix ? `ws+unix:${address.socketPath}:${target.slice(target.indexOf("/api/"))}` : target;
    const socket = new WebSocket(url, consoleProtocols(token), {
      perMessageDeflate: false,
      ...(ca === undefined ? {} : { ca }),
    });
    let ended = false;
    const end = (reason: string, error?: Error): void => {
      if (ended) return;
      ended = true;
      events.end(reason, error);
    };
    socket.binaryType = "nodebuffer";
    socket.on("message", (data, binary) => {
      if (binary) {
        events.data(data as Buffer);
        return;
      }
      let message: ConsoleMessage;
      try {
        message = consoleMessageSchema.parse(JSON.parse((data as Buffer).toString()));
      } catch {
        // Of a newer server: what it tells is not needed.
        return;
      }
      if (message.type === "gap") events.gap(message.lostBytes);
      else end(message.reason);
    });
    socket.on("unexpected-response", (request, incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => {
        request.destroy();
        const text = Buffer.concat(chunks).toString();
        let error: Error = new IsolaError({
          code: "server-unreachable",
          message: `${name} refused the console with status ${incoming.statusCode}`,
        });
        try {
          error = new ApiError(problemSchema.parse(JSON.parse(text)));
        } catch {
          // Something else than isola answered.
        }
        end(error.message, error);
      });
    });
    socket.on("error", (error) => end(error.message, unreachable(name, error)));
    socket.on("close", (code, reason) => {
      if (code === 1000) end(reason.toString());
      else
        end(
          reason.toString(),
          new IsolaError({
            code: "console-lost",
            message: `the console broke off: ${reason.toString() || `code ${code}`}`,
          }),
        );
    });
    // Typed before it is open.
    const early: Uint8Array[] = [];
    socket.on("open", () => {
      for (const bytes of early.splice(0)) socket.send(bytes);
    });
    return {
      write: (bytes) => {
        if (socket.readyState === socket.CONNECTING) early.push(bytes);
        else if (socket.readyState === socket.OPEN) socket.send(bytes);
      },
      get unsentBytes() {
        return socket.bufferedAmount;
      },
      hold: (held) => {
        if (held) socket.pause();
        else socket.resume();
      },
      close: () => {
        ended = true;
        socket.close(1000);
      },
    };
  }

  return { api, name, openConsole, close: () => agent.destroy() };
}
