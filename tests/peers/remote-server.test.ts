/**
 * A server reached over the network as its users reach it: TLS with a certificate that openssl made, tokens confined to
 * a project, a file applied to real VMs.
 */

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { echoProgram } from "../guests/echo-program.ts";

const ISOLA = join(import.meta.dirname, "../../bin/isola.js");
const folder = mkdtempSync(join(tmpdir(), "isola-remote-"));
const certificate = join(folder, "cert.pem");
const key = join(folder, "key.pem");
const kernel = join(folder, "echo");
const state = join(folder, "state");
const LOCAL = { ISOLA_SERVER: `unix:${join(state, "isola.sock")}` };
let server: ChildProcess;
let url = "";

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function isola(environment: Record<string, string>, args: readonly string[], input = ""): Promise<Ran> {
  const child = spawn(process.execPath, [ISOLA, ...args], { env: { ...process.env, ...environment } });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (stderr += String(chunk)));
  child.stdin.end(input);
  const [status] = (await once(child, "close")) as [number | null];
  return { status, stdout, stderr };
}

/** What a command prints that must succeed. */
async function out(environment: Record<string, string>, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await isola(environment, args);
  assert.equal(status, 0, stderr);
  return stdout;
}

before(async () => {
  const subject = ["-subj", "/CN=isola test", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", key, "-out", certificate];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...files, ...subject], {
    stdio: "ignore",
  });
  writeFileSync(kernel, echoProgram(0x501));
  const tls = ["--tls-cert", certificate, "--tls-key", key];
  server = spawn(process.execPath, [ISOLA, "up", "--no-demo", "--listen", "127.0.0.1:0", "--state", state, ...tls], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let told = "";
  for await (const chunk of server.stdout ?? []) {
    told += String(chunk);
    url = /dashboard +(https:\/\/127\.0\.0\.1:\d+)\//.exec(told)?.[1] ?? "";
    if (url !== "") break;
  }
  assert.notEqual(url, "", told);
});

after(async () => {
  await isola(LOCAL, ["down", "--time", "0"]);
  server.kill();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

test("openssl verifies the certificate; without it, or without a token, nothing is told", async () => {
  const address = url.replace("https://", "");
  const said = execFileSync("openssl", ["s_client", "-connect", address, "-CAfile", certificate, "-brief"], {
    input: "",
    encoding: "utf8",
    stdio: ["pipe", "pipe", "pipe"],
  });
  assert.doesNotMatch(said, /error/i);
  const stranger = await isola({ ISOLA_SERVER: url, ISOLA_TOKEN: "x" }, ["ps"]);
  assert.equal(stranger.status, 1);
  assert.match(stranger.stderr, /^isola: cannot reach the server at https:[^\n]*signed by itself; see --ca[^\n]*\n$/);
  const nobody = await isola({ ISOLA_SERVER: url }, ["ps", "--ca", certificate]);
  assert.equal(nobody.status, 1);
  assert.match(nobody.stderr, /^isola: [^\n]*token[^\n]*\n$/i);
  const plain = await isola({ ISOLA_SERVER: url.replace("https", "http") }, ["ps"]);
  assert.equal(plain.status, 1);
  assert.match(plain.stderr, /^isola: cannot reach the server[^\n]*\n$/);
});

test("a file is applied to real VMs, a project's token reaches its own only, and its quota holds", async () => {
  const path = join(folder, "vms.yaml");
  writeFileSync(
    path,
    `version: 1
projects: { shop: { vms: 2, memoryBytes: 256M } }
templates: { echo: { spec: { kernel: ${kernel}, memoryBytes: 16M } } }
vms:
  - { name: web, template: echo, project: shop }
  - { name: mine, template: echo, state: stopped }
`,
  );
  await out(LOCAL, "apply", "-f", path);
  assert.deepEqual(JSON.parse(await out(LOCAL, "apply", "-f", path, "--json")).steps, []);

  const token = (await out(LOCAL, "token", "create", "shop", "--scope", "operate", "--project", "shop")).trim();
  const shop = { ISOLA_SERVER: url, ISOLA_TOKEN: token };
  const ca = ["--ca", certificate];
  assert.equal(await out(shop, "ps", "-aq", ...ca), "web\n");
  assert.match((await isola(shop, ["start", "mine", ...ca])).stderr, /^isola: there is no VM mine/);

  // Its console, over wss: the program prints ">", and sends back what is typed.
  const console = spawn(process.execPath, [ISOLA, "console", "web", ...ca], {
    env: { ...process.env, ...shop },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let echoed = "";
  console.stdin.write("over the wire");
  for await (const chunk of console.stdout) {
    echoed += String(chunk);
    if (echoed.includes("over the wire")) break;
  }
  console.kill("SIGINT");
  await once(console, "exit");
  assert.match(echoed, />over the wire/);

  const create = ["create", "--template", "echo", "--project", "shop", ...ca, "--name"];
  assert.equal(await out(shop, ...create, "second"), "second\n");
  const third = await isola(shop, [...create, "third"]);
  assert.equal(third.status, 1);
  assert.match(third.stderr, /^isola: [^\n]*project shop[^\n]*\n$/);
  assert.match((await isola(shop, ["token", "list", ...ca])).stderr, /admin/);

  // What is exported brings an empty server to the same.
  const exported = await out(LOCAL, "export");
  writeFileSync(path, "version: 1\nprojects: { shop: {}, default: {} }\n");
  await out(LOCAL, "apply", "-f", path, "--prune");
  assert.equal(await out(LOCAL, "ps", "-aq"), "");
  assert.equal((await isola(LOCAL, ["apply", "-f", "-"], exported)).status, 0);
  assert.deepEqual((await out(LOCAL, "ps", "-aq")).trim().split("\n").sort(), ["mine", "second", "web"]);
  const web = JSON.parse(await out(LOCAL, "inspect", "web", "--json"))[0];
  assert.deepEqual([web.state, web.project], ["running", "shop"]);
});
