/** The commands on a server, each as a person calls it, over a fleet in memory and real sockets. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { connectTo } from "../../api/node/connect.ts";
import { serveFakeFleet } from "../../api/testing/served-fleet.ts";
import type { CliHost, Outcome } from "../host.ts";
import { runProgram } from "../program.ts";
import { describeError } from "../report.ts";
import { FakeImages } from "../testing/fake-images.ts";
import { parseExpiry, parseProcessors } from "./arrange-commands.ts";
import { tailStart } from "./console-command.ts";
import { parseListen } from "./up-command.ts";
import { parseDisk } from "./vm-options.ts";

const MAIN = fileURLToPath(new URL("../testing/remote-main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "isola-remote-"));
const served = await serveFakeFleet();
after(async () => {
  await served.close();
  rmSync(folder, { recursive: true });
});

interface Ran {
  readonly outcome: Outcome | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly error: unknown;
}

function drain(stream: PassThrough): string {
  const chunks: Buffer[] = [];
  for (let chunk: Buffer | null = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Runs a command in this process, against the served fleet. */
async function run(args: readonly string[], input = ""): Promise<Ran> {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  streams.stdin.end(input);
  const host: CliHost = {
    streams: streams as unknown as CliHost["streams"],
    version: "0.0.0",
    restoreVm: () => {
      throw new Error("no VM of this process is restored");
    },
    createVm: () => {
      throw new Error("no guest here");
    },
    chooseEngine: () => ({ engine: "wasm" }),
    openStore: () => new FakeImages(),
    serve: () => Promise.reject(new Error("no server here")),
  };
  let outcome: Outcome | undefined;
  let error: unknown;
  try {
    const alone = ["schema", "completion", "up"].includes(args[0] ?? "");
    outcome = await runProgram([...args, ...(alone ? [] : ["--server", `unix:${served.server.socketPath}`])], host);
  } catch (thrown) {
    error = thrown;
  }
  return { outcome, error, stdout: drain(streams.stdout), stderr: drain(streams.stderr) };
}

/** What a command that must succeed prints. */
async function out(...args: string[]): Promise<string> {
  const { stdout, error, stderr, outcome } = await run(args);
  assert.equal(error, undefined, describeError(error, true));
  assert.equal(outcome, 0, stderr);
  return stdout;
}

