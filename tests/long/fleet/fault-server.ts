/**
 * A server that is made to be killed: it does random lifecycle operations and says on stdout what it was promised, one
 * JSON value a line, after each that was answered.
 *
 *   node fault-server.ts FOLDER KERNEL SEED
 */

import { FleetError } from "../../../src/fleet/fleet-error.ts";
import { openFleet } from "../../../src/fleet/fleet-server.ts";
import { WRITER } from "./disk-writer.ts";

const [folder = "", kernel = "", seedText = "1"] = process.argv.slice(2);
let seed = Number(seedText) >>> 0;
const random = (below: number): number => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const say = (line: unknown): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);

const fleet = await openFleet({ stateFolder: folder });
say({ open: true });
const NAMES = ["a", "b", "c", "d"];
const OPERATIONS = [
  "create",
  "start",
  "start",
  "pause",
  "resume",
  "reset",
  "stop",
  "kill",
  "remove",
  "rename",
] as const;

// The one that writes its disk has no other task.
fleet.start(WRITER).catch((error: unknown) => {
  if (!(error instanceof FleetError)) throw error;
});

/** Two workers at once, so that operations meet. */
async function work(): Promise<never> {
  for (;;) {
    const name = NAMES[random(NAMES.length)] ?? "a";
    const operation = OPERATIONS[random(OPERATIONS.length)] ?? "start";
    const other = NAMES[random(NAMES.length)] ?? "b";
    say({ begin: operation, name });
    try {
      if (operation === "create") {
        const disks = random(2) === 0 ? [] : [{ name: "data", sizeBytes: "1M" }];
        const restart = { policy: random(2) === 0 ? "on-failure" : "no" };
        const { id } = await fleet.create({ name, kernel, memoryBytes: "4M", disks, restart });
        say({ created: id });
      } else if (operation === "remove") {
        const { id } = await fleet.inspect(name);
        say({ removing: id });
        await fleet.remove(name, { force: random(2) === 0 });
        say({ removed: id });
      } else if (operation === "rename") await fleet.rename(name, other);
      else if (operation === "stop") await fleet.stop(name, { graceSeconds: 0.2 });
      else await fleet[operation](name);
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      // A refusal, or an operation that met another: both are answers. Anything else is a failure of the fleet.
      if (error.code === "host-failed") throw error;
    }
  }
}

await Promise.all([work(), work()]);
