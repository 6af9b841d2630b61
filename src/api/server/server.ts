/** The API on sockets: a Unix socket that only its owner may open, and TCP, with TLS where a certificate is given. */

import { chmodSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import type { Server as HttpServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { IsolaError } from "../../base/errors.ts";
import { type AppOptions, createApp } from "./app.ts";
import { ConsoleSockets } from "./console-sockets.ts";
import { type Listener, makeListener } from "./http-listener.ts";

/** A Unix socket's path, in bytes, without the final zero. [unix(7): sun_path] */
const UNIX_PATH_LIMIT = 107;

export interface TcpAddress {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer };
}

export interface ServerOptions extends Omit<AppOptions, "addresses"> {
  readonly socketPath?: string;
  readonly tcp?: TcpAddress;
  /** For tests: how long a console's watcher may leave things unread, in milliseconds. */
  readonly patienceMs?: number;
}

export interface ApiServer {
  /** Of TCP: `http://127.0.0.1:7070`. */
  readonly url: string | undefined;
  readonly socketPath: string | undefined;
  close(): Promise<void>;
}

function cannotListen(where: string, error: NodeJS.ErrnoException, wayOut: string): IsolaError {
  const reasons: Record<string, string> = {
    EADDRINUSE: "another program listens there",
    EACCES: "this user may not",
    EADDRNOTAVAIL: "this host has no such address",
    ENOTFOUND: "there is no such host",
  };
  return new IsolaError({
    code: "listen-failed",
    message: `cannot listen on ${where}: ${reasons[error.code ?? ""] ?? error.message}; wanted: ${wayOut}`,
    cause: error,
  });
}

function listen(server: HttpServer, where: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Whether somebody answers at the socket; a file that nobody listens to is a leftover. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Makes way for a socket: a leftover one goes, a living one and everything else stays. */
async function clearPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > UNIX_PATH_LIMIT) {
    throw new IsolaError({
      code: "listen-failed",
      message: `cannot listen on ${path}: its name has ${Buffer.byteLength(path)} bytes; wanted: at most ${UNIX_PATH_LIMIT}, see --socket`,
    });
  }
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (!found.isSocket()) {
      throw new IsolaError({
        code: "listen-failed",
        message: `cannot listen on ${path}: there is a file that is no socket; wanted: another path, see --socket`,
      });
    }
    if (await answers(path)) {
      throw new IsolaError({
        code: "listen-failed",
        message: `cannot listen on ${path}: a server answers there; wanted: \`isola down\` first, or another path, see --socket`,
      });
    }
    rmSync(path, { force: true });
  } catch (error) {
    if (error instanceof IsolaError) throw error;
    throw cannotListen(path, error as NodeJS.ErrnoException, "a folder that this user may write, see --socket");
  }
}

/** Listens; throws an IsolaError `listen-failed` that says why it cannot. */
export async function startServer(options: ServerOptions): Promise<ApiServer> {
  const addresses: AppOptions["addresses"] = { url: null, socketPath: null };
  const app = createApp({ ...options, addresses });
  const consoles = new ConsoleSockets({ ...options, addresses });
  const listeners: Listener[] = [];
  const close = async (): Promise<void> => {
    consoles.close("the server is ending");
    await Promise.all(listeners.map((listener) => listener.close()));
  };
  let url: string | undefined;
  try {
    if (options.tcp !== undefined) {
      const { host, port, tls } = options.tcp;
      const listener = makeListener(app, consoles, false, tls);
      try {
        await listen(listener.server, { host, port });
      } catch (error) {
        throw cannotListen(`${host}:${port}`, error as NodeJS.ErrnoException, "a free address and port, see --listen");
      }
      listeners.push(listener);
      const bound = listener.server.address() as AddressInfo;
      // Of all addresses, one that another machine may know this one by.
      const everywhere = bound.address === "0.0.0.0" || bound.address === "::";
      const name = everywhere ? hostname() : bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
      url = `${tls === undefined ? "http" : "https"}://${name}:${bound.port}`;
    }
    const { socketPath } = options;
    if (socketPath !== undefined) {
      await clearPath(socketPath);
      const listener = makeListener(app, consoles, true, undefined);
      // From the first moment on only its owner may open it.
      const mask = process.umask(0o177);
      const listening = listen(listener.server, { path: socketPath });
      process.umask(mask);
      try {
        await listening;
      } catch (error) {
        throw cannotListen(
          socketPath,
          error as NodeJS.ErrnoException,
          "a folder that this user may write, see --socket",
        );
      }
      chmodSync(socketPath, 0o600);
      listeners.push(listener);
    }
    addresses.url = url ?? null;
    addresses.socketPath = socketPath ?? null;
    return { url, socketPath, close };
  } catch (error) {
    await close();
    throw error;
  }
}
