/** The API over real sockets, with a fleet in memory behind it. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { lstatSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import { ApiError } from "./contract/problem.ts";
import { connectTo, type Connection } from "./node/connect.ts";
import { serveFakeFleet } from "./testing/served-fleet.ts";
import { RequestMetrics } from "./server/metrics.ts";
import { startServer } from "./server/server.ts";

const served = await serveFakeFleet({ patienceMs: 300 });
after(() => served.close());
const { local, fleet } = served;

/** The problem that `call` is refused with. */
async function refusalOf(call: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ApiError, String(error));
  return error;
}

/** Everything that a console printed until `wanted` was in it. */
function consoleUntil(connection: Connection, vm: string, wanted: RegExp, type?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const console = connection.openConsole(vm, {
      data: (bytes) => {
        text += Buffer.from(bytes).toString();
        if (!wanted.test(text)) return;
        console.close();
        resolve(text);
      },
      gap: () => undefined,
      end: (reason, error) => reject(error ?? new Error(reason)),
    });
    if (type !== undefined) console.write(Buffer.from(type));
  });
}

test("the screen is looked at and keys are pressed by those who may", async () => {
  const { api } = local;
  await api.createVm({ body: { name: "vga", image: "debian" } });
  assert.deepEqual(await api.getScreen({ vm: "vga" }), { screen: null });
  const off = await refusalOf(api.pressKeys({ vm: "vga", body: { keys: ["a"] } }));
  assert.deepEqual([off.problem.status, off.code], [409, "illegal-transition"]);
  await api.startVm({ vm: "vga" });
  await api.pressKeys({ vm: "vga", body: { text: "top\r" } });
  assert.deepEqual((await api.getScreen({ vm: "vga" })).screen?.lines, ["typed: top\r"]);
  for (const body of [
    {},
    { text: "" },
    { text: "a".repeat(257) },
    { keys: ["f13"] },
    { keys: [] },
    { text: "a", keys: ["a"] },
  ]) {
    assert.equal((await refusalOf(api.pressKeys({ vm: "vga", body: body as never }))).problem.status, 422);
  }
  const reader = served.as({ scope: "read" });
  assert.equal((await reader.api.getScreen({ vm: "vga" })).screen?.columns, 80);
  const refused = await refusalOf(reader.api.pressKeys({ vm: "vga", body: { keys: ["a"] } }));
  assert.equal(refused.problem.status, 403);
  await api.removeVm({ vm: "vga", query: { force: true } });
});

test("two VMs are created, started, seen, typed to and removed", async () => {
  const { api } = local;
  const created = await api.createVm({ body: { name: "one", image: "debian", memoryBytes: "128M" } });
  assert.equal(created.state, "stopped");
  assert.equal(created.spec.memoryBytes, 128 * 2 ** 20);
  await api.createVm({ body: { name: "two", image: "debian" } });
  for (const vm of ["one", "two"]) assert.equal((await api.startVm({ vm })).state, "running");
  assert.deepEqual(
    (await api.listVms()).map(({ name, state }) => [name, state]),
    [
      ["one", "running"],
      ["two", "running"],
    ],
  );
  assert.equal(await consoleUntil(local, "one", /hello/, "hello"), "booting one\r\nhello");
  // A second watcher is given what was printed before it came.
  const [first, second] = await Promise.all([
    consoleUntil(local, "one", /again/, "again"),
    consoleUntil(local, "one", /again/),
  ]);
  assert.equal(first, second);
  assert.equal((await api.renameVm({ vm: "two", body: { name: "zwei" } })).name, "zwei");
  assert.equal((await api.pauseVm({ vm: "zwei" })).state, "paused");
  assert.equal((await api.resumeVm({ vm: "zwei" })).state, "running");
  assert.equal((await api.stopVm({ vm: "zwei", query: { graceSeconds: 1 } })).state, "stopped");
  assert.equal(await api.removeVm({ vm: "zwei" }), undefined);
  assert.equal((await refusalOf(api.getVm({ vm: "zwei" }))).status, 404);
  await api.removeVm({ vm: "one", query: { force: true } });
});

