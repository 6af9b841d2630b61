/** The process behind `isola`: real streams, real virtual machines, the real store of images. */

import { flushCompileCache } from "node:module";
import packageJson from "../../package.json" with { type: "json" };
import { chooseEngine } from "../fleet/engine-choice.ts";
import { createNodeVm, restoreNodeVm } from "../fleet/node-vm.ts";
import { ImageStore } from "../images/store.ts";
import type { CliHost } from "./host.ts";
import { launch } from "./launch.ts";

const host: CliHost = {
  streams: process,
  version: packageJson.version,
  createVm: createNodeVm,
  chooseEngine,
  restoreVm: restoreNodeVm,
  openStore: () => new ImageStore(),
  // Loaded by the server alone.
  serve: async (options) => {
    const { stateFolder, cgroup } = options;
    const [{ serveFleet }, { openFleet }] = await Promise.all([
      import("./remote/serve.ts"),
      import("../fleet/fleet-server.ts"),
    ]);
    return await serveFleet(await openFleet({ stateFolder, ...(cgroup === undefined ? {} : { cgroup }) }), options);
  },
};

// Kept now, since not every end of a process lets Node do it.
flushCompileCache();
await launch(host);
