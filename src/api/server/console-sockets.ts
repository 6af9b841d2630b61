/**
 * Serial consoles over WebSocket: binary messages are bytes of the console, either way; text messages are JSON about it.
 * A watcher may be slow for a while, at the cost of the oldest bytes; one that does not read at all is closed.
 * [RFC 6455]
 */

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { IsolaError } from "../../base/errors.ts";
import type { ConsoleAttachment } from "../../fleet/contract.ts";
import { apiOperations } from "../contract/api.ts";
import { CONSOLE_PROTOCOL, type ConsoleMessage, TOKEN_PROTOCOL } from "../contract/console.ts";
import { type Problem, problemOf } from "../contract/problem.ts";
import { sameOrigin } from "./browser-safety.ts";
import { allows, bearerToken, type Caller, callerOf, demand, LOCAL_CALLER } from "./caller.ts";
import { foreseen, refusal } from "./failures.ts";
import type { ApiDependencies } from "./handlers.ts";
import { Tenant } from "./tenant.ts";

/** Unread bytes at which the guest's output waits for this watcher. */
const HIGH_WATER_BYTES = 256 * 1024;
/** Typed bytes that the guest has not taken, at which no more are read. */
const TYPED_LIMIT_BYTES = 64 * 1024;
/** How long the watcher may leave output unread, or a ping unanswered, in milliseconds. */
const PATIENCE_MS = 20_000;
/** How long a closing handshake may take. */
const CLOSE_MS = 2000;
/** A longer message is no typing. */
const MESSAGE_LIMIT_BYTES = 64 * 1024;
/** WebSocket close codes. [RFC 6455 §7.4.1; IANA: 1013] */
const CLOSE = { normal: 1000, policy: 1008, failed: 1011, tooSlow: 1013 } as const;
const REASON_LIMIT_BYTES = 123;

const PATH = /^\/api\/v1\/vms\/([^/?]+)\/console$/;

export interface ConsoleSocketOptions extends ApiDependencies {
  readonly log: (line: string) => void;
  /** For tests: how long a watcher may leave things unread, in milliseconds. */
  readonly patienceMs?: number;
}

/** The offered subprotocols. */
function protocols(request: IncomingMessage): string[] {
  return (request.headers["sec-websocket-protocol"] ?? "").split(",").map((protocol) => protocol.trim());
}