test("refusals are problem details with a stable code and a line for a person", async () => {
  const { api } = local;
  await api.createVm({ body: { name: "held", image: "debian" } });
  const cases: [Promise<unknown>, number, string][] = [
    [api.createVm({ body: { name: "a/b", image: "debian" } }), 422, "invalid-spec"],
    [api.createVm({ body: { name: "held", image: "debian" } }), 409, "name-taken"],
    [api.createVm({ body: { name: "x", image: "debian", memoryBytes: "1P" } }), 422, "invalid-spec"],
    [api.createVm({ body: { name: "x", image: "debian", memoryBytes: -1 } }), 422, "invalid-spec"],
    [api.createVm({ body: { name: "x" } }), 422, "invalid-spec"],
    [api.createVm({ body: [] as never }), 422, "invalid-spec"],
    [api.getVm({ vm: "../../etc/passwd" }), 400, "request-invalid"],
    [api.getVm({ vm: "none" }), 404, "not-found"],
    [api.pauseVm({ vm: "held" }), 409, "illegal-transition"],
    [api.updateVm({ vm: "held", body: { frob: 1 } as never }), 422, "invalid-spec"],
    [api.listEvents({ query: { after: "x" } }), 400, "request-invalid"],
    [api.listVms({ query: { frob: "x" } as never }), 400, "request-invalid"],
    [api.createVm({ query: { template: "none" }, body: { name: "x" } }), 404, "not-found"],
    [api.revokeToken({ name: "none" }), 404, "not-found"],
  ];
  for (const [call, status, code] of cases) {
    const { problem } = await refusalOf(call);
    assert.deepEqual([problem.status, problem.code, problem.type], [status, code, `urn:isola:problem:${code}`]);
    assert.match(problem.detail, /^[^\n]+$/);
  }
  const { problem } = await refusalOf(api.updateVm({ vm: "held", body: { cpu: { shares: 1 } } }));
  assert.match(problem.detail, /cannot use body cpu\/shares: 1: /);
  for (const name of ["a", "b"]) await api.createVm({ body: { name, image: "debian", memoryBytes: "3900M" } });
  const short = await refusalOf(api.createVm({ body: { name: "c", image: "debian", memoryBytes: "1G" } }));
  assert.deepEqual([short.status, short.code], [409, "no-resources"]);
  const { holders } = short.problem["details"] as { holders: { name: string }[] };
  assert.deepEqual(
    holders.map(({ name }) => name),
    ["held", "a", "b"],
  );
  for (const vm of ["held", "a", "b"]) await api.removeVm({ vm });
});

test("an unforeseen failure tells the caller nothing but where the log tells of it", async () => {
  fleet.bug = new Error("secret internals");
  const { problem } = await refusalOf(local.api.listVms());
  fleet.bug = undefined;
  assert.equal(problem.code, "internal");
  assert.doesNotMatch(JSON.stringify(problem), /secret/);
  assert.ok(served.logged.some((line) => line.includes("secret internals")));
});

test("long operations answer at once and are followed to their end", async () => {
  const { api } = local;
  await api.createVm({ body: { name: "slow", image: "debian" } });
  fleet.operationMs = 100;
  const begun = await api.beginOperation({ body: { kind: "start", vm: "slow" } });
  assert.equal(begun.state, "running");
  const fractions: (number | null)[] = [];
  for await (const { progress } of await api.followOperation({ id: begun.id })) fractions.push(progress.fraction);
  fleet.operationMs = 0;
  assert.deepEqual(fractions, [0, 0.5, 1]);
  assert.equal((await api.getOperation({ id: begun.id })).state, "done");
  assert.equal((await refusalOf(api.beginOperation({ body: { kind: "resume", vm: "none" } }))).code, "not-found");
  await api.removeVm({ vm: "slow", query: { force: true } });
});

test("events come in order, kept ones first, and a stream is let go when its reader leaves", async () => {
  const { api } = local;
  const before = await api.listEvents();
  const last = before.at(-1)?.sequence ?? 0;
  await api.createVm({ body: { name: "told", image: "debian" } });
  const kinds: string[] = [];
  for await (const event of await api.followEvents({ query: { after: last } })) {
    kinds.push(event.kind);
    if (kinds.length === 1) await api.startVm({ vm: "told" });
    if (event.kind === "vm.state") break;
  }
  assert.deepEqual(kinds, ["vm.created", "operation", "vm.state"]);
  while (fleet.subscribers > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  await api.removeVm({ vm: "told", query: { force: true } });
});

test("a log is the console's text; followed, it goes on until the VM ends", async () => {
  const { api } = local;
  const vm = await api.createVm({ body: { name: "log", image: "debian" } });
  await api.startVm({ vm: "log" });
  assert.equal(await new Response(await api.getVmLog({ vm: "log" })).text(), "booting log\r\n");
  assert.equal(await new Response(await api.getVmLog({ vm: "log", query: { tailBytes: 5 } })).text(), "log\r\n");
  const followed = new Response(await api.getVmLog({ vm: "log", query: { follow: true } })).text();
  while (fleet.watchers(vm.id) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  fleet.print("log", "more\r\n");
  await api.killVm({ vm: "log" });
  assert.equal(await followed, "booting log\r\nmore\r\n");
  await api.removeVm({ vm: "log" });
});

test("metrics are in Prometheus' form and hold the VMs' figures", async () => {
  await local.api.createVm({ body: { name: "m", image: "debian", memoryBytes: "64M" } });
  const text = await new Response(await local.api.getMetrics()).text();
  assert.match(text, /^isola_vm_memory_bytes\{vm="m",project="default",kind="asked"\} 67108864$/m);
  assert.match(text, /^isola_http_requests_total\{operation="createVm",status="201"\} \d+$/m);
  for (const line of text.trimEnd().split("\n")) {
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-+.\dInfe]+)$/);
  }
  await local.api.removeVm({ vm: "m" });
});

