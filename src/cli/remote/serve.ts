/** The server as a whole: the fleet, who may call, and the API on its sockets. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AccessStore } from "../../api/server/access-store.ts";
import { RequestMetrics } from "../../api/server/metrics.ts";
import { startServer, type TcpAddress } from "../../api/server/server.ts";
import { staticFiles } from "../../api/server/static-files.ts";
import type { Fleet } from "../../fleet/contract.ts";
import { ImageStore } from "../../images/store.ts";

export interface ServeOptions {
  readonly stateFolder: string;
  readonly socketPath: string;
  readonly tcp?: TcpAddress;
  /** A control group for VMs; see FleetOptions. */
  readonly cgroup?: string;
  readonly version: string;
  /** A line about what nobody asked for and somebody should know. */
  readonly log: (line: string) => void;
  /** Called when somebody asks for the server's end. */
  readonly shutDown: () => void;
}

export interface RunningServer {
  readonly url: string | undefined;
  /** Ends the server; VMs go on. */
  close(): Promise<void>;
}

/** Where the dashboard's files are: beside the sources, or beside the build. */
function dashboardFolder(): string | undefined {
  return ["../../../web/dist", "../../web"]
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(join(path, "index.html")));
}

/** Serves `fleet`, which ends with the server. Throws an IsolaError where it cannot listen; the fleet is closed then. */
export async function serveFleet(fleet: Fleet, options: ServeOptions): Promise<RunningServer> {
  const { stateFolder, socketPath, tcp, version, log, shutDown } = options;
  let access: AccessStore | undefined;
  const release = async (): Promise<void> => {
    await fleet.close();
    access?.[Symbol.dispose]();
  };
  try {
    access = new AccessStore(join(stateFolder, "access.db"));
    const server = await startServer({
      fleet,
      access,
      images: new ImageStore(),
      version,
      metrics: new RequestMetrics(),
      log,
      shutDown,
      socketPath,
      files: staticFiles(dashboardFolder()),
      ...(tcp === undefined ? {} : { tcp }),
    });
    return {
      url: server.url,
      close: async () => {
        await server.close();
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}