function refuse(socket: Duplex, problem: Problem): void {
  const body = JSON.stringify(problem);
  const head = [
    `HTTP/1.1 ${problem.status} ${problem.title}`,
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}

function close(socket: WebSocket, code: number, reason: string): void {
  const bytes = Buffer.from(reason);
  // A cut in the middle of a character would make the frame invalid.
  socket.close(
    code,
    bytes
      .subarray(0, REASON_LIMIT_BYTES)
      .toString()
      .replace(/\uFFFD+$/, ""),
  );
  // Who does not read never sees the closing frame.
  setTimeout(() => socket.terminate(), CLOSE_MS).unref();
}

export class ConsoleSockets {
  readonly #options: ConsoleSocketOptions;
  readonly #server: WebSocketServer;
  readonly #patienceMs: number;

  constructor(options: ConsoleSocketOptions) {
    this.#options = options;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: MESSAGE_LIMIT_BYTES,
      perMessageDeflate: false,
      handleProtocols: (offered) => (offered.has(CONSOLE_PROTOCOL) ? CONSOLE_PROTOCOL : false),
    });
  }

  /** Answers a request for an upgrade: with a console, or with the problem. */
  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, local: boolean): Promise<void> {
    // A peer that goes away meanwhile is not worth a word.
    socket.on("error", () => undefined);
    const { access, metrics, log } = this.#options;
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    const begun = performance.now();
    let caller: Caller | undefined;
    try {
      const address = request.socket.remoteAddress ?? "unknown";
      const { host, origin } = request.headers;
      if (!sameOrigin(origin, host)) {
        throw new IsolaError({
          code: "origin-refused",
          message: `a page of ${(origin ?? "").slice(0, 200)} may not open a console; wanted: a page that this server served`,
        });
      }
      const offered = protocols(request).find((protocol) => protocol.startsWith(TOKEN_PROTOCOL));
      const secret = bearerToken(request.headers.authorization) ?? offered?.slice(TOKEN_PROTOCOL.length);
      caller = local ? LOCAL_CALLER : callerOf(access, secret, address);
      const { vm, replayBytes } = this.#target(request.url ?? "");
      demand(caller, "read", "watch a console");
      const found = await new Tenant(this.#options.fleet, caller).find(vm);
      metrics.observe("attachConsole", 101, (performance.now() - begun) / 1000);
      const { who } = caller;
      access.record({
        who,
        address: caller.address,
        operation: "attachConsole",
        target: path,
        status: 101,
        code: null,
      });
      const typing = allows(caller, "operate");
      this.#server.handleUpgrade(request, socket, head, (webSocket) => {
        this.#serve(webSocket, found.id, typing, replayBytes).catch((error: unknown) => {
          const problem = foreseen(error);
          if (problem === undefined) log(`console of ${found.name}: ${String(error)}`);
          close(webSocket, CLOSE.failed, problem?.detail ?? "the console failed; the server's log tells why");
        });
      });
    } catch (error) {
      const problem = foreseen(error) ?? (isProblem(error) ? error.problem : undefined);
      if (problem === undefined) log(`upgrade of ${path.slice(0, 200)}: ${String(error)}`);
      const told = problem ?? problemOf("internal", "the console failed; the server's log tells why");
      metrics.observe("attachConsole", told.status, (performance.now() - begun) / 1000);
      refuse(socket, told);
    }
  }

  #target(url: string): { vm: string; replayBytes: number | undefined } {
    const { params, query } = apiOperations.attachConsole;
    const [path = "", search = ""] = url.split("?");
    const [, name] = PATH.exec(path) ?? [];
    if (name === undefined)
      throw new IsolaError({ code: "not-found", message: `no WebSocket is at ${path.slice(0, 200)}` });
    // A name has no character that would be escaped: one that is escaped is refused as it stands.
    const target = params.safeParse({ vm: name });
    if (!target.success) throw new Refused(refusal("path", { vm: name }, target.error));
    const values = Object.fromEntries(new URLSearchParams(search));
    const asked = query.strict().safeParse(values);
    if (!asked.success) throw new Refused(refusal("query", values, asked.error));
    return { vm: target.data.vm, replayBytes: asked.data.replayBytes };
  }

  async #serve(socket: WebSocket, vm: string, typing: boolean, replayBytes: number | undefined): Promise<void> {
    const { fleet, metrics } = this.#options;
    // Opened below; until then what is typed waits.
    const opened: { attachment?: ConsoleAttachment } = {};
    let alive = true;
    const tell = (message: ConsoleMessage): void => {
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
    };
    metrics.openConsoles += 1;
    const pulse = setInterval(() => {
      if (!alive) {
        close(socket, CLOSE.tooSlow, "too slow: a ping was not answered");
        return;
      }
      alive = false;
      socket.ping();
    }, this.#patienceMs);
    socket.on("pong", () => {
      alive = true;
    });
    // A message that is too long, or no WebSocket at all: ws closes it with the right code.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      metrics.openConsoles -= 1;
      clearInterval(pulse);
      opened.attachment?.close();
    });
    const typed = new TypedInput(socket, (bytes) => opened.attachment?.write(bytes) ?? Promise.resolve());
    socket.on("message", (data, binary) => {
      alive = true;
      if (!binary) {
        close(socket, CLOSE.policy, "a text message; wanted: bytes for the console, as binary messages");
        return;
      }
      if (!typing) {
        close(socket, CLOSE.policy, "typing needs the scope operate; this token may only watch");
        return;
      }
      typed.push(data as Buffer);
    });
    opened.attachment = await fleet.console(
      vm,
      {
        onData: (bytes) => this.#send(socket, bytes),
        onGap: (lostBytes) => tell({ type: "gap", lostBytes }),
        onEnd: (reason) => {
          tell({ type: "end", reason });
          close(socket, CLOSE.normal, reason);
        },
      },
      replayBytes === undefined ? {} : { replayBytes },
    );
    // It may have closed while the console was opened.
    if (socket.readyState !== socket.OPEN) opened.attachment.close();
    typed.open();
  }

  /** Sends, and has the guest's output wait while much is unread; who leaves it unread for long is closed. */
  #send(socket: WebSocket, bytes: Uint8Array): void | Promise<void> {
    if (socket.readyState !== socket.OPEN) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.send(bytes, () => resolve());
    if (socket.bufferedAmount < HIGH_WATER_BYTES) return undefined;
    const patience = setTimeout(() => {
      close(socket, CLOSE.tooSlow, `too slow: ${socket.bufferedAmount} bytes unread`);
      resolve();
    }, this.#patienceMs);
    return promise.finally(() => clearTimeout(patience));
  }

  /** Closes all consoles. */
  close(reason: string): void {
    for (const socket of this.#server.clients) close(socket, 1001, reason);
    this.#server.close();
  }
}

/** What a watcher types, in order, at the pace at which the guest takes it. */
class TypedInput {
  readonly #socket: WebSocket;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Typed before the console is there, it waits. */
  #busy = true;

  constructor(socket: WebSocket, write: (bytes: Uint8Array) => Promise<void>) {
    this.#socket = socket;
    this.#write = write;
  }

  push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > TYPED_LIMIT_BYTES) this.#socket.pause();
    if (!this.#busy) void this.#drain();
  }

  open(): void {
    void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      try {
        await this.#write(next);
      } catch (error) {
        close(this.#socket, CLOSE.failed, error instanceof IsolaError ? error.message : "typing failed");
        this.#queue = [];
      }
      this.#queuedBytes -= next.length;
      if (this.#queuedBytes <= TYPED_LIMIT_BYTES && this.#socket.isPaused) this.#socket.resume();
    }
    this.#busy = false;
  }
}

class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

function isProblem(error: unknown): error is Refused {
  return error instanceof Refused;
}
