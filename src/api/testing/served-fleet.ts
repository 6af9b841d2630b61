/** A server over a fake fleet, on a Unix socket and on TCP, for tests. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Connection, connectTo } from "../node/connect.ts";
import { AccessStore } from "../server/access-store.ts";
import { RequestMetrics } from "../server/metrics.ts";
import { type ApiServer, type ServerOptions, startServer } from "../server/server.ts";
import type { NewToken } from "../contract/access.ts";
import { FakeFleet } from "./fake-fleet.ts";

export interface ServedFleet {
  readonly fleet: FakeFleet;
  readonly access: AccessStore;
  readonly server: ApiServer;
  /** By the Unix socket. */
  readonly local: Connection;
  readonly url: string;
  /** What the server would write to its log. */
  readonly logged: string[];
  readonly folder: string;
  /** A connection by TCP with a new token. */
  as(token: Partial<NewToken>): Connection & { readonly secret: string };
  close(): Promise<void>;
}

let tokens = 0;

export async function serveFakeFleet(options: Partial<ServerOptions> = {}): Promise<ServedFleet> {
  const folder = mkdtempSync(join(tmpdir(), "isola-api-"));
  const fleet = new FakeFleet();
  const access = new AccessStore(join(folder, "access.db"));
  const logged: string[] = [];
  const socketPath = join(folder, "isola.sock");
  const server = await startServer({
    fleet,
    access,
    images: { list: async () => [{ name: "debian", description: "a test image", minimumMemoryBytes: 2 ** 26 }] },
    version: "0.0.0",
    metrics: new RequestMetrics(),
    shutDown: () => undefined,
    log: (line) => logged.push(line),
    socketPath,
    tcp: { host: "127.0.0.1", port: 0 },
    ...options,
  });
  const url = server.url ?? "";
  const connections: Connection[] = [];
  const local = connectTo({ socketPath });
  connections.push(local);
  return {
    fleet,
    access,
    server,
    local,
    url,
    logged,
    folder,
    as: (token) => {
      tokens += 1;
      const { secret } = access.createToken({
        name: `t${tokens}`,
        scope: "admin",
        projects: null,
        expires: null,
        ...token,
      });
      const connection = connectTo({ url, token: secret });
      connections.push(connection);
      return { ...connection, secret };
    },
    close: async () => {
      for (const connection of connections) connection.close();
      await server.close();
      access[Symbol.dispose]();
      rmSync(folder, { recursive: true });
    },
  };
}
