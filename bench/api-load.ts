/**
 * The API under load: `node bench/api-load.ts [--rate 1000] [--seconds 10] [--server unix:/PATH]`. Mixed reads at a fixed
 * rate, sent when they are due whether or not earlier ones are answered, so that a slow answer cannot hide by slowing the
 * questions; meanwhile consoles are watched, once all of them print. Without --server it serves 20 running VMs of its own, tiny guests that print
 * numbered lines, in a process of its own. Prints one line of JSON; latencies are in milliseconds from when a request was
 * due, `serverCpuMs` is the server's processor time for a request.
 */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Connection, connectTo } from "../src/api/node/connect.ts";
import { type RunningServer, serveFleet } from "../src/cli/remote/serve.ts";
import { openFleet } from "../src/fleet/fleet-server.ts";
import { printingKernel } from "./printing-kernel.ts";

const VMS = 20;
const CONSOLES = 20;
/** Requests of the first seconds are not counted: V8 compiles the server's code then. */
const WARM_SECONDS = 2;
/** How long a console may take to print its first line. */
const SILENT_MS = 60_000;
/** Of the readers. */
const CONNECTIONS = 64;
/** Of a processor, for each guest. */
const CAP_PERCENT = 2;

/** The server's process: VMs whose guests print a numbered line each, again and again. They end with the bench. */
async function serve(): Promise<void> {
  const stateFolder = mkdtempSync(join(tmpdir(), "isola-api-load-"));
  const kernel = join(stateFolder, "kernel");
  writeFileSync(kernel, printingKernel());
  const fleet = await openFleet({ stateFolder });
  const running: { server?: RunningServer } = {};
  // Also where the bench is broken off while VMs start.
  process.once("disconnect", () => {
    void (async () => {
      for (const { id } of await fleet.list()) await fleet.kill(id);
      await (running.server ?? fleet).close();
      rmSync(stateFolder, { recursive: true, force: true });
      process.exit(0);
    })();
  });
  for (let index = 0; index < VMS; index += 1) {
    const name = `vm${index}`;
    const disks = [{ name: "data", sizeBytes: "1M" }];
    await fleet.create({ name, kernel, memoryBytes: "4M", engine: "wasm", disks, cpu: { capPercent: CAP_PERCENT } });
    await fleet.start(name);
  }
  const socketPath = join(stateFolder, "isola.sock");
  const quiet = (): void => undefined;
  running.server = await serveFleet(fleet, { stateFolder, socketPath, version: "0", log: quiet, shutDown: quiet });
  process.on("message", () => process.send?.(process.cpuUsage()));
  process.send?.(socketPath);
}

/** Processor time of the server's process so far, ms. */
async function serverCpuMs(child: ChildProcess): Promise<number> {
  const answer = once(child, "message");
  child.send("cpu");
  const [{ user, system }] = (await answer) as [NodeJS.CpuUsage];
  return (user + system) / 1000;
}

function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** Watches consoles; tells how many broke off, lost bytes or skipped a line. */
function watchConsoles(
  connection: Connection,
  vms: readonly string[],
): { bytes: () => number; broken: () => number; speaking: () => boolean; close: () => void } {
  let bytes = 0;
  let broken = 0;
  const heard = new Set<string>();
  const consoles = vms.slice(0, CONSOLES).map((vm) => {
    let rest = "";
    let expected: number | undefined;
    return connection.openConsole(
      vm,
      {
        data: (chunk) => {
          bytes += chunk.length;
          const lines = (rest + Buffer.from(chunk).toString("latin1")).split("\n");
          rest = lines.pop() ?? "";
          for (const line of lines) {
            const number = /^line (\d+)$/.exec(line)?.[1];
            if (number === undefined) continue;
            if (expected !== undefined && Number(number) !== expected) broken += 1;
            heard.add(vm);
            expected = Number(number) + 1;
          }
        },
        gap: () => {
          broken += 1;
        },
        end: () => {
          broken += 1;
        },
      },
      0,
    );
  });
  return {
    bytes: () => bytes,
    broken: () => broken,
    speaking: () => heard.size === consoles.length,
    close: () => {
      for (const console of consoles) console.close();
    },
  };
}

