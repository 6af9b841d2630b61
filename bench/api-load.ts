/**
 * The API under load: `node bench/api-load.ts [--rate 1000] [--seconds 10] [--server unix:/PATH]`. Mixed reads at a fixed
 * rate, sent when they are due whether or not earlier ones are answered, so that a slow answer cannot hide by slowing the
 * questions; meanwhile consoles are watched. Without --server it serves a fleet in memory with 20 VMs in a process of its
 * own. Prints one line of JSON; latencies are in milliseconds from when a request was due.
 */

import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Connection, connectTo } from "../src/api/node/connect.ts";
import { serveFakeFleet } from "../src/api/testing/served-fleet.ts";

const VMS = 20;
const CONSOLES = 20;
/** How often each guest of the fleet in memory prints a line, in milliseconds. */
const PRINT_MS = 50;

/** The server's process: a fleet in memory whose guests print a numbered line each, again and again. */
async function serveInMemory(): Promise<void> {
  const served = await serveFakeFleet();
  for (let index = 0; index < VMS; index += 1) {
    const vm = `vm${index}`;
    await served.local.api.createVm({ body: { name: vm, image: "debian", memoryBytes: "96M" } });
    await served.local.api.startVm({ vm });
    let line = 0;
    setInterval(() => {
      served.fleet.print(vm, `line ${line}\n`);
      line += 1;
    }, PRINT_MS);
  }
  process.send?.(served.server.socketPath);
  process.once("disconnect", () => {
    void served.close().then(() => process.exit(0));
  });
}

function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** Watches consoles; tells how many broke off, lost bytes or skipped a line. */
function watchConsoles(
  connection: Connection,
  vms: readonly string[],
): { bytes: () => number; broken: () => number; close: () => void } {
  let bytes = 0;
  let broken = 0;
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
    close: () => {
      for (const console of consoles) console.close();
    },
  };
}

async function load(connection: Connection, rate: number, seconds: number): Promise<object> {
  const { api } = connection;
  const vms = (await api.listVms()).map(({ name }) => name);
  const vm = (index: number): string => vms[index % vms.length] ?? "";
  const reads: ((index: number) => Promise<unknown>)[] = [
    (index) => api.getVm({ vm: vm(index) }),
    (index) => api.getVm({ vm: vm(index) }),
    (index) => api.getVmSamples({ vm: vm(index) }),
    () => api.listVms(),
    () => api.getHost(),
    () => api.listEvents({ query: { limit: 20 } }),
    () => api.listOperations(),
    async (index) =>
      await new Response(await api.getVmLog({ vm: vm(index), query: { tailBytes: 1000 } })).arrayBuffer(),
  ];
  const consoles = watchConsoles(connection, vms);
  const latencies: number[] = [];
  let failures = 0;
  const total = rate * seconds;
  const pending: Promise<void>[] = [];
  const begun = performance.now();
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor(((performance.now() - begun) / 1000) * rate));
    for (; sent < due; sent += 1) {
      const dueAt = begun + (sent / rate) * 1000;
      const read = reads[sent % reads.length];
      if (read === undefined) continue;
      pending.push(
        read(sent).then(
          () => void latencies.push(performance.now() - dueAt),
          () => {
            failures += 1;
          },
        ),
      );
    }
    await sleep(1);
  }
  await Promise.all(pending);
  const elapsed = (performance.now() - begun) / 1000;
  const [bytes, broken] = [consoles.bytes(), consoles.broken()];
  consoles.close();
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
    await serveInMemory();
    return;
  }
  const child = values.server === undefined ? fork(import.meta.filename, ["--serve"]) : undefined;
  const socketPath =
    child === undefined ? (values.server ?? "").replace(/^unix:/, "") : String((await once(child, "message"))[0]);
  const connection = connectTo({ socketPath });
  const figures = await load(connection, Number(values.rate), Number(values.seconds));
  console.log(JSON.stringify(figures));
  connection.close();
  child?.disconnect();
}

await main();