test("the Unix socket is its owner's alone; a leftover is replaced, a living one and other files are not", async () => {
  const path = join(served.folder, "isola.sock");
  assert.equal(lstatSync(path).mode & 0o777, 0o600);
  const options = {
    fleet,
    access: served.access,
    images: { list: async () => [] },
    version: "0",
    metrics: new RequestMetrics(),
    shutDown: () => undefined,
    log: () => undefined,
  };
  await assert.rejects(
    startServer({ ...options, socketPath: path }),
    /a server answers there; wanted: `isola down` first/,
  );
  const file = join(served.folder, "file");
  writeFileSync(file, "");
  await assert.rejects(startServer({ ...options, socketPath: file }), /a file that is no socket/);
  await assert.rejects(
    startServer({ ...options, socketPath: join(served.folder, "x".repeat(108)) }),
    /wanted: at most 107/,
  );
  await assert.rejects(startServer({ ...options, socketPath: join(file, "sock") }), /cannot listen on/);
  const leftover = join(served.folder, "leftover");
  const script = `require("net").createServer().listen(${JSON.stringify(leftover)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", script]);
  assert.ok(lstatSync(leftover).isSocket());
  const second = await startServer({ ...options, socketPath: leftover });
  const again = connectTo({ socketPath: leftover });
  assert.equal((await again.api.getHealth()).status, "ok");
  again.close();
  await second.close();
  const [host = "", port = ""] = served.url.replace("http://", "").split(":");
  await assert.rejects(startServer({ ...options, tcp: { host, port: Number(port) } }), /another program listens there/);
  const nobody = connectTo({ socketPath: join(served.folder, "nobody") });
  await assert.rejects(
    nobody.api.listVms(),
    /cannot reach the server at .*: no server has been started; wanted: .*isola up/,
  );
});

test("a body of 1 GiB is refused before it is read, with or without its length told", async () => {
  const [host = "", port = ""] = served.url.replace("http://", "").split(":");
  const { secret } = served.as({ scope: "operate" });
  for (const length of ["content-length: 1073741824", "transfer-encoding: chunked"]) {
    const socket = connect({ host, port: Number(port) });
    socket.on("error", () => undefined);
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.write(
      `POST /api/v1/vms HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${secret}\r\ncontent-type: application/json\r\n${length}\r\n\r\n`,
    );
    const chunk = Buffer.alloc(65_536, 0x20);
    const framed = length.startsWith("transfer")
      ? Buffer.concat([Buffer.from("10000\r\n"), chunk, Buffer.from("\r\n")])
      : chunk;
    let sent = 0;
    while (!socket.destroyed && sent < 2 ** 30) {
      sent += chunk.length;
      if (!socket.write(framed))
        await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.match(answer, /^HTTP\/1\.1 413 /);
    assert.match(answer, /"code":"body-too-large"/);
    assert.ok(sent < 2 ** 27, `${sent} bytes went out before the connection was closed`);
  }
});

test("a watcher that never reads is closed, and another one goes on undisturbed", async () => {
  const { api } = local;
  const vm = await api.createVm({ body: { name: "flood", image: "debian" } });
  await api.startVm({ vm: "flood" });
  const [host = "", port = ""] = served.url.replace("http://", "").split(":");
  const { secret } = served.as({ scope: "read" });
  const deaf = connect({ host, port: Number(port) });
  deaf.on("error", () => undefined);
  deaf.write(
    `GET /api/v1/vms/flood/console HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${Buffer.alloc(16).toString("base64")}\r\nsec-websocket-protocol: isola.console.v1, isola.token.${secret}\r\n\r\n`,
  );
  deaf.pause();
  let got = 0;
  const watcher = local.openConsole("flood", {
    data: (bytes) => (got += bytes.length),
    gap: () => undefined,
    end: () => undefined,
  });
  while (fleet.watchers(vm.id) < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  const chunk = Buffer.alloc(65_536, 0x2e);
  const total = 16 * 2 ** 20;
  for (let sent = 0; sent < total; sent += chunk.length) fleet.print("flood", chunk);
  while (fleet.watchers(vm.id) > 1 || got < total) await new Promise((resolve) => setTimeout(resolve, 10));
  watcher.close();
  deaf.destroy();
  await api.removeVm({ vm: "flood", query: { force: true } });
});
