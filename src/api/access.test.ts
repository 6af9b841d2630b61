/** Who may do what: every operation with every scope, projects, tokens' life, browsers, the audit log. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { apiOperations } from "./contract/api.ts";
import { requestTarget } from "./contract/client.ts";
import { type Operation, SCOPES } from "./contract/operation.ts";
import { ApiError } from "./contract/problem.ts";
import { AccessStore } from "./server/access-store.ts";
import { serveFakeFleet } from "./testing/served-fleet.ts";

const served = await serveFakeFleet();
after(() => served.close());
const { local, url } = served;

function call(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${url}${path}`, init);
}

const bearer = (secret: string): Record<string, string> => ({ authorization: `Bearer ${secret}` });

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "";
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error));
    return error.code;
  }
}

test("every operation refuses no token, a wrong one, and every scope below its own", async () => {
  const secrets = Object.fromEntries(SCOPES.map((scope) => [scope, served.as({ scope }).secret]));
  let tried = 0;
  for (const [name, operation] of Object.entries<Operation>(apiOperations)) {
    const path = requestTarget(operation.path, { vm: "none", name: "none", id: "0123456789abcdef" });
    const body = operation.body === undefined ? {} : { body: "{}", headers: { "content-type": "application/json" } };
    const ask = async (headers: Record<string, string>): Promise<number> => {
      const aborter = new AbortController();
      const init = { method: operation.method.toUpperCase(), signal: aborter.signal, ...body };
      const { status } = await call(path, { ...init, headers: { ...body.headers, ...headers } });
      aborter.abort();
      return status;
    };
    if (operation.scope === "none") {
      assert.equal(await ask({}), 200, name);
      continue;
    }
    assert.equal(await ask({}), 401, name);
    assert.equal(await ask(bearer(`isola_${"0".repeat(12)}_${"A".repeat(43)}`)), 401, name);
    assert.equal(await ask({ authorization: "Basic eDp5" }), 401, name);
    for (const scope of SCOPES) {
      // Operations that end the server are not tried with the right to.
      const enough: boolean = SCOPES.indexOf(scope) >= SCOPES.indexOf(operation.scope);
      if (enough && name === "shutDown") continue;
      const status = await ask(bearer(secrets[scope] ?? ""));
      assert.equal(status === 403, !enough, `${name} with ${scope}: ${status}`);
      assert.notEqual(status, 401, name);
      tried += 1;
    }
  }
  assert.ok(tried > 100);
  const unauthenticated = await call("/api/v1/vms");
  assert.equal(unauthenticated.headers.get("www-authenticate"), 'Bearer realm="isola"');
  assert.equal(unauthenticated.headers.get("content-type"), "application/problem+json");
});

test("a token of a project sees and moves that project's VMs alone, and hears of no others", async () => {
  await local.api.putProject({ name: "shop", body: {} });
  await local.api.createVm({ body: { name: "theirs", image: "debian", memoryBytes: "3900M" } });
  const shop = served.as({ scope: "operate", projects: ["shop"] });
  const { api } = shop;
  const own = await api.createVm({ body: { name: "own", image: "debian" } });
  assert.equal(own.project, "shop");
  assert.deepEqual(
    (await api.listVms()).map(({ name }) => name),
    ["own"],
  );
  const there = await local.api.getVm({ vm: "theirs" });
  const words: string[] = [];
  for (const vm of ["theirs", there.id, "nothing"]) {
    const calls = [
      api.getVm({ vm }),
      api.startVm({ vm }),
      api.removeVm({ vm }),
      api.getVmLog({ vm }),
      api.getVmSamples({ vm }),
      api.renameVm({ vm, body: { name: "mine" } }),
      api.updateVm({ vm, body: { description: "x" } }),
      api.beginOperation({ body: { kind: "kill", vm } }),
    ];
    for (const refused of calls) {
      const error: unknown = await refused.catch((thrown: unknown) => thrown);
      assert.ok(error instanceof ApiError);
      assert.equal(error.code, "not-found");
      words.push(error.message.replace(vm, "VM"));
    }
  }
  assert.equal(new Set(words).size, 1, "whether it is there cannot be told from the words");

  assert.equal(await codeOf(api.createVm({ body: { name: "x", image: "debian", project: "default" } })), "forbidden");
  assert.equal(await codeOf(api.updateVm({ vm: "own", body: { project: "default" } })), "forbidden");
  assert.equal(await codeOf(api.createVm({ body: { name: "x", kernel: "/etc/shadow" } })), "forbidden");
  assert.equal(await codeOf(api.updateVm({ vm: "own", body: { initrds: [{ path: "/etc/shadow" }] } })), "forbidden");
  const admin = served.as({ scope: "admin", projects: ["shop"] });
  assert.equal(await codeOf(admin.api.createVm({ body: { name: "x", kernel: "/etc/shadow" } })), "forbidden");
  for (const refused of [
    admin.api.createToken({ body: { name: "more", scope: "admin" } }),
    admin.api.listTokens(),
    admin.api.listAudit(),
    admin.api.putProject({ name: "shop", body: { vms: 99 } }),
    admin.api.removePool({ name: "default" }),
    admin.api.putTemplate({ name: "t", body: { spec: {} } }),
    admin.api.shutDown(),
  ]) {
    assert.equal(await codeOf(refused), "forbidden");
  }

  const short: unknown = await api
    .createVm({ body: { name: "big", image: "debian", memoryBytes: "3966M" } })
    .then(() => api.createVm({ body: { name: "big2", image: "debian", memoryBytes: "3966M" } }))
    .catch((thrown: unknown) => thrown);
  assert.ok(short instanceof ApiError);
  assert.equal(short.code, "no-resources");
  assert.match(JSON.stringify(short.problem), /other projects/);
  assert.doesNotMatch(JSON.stringify(short.problem), /theirs/);

  const metrics = await new Response(await api.getMetrics()).text();
  assert.doesNotMatch(metrics, /theirs/);
  assert.doesNotMatch(JSON.stringify(await api.getHost()), /theirs/);
  const events = await api.listEvents();
  assert.ok(events.length > 0);
  assert.ok(events.every(({ project }) => project === "shop"));
  assert.deepEqual(
    (await api.listProjects()).map(({ name }) => name),
    ["shop"],
  );
  const ended = Promise.withResolvers<Error | undefined>();
  shop.openConsole("theirs", {
    data: () => undefined,
    gap: () => undefined,
    end: (_reason, error) => ended.resolve(error),
  });
  assert.equal(((await ended.promise) as ApiError).code, "not-found");
  for (const vm of ["theirs", "own", "big"]) await local.api.removeVm({ vm });
});

test("tokens are kept as hashes, expire, are revoked at once, and outlive the server", async () => {
  const made = await local.api.createToken({ body: { name: "made", scope: "read" } });
  const headers = bearer(made.secret);
  assert.equal((await call("/api/v1/caller", { headers })).status, 200);
  assert.equal(await codeOf(local.api.createToken({ body: { name: "made", scope: "read" } })), "token-exists");
  for (const file of ["access.db", "access.db-wal"]) {
    const text = readFileSync(join(served.folder, file)).toString("latin1");
    assert.ok(!text.includes(made.secret.split("_")[2] ?? "?"), file);
  }
  const listed = (await local.api.listTokens()).find(({ name }) => name === "made");
  assert.ok(listed?.used !== null);
  assert.doesNotMatch(JSON.stringify(listed), /hash|secret/);
  // One changed character of the secret is another secret.
  const changed = made.secret.slice(0, -1) + (made.secret.endsWith("A") ? "B" : "A");
  assert.equal((await call("/api/v1/caller", { headers: bearer(changed) })).status, 401);
  await local.api.revokeToken({ name: "made" });
  assert.equal((await call("/api/v1/caller", { headers })).status, 401);

  let now = Date.parse("2030-01-01T00:00:00Z");
  const path = join(served.folder, "other.db");
  {
    using store = new AccessStore(path, () => now);
    const { secret } = store.createToken({
      name: "a",
      scope: "read",
      projects: ["p"],
      expires: "2030-01-02T00:00:00Z",
    });
    now += 86_399_000;
    using again = new AccessStore(path, () => now);
    assert.deepEqual(again.authenticate(secret)?.projects, ["p"]);
    now += 1000;
    assert.equal(again.authenticate(secret), undefined);
    for (const text of ["", "isola_", "isola__", `${secret}x`, secret.toUpperCase(), "\0"]) {
      assert.equal(again.authenticate(text), undefined);
    }
  }
  assert.throws(() => new AccessStore(join(served.folder, "no", "folder", "a.db")), /cannot open .*wanted: a folder/);
});

test("typing needs more than watching", async () => {
  await local.api.createVm({ body: { name: "typed", image: "debian" } });
  await local.api.startVm({ vm: "typed" });
  const ended = Promise.withResolvers<string>();
  const console = served.as({ scope: "read" }).openConsole("typed", {
    data: () => console.write(Buffer.from("x")),
    gap: () => undefined,
    end: (reason) => ended.resolve(reason),
  });
  assert.match(await ended.promise, /typing needs the scope operate/);
  assert.equal(await new Response(await local.api.getVmLog({ vm: "typed" })).text(), "booting typed\r\n");
  await local.api.removeVm({ vm: "typed", query: { force: true } });
});

test("another site's page is refused, and pages of the server's own cannot be framed or run foreign scripts", async () => {
  const { secret } = served.as({ scope: "admin" });
  for (const origin of ["https://evil.example", "null", "http://127.0.0.1:1", "x"]) {
    const response = await call("/api/v1/vms", { headers: { ...bearer(secret), origin } });
    assert.equal(response.status, 403, origin);
    assert.equal(((await response.json()) as { code: string }).code, "origin-refused");
    assert.equal(response.headers.get("access-control-allow-origin"), null);
  }
  assert.equal((await call("/api/v1/vms", { headers: { ...bearer(secret), origin: url } })).status, 200);
  const form = await call("/api/v1/tokens", {
    method: "POST",
    body: '{"name":"x","scope":"admin"}',
    headers: { ...bearer(secret), "content-type": "text/plain" },
  });
  assert.equal(form.status, 415);
  const { headers } = await call("/healthz");
  assert.match(
    headers.get("content-security-policy") ?? "",
    /default-src 'none'.*script-src 'self';.*frame-ancestors 'none'/,
  );
  assert.equal(headers.get("x-content-type-options"), "nosniff");
  const socket = new WebSocket(`${url.replace("http", "ws")}/api/v1/vms/none/console`, [
    "isola.console.v1",
    `isola.token.${secret}`,
  ]);
  await assert.rejects(
    new Promise((_resolve, reject) => {
      socket.onerror = () => reject(new Error("refused"));
    }),
  );
});

test("the audit log says who did what, and what was refused for want of rights", async () => {
  const reader = served.as({ scope: "read", name: "reader" });
  const maker = served.as({ scope: "operate", name: "maker" });
  await maker.api.createVm({ body: { name: "audited", image: "debian" } });
  await codeOf(reader.api.startVm({ vm: "audited" }));
  await maker.api.removeVm({ vm: "audited" });
  const entries = (await local.api.listAudit({ query: { limit: 3 } })).reverse();
  assert.deepEqual(
    entries.map(({ who, operation, target, status, code }) => [who, operation, target, status, code]),
    [
      ["maker", "createVm", "/api/v1/vms", 201, null],
      ["reader", "startVm", "/api/v1/vms/audited/start", 403, "forbidden"],
      ["maker", "removeVm", "/api/v1/vms/audited", 204, null],
    ],
  );
  assert.ok(entries.every(({ address }) => address === "127.0.0.1"));
  const [newest] = await local.api.listAudit({ query: { limit: 1 } });
  const [older] = await local.api.listAudit({ query: { limit: 1, before: newest?.id ?? 0 } });
  assert.ok((older?.id ?? Infinity) < (newest?.id ?? 0));
});
