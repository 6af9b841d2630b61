/** `isola` over a fleet in memory, for tests that need a process of their own: `isola up` serves it. */

import { FakeFleet } from "../../api/testing/fake-fleet.ts";
import { launch } from "../launch.ts";
import { serveFleet } from "../remote/serve.ts";
import { FakeImages } from "./fake-images.ts";
import { FakeVm, restoreFakeVm } from "./fake-vm.ts";

await launch({
  streams: process,
  version: "0.0.0",
  createVm: (options) => new FakeVm(options),
  chooseEngine: () => ({ engine: "wasm" }),
  restoreVm: restoreFakeVm,
  openStore: () => new FakeImages(),
  serve: async (options) => {
    const { mkdirSync } = await import("node:fs");
    mkdirSync(options.stateFolder, { recursive: true });
    return await serveFleet(new FakeFleet(), options);
  },
});
