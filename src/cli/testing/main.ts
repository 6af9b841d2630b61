/** `isola` with a fake virtual machine and a fake store, for tests that need a process of their own. */

import { launch } from "../launch.ts";
import { FakeImages } from "./fake-images.ts";
import { FakeVm, restoreFakeVm } from "./fake-vm.ts";

await launch({
  streams: process,
  version: "0.0.0",
  createVm: (options) => new FakeVm(options),
  chooseEngine: () => ({ engine: "wasm" }),
  restoreVm: restoreFakeVm,
  openStore: () => new FakeImages(),
  serve: () => Promise.reject(new Error("no server here")),
});
