/** Side by side with QEMU (npm run bench): see USAGE in options.ts. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import packageJson from "../package.json" with { type: "json" };
import { IsolaError } from "../src/base/errors.ts";
import { densityReport, measureDensity } from "./density.ts";
import { hostFacts } from "./host.ts";
import { isolaMachine, openImage, qemuMachine } from "./machines.ts";
import { measure } from "./measure.ts";
import { readOptions, USAGE } from "./options.ts";
import { report } from "./report.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    console.log(USAGE);
    return;
  }
  if (process.platform !== "linux") {
    throw new IsolaError({
      code: "bench-host",
      message: `measuring on ${process.platform}: wanted Linux, for its /proc`,
    });
  }
  const host = hostFacts();
  if (options.parts.has("density")) {
    const density = await measureDensity(options, (line) => console.error(line));
    process.stdout.write(
      `commit ${host.commit}, Node ${host.node}, ${host.cores} x ${host.processor}\n${densityReport(density)}`,
    );
    if (options.parts.size === 1) return;
  }
  const image = await openImage();
  const machines = [isolaMachine(packageJson.version), qemuMachine(image, options.qemuCpu)];
  const result = await measure(machines, options, (line) => console.error(line));
  const { versions } = image.manifest;
  process.stdout.write(`\n${report(host, machines, versions, options, result)}`);
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, "-");
  const path = options.output ?? join(ROOT, "out", `bench-${stamp}.json`);
  mkdirSync(dirname(path), { recursive: true });
  const facts = { host, image: versions, machines: machines.map(({ name, version }) => ({ name, version })) };
  writeFileSync(
    path,
    `${JSON.stringify({ ...facts, options: { ...options, parts: [...options.parts], groups: [...options.groups] }, ...result }, undefined, 2)}\n`,
  );
  console.log(`\nraw figures: ${path}`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof IsolaError)) throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