test("create, start, ps, logs, pause, resume, stop, rename, update, rm", async () => {
  assert.equal(
    await out(
      "create",
      "debian",
      "--memory",
      "64M",
      "--shares",
      "512",
      "--cap",
      "50",
      "--disk",
      "size=1G",
      "--cpu",
      "max",
    ),
    "debian\n",
  );
  assert.equal(await out("create", "debian", "--start"), "debian-2\n");
  assert.equal(await out("create", "memtest86+", "--name", "mt"), "mt\n");
  assert.equal(await out("start", "debian", "mt"), "debian\nmt\n");
  const [header = "", ...rows] = (await out("ps")).trimEnd().split("\n");
  assert.match(header, /^NAME +STATE +ENGINE +IMAGE +MEMORY +CPU +CAP +SHARES +DISK +UP +PROJECT$/);
  assert.deepEqual(
    rows.map((row) => row.split(/ +/).slice(0, 4)),
    [
      ["debian", "running", "wasm", "debian"],
      ["debian-2", "running", "wasm", "debian"],
      ["mt", "running", "wasm", "memtest86+"],
    ],
  );
  assert.match(rows[0] ?? "", /64M +0\.0% +50% +512 +0\/1G|64M .*50% +512/);
  assert.equal(await out("logs", "debian"), "booting debian\r\n");
  assert.equal(await out("pause", "debian"), "debian\n");
  assert.equal(JSON.parse(await out("inspect", "debian", "--json"))[0].state, "paused");
  assert.equal(await out("resume", "debian"), "debian\n");
  assert.equal(await out("reset", "debian"), "debian\n");
  assert.equal(await out("rename", "debian-2", "two"), "two\n");
  await out("update", "two", "--cap", "30", "--shares", "100");
  assert.equal(JSON.parse(await out("inspect", "two", "--json"))[0].spec.cpu.capPercent, 30);
  await out("update", "two", "--no-cap");
  assert.equal(JSON.parse(await out("inspect", "two", "--json"))[0].spec.cpu.capPercent, null);
  assert.equal(await out("stop", "two", "--time", "1"), "two\n");
  assert.equal(await out("ps", "-q"), "debian\nmt\n");
  assert.equal(await out("ps", "-aq"), "debian\ntwo\nmt\n");
  assert.match(await out("top", "--no-stream"), /^CPU +\[#+ +\]/m);
  assert.match(await out("events", "--no-follow"), /vm\.created +debian: /);
  assert.equal(await out("kill", "mt"), "mt\n");
  assert.equal(await out("rm", "-f", "debian", "two", "mt", "nothing"), "debian\ntwo\nmt\n");
  assert.deepEqual(JSON.parse(await out("ps", "-a", "--json")), []);
});

test("screen shows what a VM's VGA shows, keys presses its keyboard's", async () => {
  await out("create", "debian", "--name", "vga");
  assert.match((await run(["screen", "vga"])).stderr, /^isola: vga is off, or shows graphics\n$/);
  const off = await run(["keys", "vga", "f1"]);
  assert.match(describeError(off.error, false), /vga has no keyboard/);
  await out("start", "vga");
  await out("keys", "vga", "ctrl-alt-delete", "F1");
  assert.equal(await out("screen", "vga"), "typed: ctrl-alt-delete F1\n");
  await out("keys", "vga", "--text", "x".repeat(300));
  assert.deepEqual(JSON.parse(await out("screen", "vga", "--json")).lines, [`typed: ${"x".repeat(44)}`]);
  for (const [words, wanted] of [
    [["keys", "vga"], /no keys; wanted: names of keys, or --text/],
    [["keys", "vga", "hyper-x"], /keys\/0: "hyper-x": no such key; wanted: a character, enter, esc/],
    [["screen", "-i", "vga"], /no terminal/],
  ] as const) {
    assert.match(describeError((await run(words)).error, false), wanted);
  }
  await out("rm", "-f", "vga");
});

test("a failure with one VM does not keep the others from their turn", async () => {
  await out("create", "debian", "--name", "a");
  const { outcome, stdout, stderr } = await run(["start", "none", "a"]);
  assert.deepEqual([outcome, stdout], [1, "a\n"]);
  assert.match(stderr, /^isola: there is no VM none\n$/);
  const { error } = await run(["start", "none"]);
  assert.equal(describeError(error, false), "isola: there is no VM none");
  await out("rm", "-f", "a");
});

test("wrong values are refused before the server hears of them", async () => {
  const cases: [string[], RegExp][] = [
    [["create"], /nothing to boot; wanted: an IMAGE/],
    [["create", "debian", "--memory", "12Q"], /--memory 12Q: not a size/],
    [["create", "debian", "--disk", "1G"], /--disk 1G: 1G is unknown; wanted: \[name=NAME,\]size=SIZE/],
    [["create", "debian", "--disk", "name=x"], /no size/],
    [["create", "debian", "--shares", "many"], /--shares many: not a number/],
    [["stop", "a", "--time", "-1"], /--time -1: not a time/],
    [["logs", "a", "--tail", "x"], /--tail x: not a number of lines/],
    [["console", "a", "--replay", "1e9"], /--replay 1e9/],
    [["update", "a"], /nothing to change/],
    [["apply"], /no file; wanted: -f/],
    [["schema", "x"], /no such schema; wanted: vms, openapi/],
    [["completion", "tcsh"], /no such shell; wanted: bash, zsh, fish/],
    [["token", "create", "x", "--scope", "root"], /no such scope; wanted: read, operate, admin/],
    [["token", "create", "x", "--expires", "soon"], /--expires soon: not a time/],
    [["pool", "set", "x", "one"], /processors one: not a list/],
    [["project", "set", "x", "--vms", "-1"], /--vms -1: not a number/],
    [["up", "--listen", "nowhere"], /--listen nowhere: not an address/],
    [["up", "--tls-cert", "x"], /go together/],
  ];
  for (const [args, wanted] of cases) {
    const { error, stdout } = await run(args);
    assert.match(describeError(error, false), wanted, args.join(" "));
    assert.equal((error as { code?: unknown }).code, "usage", args.join(" "));
    assert.equal(stdout, "");
  }
});

test("apply brings the server to the file, twice changes nothing, and export writes such a file", async () => {
  const path = join(folder, "vms.yaml");
  const file = `
version: 1
projects: { shop: { vms: 4, memoryBytes: 2G } }
templates: { small: { spec: { image: debian, memoryBytes: 96M, cpu: { shares: 256 } } } }
vms:
  - { name: web, template: small, project: shop, cpu: { capPercent: 50 } }
  - { name: db, image: debian, state: stopped, disks: [{ name: data, sizeBytes: 1G }] }
`;
  writeFileSync(path, file);
  const dry = await out("apply", "-f", path, "--dry-run");
  assert.match(
    dry,
    /would make the project shop\nwould make the template small\nwould create web\nwould start web\nwould create db\n/,
  );
  assert.deepEqual(JSON.parse(await out("ps", "-a", "--json")), []);
  await out("apply", "-f", path);
  const [web] = JSON.parse(await out("inspect", "web", "--json"));
  assert.deepEqual(
    [web.state, web.project, web.spec.memoryBytes, web.spec.cpu.shares, web.spec.cpu.capPercent],
    ["running", "shop", 96 * 2 ** 20, 256, 50],
  );
  assert.deepEqual(JSON.parse(await out("apply", "-f", path, "--json")).steps, []);

  const exported = await out("export");
  assert.equal(parse(exported).vms[0].memoryBytes, "96M");
  const again = await run(["apply", "-f", "-", "--json"], exported);
  assert.deepEqual(JSON.parse(again.stdout).steps, [], "what is exported is what is there");

  // A live change acts at once; another one takes the VM down and up.
  writeFileSync(path, file.replace("capPercent: 50", "capPercent: 60"));
  assert.equal(await out("apply", "-f", path), "change web: cpu\n");
  writeFileSync(path, file.replace("capPercent: 50", "capPercent: 60").replace("96M", "128M"));
  assert.match(await out("apply", "-f", path), /stop web, to change memoryBytes\nchange web: memoryBytes\nstart web\n/);
  writeFileSync(path, "version: 1\nprojects: { shop: {}, default: {} }\n");
  assert.match(await out("apply", "-f", path, "--prune"), /remove web and its disks\nremove db and its disks\n/);
  assert.deepEqual(JSON.parse(await out("ps", "-a", "--json")), []);

  const wrong: [string, RegExp][] = [
    ["version: 2\n", /version: /],
    ["version: 1\nvms: [{ name: a/b, image: x }]\n", /vms\/0\/name: wanted: 1 to 63/],
    ["version: 1\nvms: [{ name: a, image: x }, { name: a, image: x }]\n", /vms: wanted: names that differ/],
    ["version: 1\nvms: [{ name: a, frob: 1 }]\n", /vms\/0: /],
    ["{", /cannot apply/],
    ["a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n", /alias/],
    ["version: 1\nvms: [{ name: a, template: none }]\n", /there is no template none/],
  ];
  for (const [text, why] of wrong) {
    writeFileSync(path, text);
    const { error } = await run(["apply", "-f", path]);
    assert.match(describeError(error, false), why, text);
  }
});

test("projects, templates, pools, tokens and the audit log", async () => {
  await out("project", "set", "p", "--vms", "2", "--memory", "1G");
  await out("project", "set", "p", "--memory", "none");
  assert.match(await out("project", "list"), /^p +0\/2 +0\/- /m);
  await out("template", "set", "small", "debian", "--memory", "96M");
  assert.equal(await out("create", "--template", "small", "--name", "t"), "t\n");
  assert.equal(JSON.parse(await out("inspect", "t", "--json"))[0].spec.memoryBytes, 96 * 2 ** 20);
  await out("rm", "t");
  await out("template", "rm", "small");
  await out("pool", "set", "one", "1", "--cores", "0.5");
  assert.match(await out("pool", "list"), /^one +1 +0\.5$/m);
  await out("pool", "rm", "one");
  const secret = (await out("token", "create", "ci", "--scope", "read", "--project", "p", "--expires", "1h")).trim();
  assert.match(secret, /^isola_[0-9a-f]{12}_[\w-]{43}$/);
  assert.match(await out("token", "list"), /^ci +read +p +20/m);
  const over = connectTo({ url: served.url, token: secret });
  assert.equal((await over.api.getCaller()).who, "ci");
  over.close();
  assert.equal(await out("token", "revoke", "ci"), "ci\n");
  assert.match(await out("audit", "-n", "1"), /local +unix +revokeToken +\/api\/v1\/tokens\/ci +204/);
  await out("project", "rm", "p");
});

test("schema, completion and doctor", async () => {
  const schema = JSON.parse(await out("schema"));
  assert.ok(schema.properties.vms.items.properties.memoryBytes !== undefined);
  const script = (await run(["completion", "bash"])).stdout;
  // What bash itself completes with it.
  const complete = (words: string): string[] => {
    const ask = `${script}\nCOMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _isola; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return spawnSync("bash", ["-c", ask], { encoding: "utf8" }).stdout.trim().split("\n");
  };
  assert.ok(complete("isola st").includes("start"));
  assert.deepEqual(complete("isola token rev"), ["revoke"]);
  assert.ok(complete("isola create --mem").includes("--memory"));
  for (const shell of ["zsh", "fish"]) assert.match((await run(["completion", shell])).stdout, /isola/);
  const findings = JSON.parse((await run(["doctor", "--json"])).stdout) as { name: string; state: string }[];
  assert.ok(findings.some(({ name }) => name === "wall landlock"));
  assert.ok(findings.every(({ state }) => ["good", "weak", "missing"].includes(state)));
});

test("small parsers", () => {
  assert.deepEqual(parseListen("7070"), { host: "127.0.0.1", port: 7070 });
  assert.deepEqual(parseListen("[::1]:0"), { host: "::1", port: 0 });
  assert.deepEqual(parseListen("host:1"), { host: "host", port: 1 });
  assert.equal(parseListen("none"), undefined);
  assert.throws(() => parseListen("host:99999"), /not an address/);
  assert.deepEqual(parseProcessors("0-2,5"), [0, 1, 2, 5]);
  assert.equal(parseExpiry("1d", 0), "1970-01-02T00:00:00.000Z");
  assert.deepEqual(parseDisk("name=a,size=1G,readonly", 0), { name: "a", sizeBytes: 2 ** 30, readonly: true });
  assert.deepEqual(parseDisk("size=1G,bps=10M,iops=500", 1), {
    name: "disk1",
    sizeBytes: 2 ** 30,
    bytesPerSecond: 10 * 2 ** 20,
    requestsPerSecond: 500,
  });
  const text = Buffer.from("a\nb\nc\n");
  assert.deepEqual(
    [0, 1, 2, 3, 9].map((lines) => text.subarray(tailStart(text, lines)).toString()),
    ["", "c\n", "b\nc\n", "a\nb\nc\n", "a\nb\nc\n"],
  );
});

function start(...args: string[]): ChildProcess {
  const environment = { ...process.env, ISOLA_STATE: join(folder, "state") };
  return spawn(process.execPath, [MAIN, ...args], { stdio: "pipe", env: environment });
}

async function ended(child: ChildProcess): Promise<{ status: number | null; stdout: string; stderr: string }> {
  let [stdout, stderr] = ["", ""];
  child.stdout?.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr?.on("data", (chunk) => (stderr += String(chunk)));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, stdout, stderr };
}

test("up serves until Ctrl-C, with the demonstration; console types and leaves; down ends all", async () => {
  const up = start("up", "--listen", "127.0.0.1:0");
  const whole = ended(up);
  let said = "";
  up.stdout?.on("data", (chunk) => (said += String(chunk)));
  while (!said.includes("Ctrl-C ends the server")) await once(up.stdout ?? up, "data");
  assert.match(said, /dashboard {2}http:\/\/127\.0\.0\.1:\d+\/#token=isola_/);
  const [, page = ""] = /(http:\S+\/)#/.exec(said) ?? [];
  assert.equal((await fetch(page)).headers.get("content-type"), "text/html; charset=utf-8");
  assert.equal((await ended(start("ps", "-q"))).stdout, "debian\ndebian32\nmemtest\n");

  const console = start("console", "debian");
  const typed = ended(console);
  console.stdin?.write("hello\n");
  let echoed = "";
  console.stdout?.on("data", (chunk) => (echoed += String(chunk)));
  while (!echoed.includes("hello")) await once(console.stdout ?? console, "data");
  const second = await ended(start("up", "--no-demo"));
  assert.equal(second.status, 0);
  assert.match(second.stderr, /a server is up already/);
  up.kill("SIGINT");
  const { status, stderr } = await whole;
  assert.equal(status, 0);
  assert.match(stderr, /the server has ended; debian, debian32, memtest go on/);
  const lost = await typed;
  assert.equal(lost.status, 1);
  assert.match(lost.stderr, /the console broke off: the server is ending/);
  const unreachable = await ended(start("ps"));
  assert.equal(unreachable.status, 1);
  assert.match(unreachable.stderr, /^isola: cannot reach the server at [^\n]*isola up[^\n]*\n$/);

  // In the background, and ended by a command.
  const detached = await ended(start("up", "-d", "--listen", "none", "--json"));
  assert.equal(detached.status, 0, detached.stderr);
  assert.equal(JSON.parse(detached.stdout).url, null);
  const down = await ended(start("down"));
  assert.deepEqual([down.status, down.stdout], [0, ""]);
  assert.match(down.stderr, /stopped 3 VMs and the server/);
});