/** What is read, by turns; the typed client would cost as much as the server does. */
const READS: readonly ((vm: string) => string)[] = [
  (vm) => `vms/${vm}`,
  (vm) => `vms/${vm}`,
  (vm) => `vms/${vm}/samples`,
  () => "vms",
  () => "host",
  () => "events?limit=20",
  () => "operations",
  (vm) => `vms/${vm}/log?tailBytes=1000`,
];

/** Reads what is at `path`, whole. Rejects where the answer is no success. */
function read(agent: Agent, socketPath: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request({ agent, socketPath, path: `/api/v1/${path}` }, (answer) => {
      answer.on("error", reject);
      answer.on("end", () => {
        if (answer.statusCode === 200) resolve();
        else reject(new Error(`${path}: status ${answer.statusCode}`));
      });
      answer.resume();
    });
    sent.on("error", reject);
    sent.end();
  });
}

async function load(connection: Connection, socketPath: string, rate: number, seconds: number): Promise<object> {
  const vms = (await connection.api.listVms()).map(({ name }) => name);
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const consoles = watchConsoles(connection, vms);
  const latencies: number[] = [];
  let failures = 0;
  // A VM that has just started pays for its start before its guest goes on.
  const silent = performance.now() + SILENT_MS;
  while (!consoles.speaking() && performance.now() < silent) await sleep(100);
  const bytesBefore = consoles.bytes();
  const total = rate * (WARM_SECONDS + seconds);
  const warm = rate * WARM_SECONDS;
  const pending: Promise<void>[] = [];
  const begun = performance.now();
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor(((performance.now() - begun) / 1000) * rate));
    for (; sent < due; sent += 1) {
      const dueAt = begun + (sent / rate) * 1000;
      const counts = sent >= warm;
      const path = READS[sent % READS.length]?.(vms[Math.floor(sent / READS.length) % vms.length] ?? "") ?? "";
      pending.push(
        read(agent, socketPath, path).then(
          () => {
            if (counts) latencies.push(performance.now() - dueAt);
          },
          () => {
            failures += 1;
          },
        ),
      );
    }
    await sleep(1);
  }
  await Promise.all(pending);
  const elapsed = (performance.now() - begun) / 1000 - WARM_SECONDS;
  const [bytes, broken] = [consoles.bytes() - bytesBefore, consoles.broken()];
  consoles.close();
  agent.destroy();
  latencies.sort((a, b) => a - b);
  const milliseconds = (part: number): number => Number(percentile(latencies, part).toFixed(1));
  return {
    vms: vms.length,
    rate,
    answered: latencies.length,
    perSecond: Math.round(latencies.length / elapsed),
    failures,
    p50: milliseconds(0.5),
    p99: milliseconds(0.99),
    max: milliseconds(1),
    consoleBytes: bytes,
    consolesWatched: CONSOLES,
    consolesBroken: broken,
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rate: { type: "string", default: "1000" },
      seconds: { type: "string", default: "10" },
      server: { type: "string" },
      serve: { type: "boolean", default: false },
    },
  });
  if (values.serve) {
    await serve();
    return;
  }
  const child = values.server === undefined ? fork(import.meta.filename, ["--serve"]) : undefined;
  const socketPath =
    child === undefined ? (values.server ?? "").replace(/^unix:/, "") : String((await once(child, "message"))[0]);
  const connection = connectTo({ socketPath });
  const before = child && (await serverCpuMs(child));
  const figures = await load(connection, socketPath, Number(values.rate), Number(values.seconds));
  const used = child === undefined ? undefined : (await serverCpuMs(child)) - (before ?? 0);
  const perRequest =
    used === undefined
      ? undefined
      : Number((used / (Number(values.rate) * (Number(values.seconds) + WARM_SECONDS))).toFixed(3));
  console.log(JSON.stringify({ ...figures, ...(perRequest === undefined ? {} : { serverCpuMs: perRequest }) }));
  connection.close();
  child?.disconnect();
}

await main();
