/**
 * Hostile native code in the place of a VM's program, behind the walls that the launcher builds: it reaches no other VM's
 * disk, console or socket, not the server's record, tokens or sockets, and no other process. The same code outside the
 * walls reaches all of them, so what holds it is the walls.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { AccessStore } from "../../src/api/server/access-store.ts";
import { RequestMetrics } from "../../src/api/server/metrics.ts";
import { startServer } from "../../src/api/server/server.ts";
import { planWalls } from "../../src/fleet/confinement.ts";
import { CONFIG_FD, LAUNCH_FD, type LaunchConfig } from "../../src/fleet/control-protocol.ts";
import { openFleet } from "../../src/fleet/fleet-server.ts";
import { diskPath, VM_FILES } from "../../src/fleet/vm-spawn.ts";
import { processDoor } from "../../src/sys/confine.ts";
import { idleKernel } from "../long/fleet/idle-kernel.ts";
import { testFleet } from "./fleet-fixture.ts";

const LAUNCHER = fileURLToPath(new URL("../../src/fleet/vm-launcher.ts", import.meta.url));
/** Far from the numbers of the fleet's own VMs. */
const NUMBER = 4_000_000;

interface Targets {
  readonly files: Readonly<Record<string, string>>;
  readonly sockets: Readonly<Record<string, string>>;
  readonly port: number;
  readonly pids: Readonly<Record<string, number>>;
  readonly writable: string;
}

/** Tries everything, natively where Node would forbid it; prints what it reached, and else the errors' codes. */
function attack(targets: Targets): string {
  return `
const fs = require("node:fs"), net = require("node:net"), ffi = require("node:ffi");
const targets = ${JSON.stringify(targets)};
const result = {};
const attempt = (name, work) => {
  try { work(); result[name] = "reached"; } catch (error) { result[name] = error.code ?? String(error); }
};
const libc = ffi.dlopen("libc.so.6", {
  open: { arguments: ["string", "int32", "uint32"], return: "int32" },
  syscall: { arguments: ["int64", "uint64", "uint64", "uint64", "uint64"], return: "int64" },
}).functions;
const native = (value) => { if (value < 0) throw Object.assign(new Error(), { code: "refused" }); };
for (const [name, path] of Object.entries(targets.files)) {
  attempt("read " + name, () => native(libc.open(path, 0, 0)));
  attempt("write " + name, () => native(libc.open(path, 1, 0)));
}
attempt("make a file", () => fs.writeFileSync(targets.writable, ""));
attempt("run a program", () => { const { error } = require("node:child_process").spawnSync("/bin/true"); if (error) throw error; });
for (const [name, pid] of Object.entries(targets.pids)) {
  attempt("signal " + name, () => process.kill(pid, 0));
  attempt("read the memory of " + name, () => native(libc.open("/proc/" + pid + "/mem", 0, 0)));
  attempt("read the environment of " + name, () => fs.readFileSync("/proc/" + pid + "/environ"));
  // PTRACE_SEIZE does not stop the other; it is let go of when this process ends. [ptrace(2)]
  attempt("trace " + name, () => native(Number(libc.syscall(101n, 0x4206n, BigInt(pid), 0n, 0n))));
}
const connect = (name, where) => new Promise((resolve) => {
  const socket = net.connect(where);
  const end = (how) => { result[name] = how; socket.destroy(); resolve(); };
  socket.on("connect", () => end("reached"));
  socket.on("error", (error) => end(error.code));
});
(async () => {
  for (const [name, path] of Object.entries(targets.sockets)) await connect("connect to " + name, { path });
  await connect("connect by TCP", { host: "127.0.0.1", port: targets.port });
  console.log(JSON.stringify(result));
})();`;
}

