/**
 * The program that the bench measures as isola: one guest from the image store on `createNodeVm`, its console on stdin
 * and stdout as `isola run` has it, and the engine's figures over the channel when a mark passes or the bench asks.
 *
 *   node bench/isola-guest.ts MEMORY_BYTES COMMAND_LINE
 */

import { writeSync } from "node:fs";
import { createNodeVm } from "../src/fleet/node-vm.ts";
import { ImageStore } from "../src/images/store.ts";
import { MARKS, type MarkName } from "./guest-process.ts";

/** What goes over the channel. */
export interface IsolaFigures {
  readonly mark: MarkName | "now";
  readonly instructions: number;
  readonly exits: number;
  readonly guestSeconds: number;
}

const NS_PER_SECOND = 1e9;
const [memory = "", commandLine = ""] = process.argv.slice(2);
const { kernel, initrd } = await new ImageStore().open("debian");
const vm = createNodeVm({ memoryBytes: Number(memory), kernel, initrd, commandLine, engine: "wasm" });

function report(mark: IsolaFigures["mark"]): void {
  const { instructions, exits, guestNanoseconds } = vm.stats();
  const figures: IsolaFigures = { mark, instructions, exits, guestSeconds: guestNanoseconds / NS_PER_SECOND };
  process.send?.(figures);
}

/** Enough of the console to find a mark that arrives in pieces. */
let recent = "";
const waiting = new Set(Object.keys(MARKS) as MarkName[]);
vm.onOutput((bytes) => {
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
  if (waiting.size === 0) return;
  recent = (recent + Buffer.from(bytes).toString("latin1")).slice(-4096);
  for (const mark of waiting) {
    if (!recent.includes(MARKS[mark])) continue;
    waiting.delete(mark);
    report(mark);
  }
});
process.on("message", () => report("now"));

let input = Buffer.alloc(0);
function feed(): void {
  while (input.length > 0) {
    const taken = vm.write(input);
    input = input.subarray(taken);
    if (taken === 0) return;
  }
}
vm.onInputSpace(feed);
process.stdin.on("data", (bytes: Buffer) => {
  input = Buffer.concat([input, bytes]);
  feed();
});

await vm.start();
const result = await vm.done;
console.error(result.kind, "message" in result ? result.message : "");
process.exit(result.kind === "power-off" ? 0 : 1);
