/** `isola` over a fleet in memory, for tests that need a process of their own: `isola up` serves it. */

import { FakeFleet } from "../../api/testing/fake-fleet.ts";
import { launch } from "../launch.ts";
import { serveFleet } from "../remote/serve.ts";
import { FAKE_HOST } from "./fake-host.ts";

await launch({
  ...FAKE_HOST,
  serve: async (options) => {
    const { mkdirSync } = await import("node:fs");
    mkdirSync(options.stateFolder, { recursive: true });
    return await serveFleet(new FakeFleet(), options);
  },
});