/** Runs `script` as the launcher runs a VM's program: with the walls of this host, but with all of Node and FFI. */
async function behindWalls(folder: string, home: string, script: string): Promise<Record<string, string>> {
  const walls = planWalls(join(folder, "programs"), { reason: "the test makes none" });
  assert.ok(walls.launcher && (walls.landlock !== null || walls.uid(NUMBER) !== null), "this host has no walls");
  const config: LaunchConfig = {
    listenPath: join(home, VM_FILES.socket),
    keep: [],
    processors: null,
    noNewPrivileges: true,
    landlock: walls.landlock,
    uid: walls.uid(NUMBER),
    argv: [process.execPath, "--no-warnings", "-e", script],
    environment: { OPENSSL_CONF: "/dev/null", TZ: "UTC" },
  };
  const child = spawn(process.execPath, ["--no-warnings", LAUNCHER], {
    cwd: "/",
    // As vm-spawn.ts does: the last keeps the listening socket's number free.
    stdio: ["ignore", "pipe", "inherit", "pipe", "pipe", "ignore"],
  });
  // The script reads no configuration.
  for (const fd of [LAUNCH_FD, CONFIG_FD]) child.stdio[fd]?.on("error", () => undefined);
  (child.stdio[LAUNCH_FD] as Writable).end(JSON.stringify(config));
  assert.ok(child.stdout !== null);
  return JSON.parse(await text(child.stdout)) as Record<string, string>;
}

function outside(script: string): Record<string, string> {
  const options = { encoding: "utf8" } as const;
  const { stdout, stderr } = spawnSync(process.execPath, ["--no-warnings", "-e", script], options);
  assert.notEqual(stdout, "", stderr);
  return JSON.parse(stdout) as Record<string, string>;
}

test("a control group that was named and is none ends the server's start, and lets go of its folder", async () => {
  const stateFolder = mkdtempSync(join(tmpdir(), "isola-walls-"));
  const cgroup = join(stateFolder, "no-group");
  const message = `using the control group ${cgroup}: ${cgroup} is no control group; wanted: a folder of cgroup2 that this user may write; name another by --cgroup, or none`;
  await assert.rejects(openFleet({ stateFolder, cgroup }), { code: "host-failed", message });
  const fleet = await openFleet({ stateFolder, cgroup: "none" });
  const { confinement } = await fleet.host();
  assert.match(confinement.find(({ name }) => name === "cgroup-v2")?.detail ?? "", /^switched off by --cgroup none; /);
  await fleet.close();
  rmSync(stateFolder, { recursive: true });
});

test("hostile native code in a VM's process reaches no other VM and nothing of the server", async () => {
  await using place = await testFleet();
  const { fleet, folder } = place;
  const kernel = join(folder, "kernel");
  writeFileSync(kernel, idleKernel());
  const disks = [{ name: "data", sizeBytes: "1M" }];
  const { id } = await fleet.create({ name: "victim", kernel, memoryBytes: "4M", disks, engine: "wasm" });
  const { pid } = await fleet.start("victim");
  const socketPath = join(folder, "isola.sock");
  using access = new AccessStore(join(folder, "access.db"));
  const server = await startServer({
    fleet,
    access,
    images: { list: async () => [] },
    metrics: new RequestMetrics(),
    socketPath,
    tcp: { host: "127.0.0.1", port: 0 },
    version: "0",
    log: () => undefined,
    shutDown: () => undefined,
  });
  try {
    const vm = join(folder, "vms", id);
    const home = join(folder, "vms", "hostile");
    mkdirSync(home);
    const script = attack({
      files: {
        "its disk": diskPath(join(folder, "disks", id), "data"),
        "its console": join(vm, VM_FILES.log),
        "the record": join(folder, "fleet.db"),
        "the tokens": join(folder, "access.db"),
      },
      sockets: { "its control socket": join(vm, VM_FILES.socket), "the server": socketPath },
      port: Number(new URL(server.url ?? "").port),
      pids: { "the VM": pid ?? 0, "the server": process.pid },
      writable: join(folder, "programs", "made"),
    });
    const free = outside(script);
    // What a host's own policy forbids to everyone proves nothing, and is no fault.
    const reached = Object.entries(free).filter(([name, how]) => how === "reached" || name.startsWith("trace"));
    assert.equal(reached.length, Object.keys(free).length, JSON.stringify(free));
    const held = await behindWalls(folder, home, script);
    assert.deepEqual(Object.keys(held).sort(), Object.keys(free).sort());
    const landlockVersion = processDoor().landlockVersion();
    // TCP is closed by Landlock from version 4 on; before, only the server's tokens guard it.
    const open = Object.entries(held).filter(
      ([name, how]) => how === "reached" && !(name === "connect by TCP" && landlockVersion < 4),
    );
    assert.deepEqual(open, []);
    assert.equal((await fleet.inspect("victim")).state, "running");
  } finally {
    await server.close();
  }
});
