/**
 * The program that the bench measures as isola: the command line as it is, with its console on stdin and stdout, and
 * beside it the engine's figures over Node's channel when a mark passes or the bench asks.
 *
 *   node bench/isola-guest.ts run debian --memory 256M
 */

import { flushCompileCache } from "node:module";
import packageJson from "../package.json" with { type: "json" };
import { launch } from "../src/cli/launch.ts";
import { createNodeVm, restoreNodeVm } from "../src/fleet/node-vm.ts";
import { ImageStore } from "../src/images/store.ts";
import type { CreateVm, Vm } from "../src/machine/vm-contract.ts";
import { MARKS, type MarkName } from "./marks.ts";

/** What goes over the channel. */
export interface IsolaFigures {
  readonly mark: MarkName | "now";
  readonly instructions: number;
  readonly exits: number;
  readonly guestSeconds: number;
}

const NS_PER_SECOND = 1e9;
/** Enough of the console to find a mark that arrives in pieces. */
const RECENT = 4096;

function report(vm: Vm, mark: IsolaFigures["mark"]): void {
  const { instructions, exits, guestNanoseconds } = vm.stats();
  const figures: IsolaFigures = { mark, instructions, exits, guestSeconds: guestNanoseconds / NS_PER_SECOND };
  process.send?.(figures);
}

/** A VM whose output is looked at on its way to the console. */
const createVm: CreateVm = (options) => {
  const vm = createNodeVm(options);
  const waiting = new Set(Object.keys(MARKS) as MarkName[]);
  let recent = "";
  const look = (bytes: Uint8Array): void => {
    recent = (recent + Buffer.from(bytes).toString("latin1")).slice(-RECENT);
    for (const mark of waiting) {
      if (!recent.includes(MARKS[mark])) continue;
      waiting.delete(mark);
      report(vm, mark);
    }
  };
  const onOutput = vm.onOutput.bind(vm);
  vm.onOutput = (listener) =>
    onOutput((bytes) => {
      if (waiting.size > 0) look(bytes);
      return listener(bytes);
    });
  process.on("message", () => report(vm, "now"));
  return vm;
};

flushCompileCache();
await launch({
  streams: process,
  version: packageJson.version,
  createVm,
  chooseEngine: () => ({ engine: "wasm" }),
  restoreVm: restoreNodeVm,
  openStore: () => new ImageStore(),
  serve: () => Promise.reject(new Error("no server here")),
});
