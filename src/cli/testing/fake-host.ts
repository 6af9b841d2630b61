/** What the command line gets in tests: fake virtual machines, a fake store, and no server. */

import type { CliHost } from "../host.ts";
import { FakeImages } from "./fake-images.ts";
import { FakeVm, restoreFakeVm } from "./fake-vm.ts";

export const FAKE_HOST: CliHost = {
  streams: process,
  version: "0.0.0",
  createVm: (options) => new FakeVm(options),
  chooseEngine: () => ({ engine: "wasm" }),
  restoreVm: restoreFakeVm,
  openStore: () => new FakeImages(),
  serve: () => Promise.reject(new Error("no server here")),
};
