import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, test } from "node:test";
import type { VmOptions } from "../machine/vm-contract.ts";
import { EXIT_STATUS } from "./exit-status.ts";
import type { EngineChoice } from "../fleet/engine-choice.ts";
import type { CliHost, Outcome } from "./host.ts";
import { runProgram } from "./program.ts";
import { describeError } from "./report.ts";
import { FakeImages } from "./testing/fake-images.ts";
import { FakeVm, restoreFakeVm } from "./testing/fake-vm.ts";

const directory = mkdtempSync(join(tmpdir(), "isola-cli-"));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, contents: string): string {
  const path = join(directory, name);
  writeFileSync(path, contents);
  return path;
}

interface Ran {
  readonly outcome: Outcome | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly error: unknown;
  /** The options of each VM that was made. */
  readonly vms: VmOptions[];
}

/** All that was written to the stream. */
function text(stream: PassThrough): string {
  const chunks: Buffer[] = [];
  for (let chunk: Buffer | null = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** What `auto` finds on the tests' host. */
let choice: EngineChoice = { engine: "wasm" };

async function run(...args: string[]): Promise<Ran> {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const vms: VmOptions[] = [];
  const host: CliHost = {
    streams: streams as unknown as CliHost["streams"],
    version: "1.2.3",
    createVm: (options) => {
      // A copy, since isola gives the memory of what it read back.
      vms.push(structuredClone(options));
      return new FakeVm(options);
    },
    chooseEngine: () => choice,
    restoreVm: restoreFakeVm,
    openStore: () => new FakeImages(),
    serve: () => Promise.reject(new Error("no server here")),
  };
  let outcome: Outcome | undefined;
  let error: unknown;
  try {
    outcome = await runProgram(args, host);
  } catch (thrown) {
    error = thrown;
  }
  return { outcome, error, vms, stdout: text(streams.stdout), stderr: text(streams.stderr) };
}

test("--cpu gives the model its canonical name", async () => {
  const kernel = file("cpu-kernel", "power-off");
  const { vms } = await run("run", "--kernel", kernel, "--cpu", "x86-64-v2,+sha_ni,+aes");
  assert.equal(vms[0]?.cpu, "x86-64-v2,+aes,+sha");
  assert.equal((await run("run", "--kernel", kernel)).vms[0]?.cpu, undefined);
  for (const [model, wanted] of [
    ["x86-64-v3", /^--cpu: CPU model "x86-64-v3": the engine lacks its avx/],
    ["x86-64-v2,+warp", /^--cpu: .*no feature "warp"; wanted: /],
  ] as const) {
    const { error, vms: none } = await run("run", "--kernel", kernel, "--cpu", model);
    assert.ok(error instanceof Error);
    assert.match(error.message, wanted);
    assert.equal(none.length, 0);
  }
});

test("a wrong command line is refused in one line that says what was found", async () => {
  const cases: [string[], RegExp][] = [
    [["frobnicate"], /unknown command 'frobnicate'/],
    [["--frob"], /unknown option '--frob'/],
    [["run", "--memori", "1G"], /unknown option '--memori' \(Did you mean --memory\?\)/],
    [["run", "a", "b"], /too many arguments/],
    [["run", "--kernel"], /'--kernel <FILE>' argument missing/],
    [["run", "--memory", "256"], /--memory 256: that is 256 bytes, too little/],
    [["run", "--memory", "-5M"], /--memory -5M: not a size/],
    [["run", "--memory", "1T"], /--memory 1T: more than the engine/],
    [["run", "--memory", "a\nb"], /--memory a b: not a size/],
    [["run", "--memory", "\x1b[2J"], /--memory \\x1b\[2J: not a size/],
    [["run", "--cpus", "0"], /--cpus 0: not a number of processors; wanted: 1/],
    [["run", "--cpus", "1.5"], /--cpus 1.5: not a number/],
    [["run", "--cpus", "255"], /--cpus 255: not a number of processors; wanted: 1 to 254/],
    [["run", "--engine", "qemu"], /--engine qemu: no such engine; wanted: auto, wasm, kvm/],
    [["run", "--name", "a b"], /--name a b: not a name/],
    [["run", "--trace", "all"], /--trace all: no such trace; wanted: unimplemented/],
    [["run", "echo", "--append", "x".repeat(2048)], /has 2062 bytes; wanted: at most 2047/],
    [["run", "echo", "--append", "a\nb"], /line break/],
    [["image"], /no command given; see isola image --help/],
    [["image", "pull"], /missing required argument 'IMAGE'/],
    [["image", "burn"], /unknown command 'burn'/],
  ];
  for (const [args, wanted] of cases) {
    const { error, stdout, vms } = await run(...args);
    const line = describeError(error, false);
    assert.match(line, wanted, args.join(" "));
    assert.match(line, /^isola: [^\p{Cc}]+$/u, args.join(" "));
    assert.equal((error as { code?: unknown }).code, "usage", args.join(" "));
    assert.equal(stdout, "");
    assert.equal(vms.length, 0);
  }
});

test("files that cannot be booted from are refused in one line", async () => {
  const empty = file("empty", "");
  const kernel = file("kernel", "print:x");
  const large = file("large", "");
  truncateSync(large, 3 * 2 ** 20);
  const huge = file("huge", "");
  truncateSync(huge, 2 ** 31 + 1);
  const cases: [string[], RegExp][] = [
    [["--kernel", join(directory, "none")], /cannot load the kernel .*none: there is no such file/],
    [["--kernel", directory], /is not a regular file/],
    [["--kernel", "/dev/zero"], /is not a regular file/],
    [["--kernel", join(kernel, "x")], /not a directory/],
    [["--kernel", empty], /cannot load the kernel .*empty: it is empty/],
    [["--kernel", huge], /it has 2.0G; wanted: at most 2G/],
    [["--kernel", kernel, "--initrd", join(directory, "none")], /cannot load the initrd .*none: there is no such file/],
    [["--kernel", kernel, "--initrd", large, "--memory", "2M"], /initrd .*: it has 3M; wanted: at most 2M/],
    [["nothing"], /image nothing/],
  ];
  for (const [args, wanted] of cases) {
    const { error, vms } = await run("run", ...args);
    const line = describeError(error, false);
    assert.match(line, wanted);
    assert.match(line, /^isola: cannot [^\n]+$/);
    assert.equal(vms.length, 0);
  }
});

test("a guest gets the kernel, the initrd, the memory and the command line that were asked for", async () => {
  const kernel = file("k", "print:x");
  const initrd = file("i", "disk");
  const contents = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString();

  const files = await run("run", "--kernel", kernel, "--initrd", initrd, "--memory", "1G", "--append", "quiet");
  assert.equal(files.outcome, 0);
  const [vm] = files.vms;
  assert.equal(vm?.memoryBytes, 2 ** 30);
  assert.equal(contents(vm?.kernel), "print:x");
  assert.deepEqual(
    vm?.modules?.map(({ bytes, commandLine }) => [contents(bytes), commandLine]),
    [["disk", ""]],
  );
  assert.equal(vm?.commandLine, "console=ttyS0 quiet");
  assert.equal(vm?.engine, "wasm");

  const console = await run("run", "--kernel", kernel, "--append", "a console=ttyS0,9600");
  assert.equal(console.vms[0]?.commandLine, "a console=ttyS0,9600");
  assert.deepEqual([console.vms[0]?.initrd, console.vms[0]?.modules], [undefined, undefined]);
  assert.equal(console.vms[0]?.memoryBytes, 256 * 2 ** 20);

  const mixed = await run("run", "echo", "--kernel", kernel, "--append", "single", "--trace", "unimplemented");
  assert.equal(mixed.vms[0]?.commandLine, "console=ttyS0 single");
  assert.equal(contents(mixed.vms[0]?.kernel), "print:x");
  assert.deepEqual(mixed.vms[0]?.trace, ["unimplemented"]);
});

test("each --initrd is a module, with the words after its file; a name with spaces that exists is a name", async () => {
  const kernel = file("k", "print:x");
  const [first, spaced] = [file("m", "one"), file("m two", "two")];
  const { vms, error } = await run("run", "--kernel", kernel, "--initrd", `${first} -a  b`, "--initrd", spaced);
  assert.equal(error, undefined);
  const modules = vms[0]?.modules?.map(({ bytes, commandLine }) => [Buffer.from(bytes).toString(), commandLine]);
  assert.deepEqual(modules, [
    ["one", "-a  b"],
    ["two", ""],
  ]);
  const replaced = await run("run", "echo", "--kernel", kernel, "--initrd", first);
  assert.equal(replaced.vms[0]?.initrd, undefined);
  assert.equal(replaced.vms[0]?.modules?.length, 1);
  const missing = await run("run", "--kernel", kernel, "--initrd", `${first}none words`);
  assert.match(describeError(missing.error, false), /cannot load the initrd .*mnone: there is no such file/);
});

test("auto takes the host's best engine, and says in one line why that is not KVM", async () => {
  const guest = ["run", "--kernel", file("k", "print:x")];
  try {
    choice = { engine: "wasm", reason: "a host\nof the test's" };
    const portable = await run(...guest);
    assert.deepEqual([portable.vms[0]?.engine, portable.vms[0]?.cpus], ["wasm", 1]);
    assert.equal(portable.stderr, "isola: on the portable engine, since a host of the test's\n");
    assert.equal((await run(...guest, "--engine", "wasm")).stderr, "");
    choice = { engine: "kvm" };
    const native = await run(...guest, "--cpus", "4");
    assert.deepEqual([native.vms[0]?.engine, native.vms[0]?.cpus], ["kvm", 4]);
    assert.equal(native.stderr, "");
  } finally {
    choice = { engine: "wasm" };
  }
});

test("every end of a guest has its own status and says why", async () => {
  const cases: [string, string[], number, RegExp][] = [
    ["print:bye", [], 0, /^$/],
    ["reset", ["--no-reboot"], EXIT_STATUS.guestReset.status, /^isola: the guest reset itself[^\n]*\n$/],
    ["triple-fault", [], EXIT_STATUS.tripleFault.status, /^isola: the guest ended in a triple fault: at RIP 0x1000\n$/],
    ["internal-error", [], EXIT_STATUS.engineError.status, /^isola: the engine failed: no handler\n$/],
    ["trace:vpaddd", [], 0, /^isola: vpaddd\n$/],
  ];
  for (const [script, flags, status, why] of cases) {
    const { outcome, stderr, error } = await run("run", "--kernel", file("k", script), ...flags);
    assert.equal(error, undefined);
    assert.equal(outcome, status, script);
    assert.match(stderr, why);
  }
  assert.equal(new Set(Object.values(EXIT_STATUS).map(({ status }) => status)).size, Object.keys(EXIT_STATUS).length);
});

test("a machine that refuses its kernel is an error of one line, and leaves no handlers behind", async () => {
  const before = process.listenerCount("SIGTERM");
  const { error } = await run("run", "--kernel", file("k", "refuse"));
  assert.match(describeError(error, false), /^isola: cannot load the kernel: not a kernel[^\n]*$/);
  assert.equal(process.listenerCount("SIGTERM"), before);
});

test("image list, pull and rm, for people and for programs", async () => {
  assert.equal(
    (await run("image", "list")).stdout,
    "IMAGE  CACHED       DESCRIPTION\necho   1K           the image echo\nlater  not fetched  the image later\n",
  );
  assert.deepEqual(JSON.parse((await run("image", "list", "--json")).stdout), [
    { name: "echo", description: "the image echo", minimumMemoryBytes: 4 * 2 ** 20, cachedBytes: 1024 },
    { name: "later", description: "the image later", minimumMemoryBytes: 4 * 2 ** 20 },
  ]);
  const pulled = await run("image", "pull", "later");
  assert.equal(pulled.stdout, "later: 1K in the cache\n");
  assert.equal(pulled.stderr, "isola: downloading later\n");
  assert.equal(JSON.parse((await run("image", "pull", "later", "--json")).stdout).cachedBytes, 1024);
  assert.equal((await run("image", "rm", "echo")).stdout, "echo: removed\n");
  assert.equal((await run("image", "rm", "later")).stderr, "isola: later is not in the cache\n");
  assert.deepEqual(JSON.parse((await run("image", "rm", "echo", "later", "--json")).stdout), { removed: ["echo"] });
  assert.match(describeError((await run("image", "rm", "none")).error, false), /^isola: .*none.*wanted: echo, later$/);
});

test("help shows examples and the table of exit statuses, and every command has its own", async () => {
  for (const args of [[], ["--help"], ["help"]]) {
    const { stdout, outcome, error } = await run(...args);
    assert.equal(error, undefined);
    assert.equal(outcome, 0);
    assert.match(stdout, /Examples:\n {2}isola up/);
    for (const { status, meaning } of Object.values(EXIT_STATUS))
      assert.ok(stdout.includes(`${status}      ${meaning}`));
  }
  for (const args of [["run"], ["image"], ["image", "list"], ["image", "pull"], ["image", "rm"]]) {
    const { stdout } = await run(...args, "--help");
    assert.match(stdout, /Examples:/, args.join(" "));
  }
  assert.equal((await run("--version")).stdout, "1.2.3\n");
});

test("an unexpected failure names itself in one line; the stack is for debugging", () => {
  const error = new TypeError("x is\nnot a function", { cause: new Error("deep") });
  assert.equal(
    describeError(error, false),
    "isola: unexpected failure: TypeError: x is not a function (ISOLA_DEBUG=1 shows where)",
  );
  assert.match(describeError(error, true), /program\.test\.ts[^]*Error: deep/);
});

test("files for fw_cfg come from texts and from files, with QEMU's doubled comma", async () => {
  const path = file("ignition", "from a file");
  const { outcome, vms } = await run(
    "run",
    "echo",
    "--fw-cfg",
    "name=opt/a,string=x,,y",
    "--fw-cfg",
    `opt/b,file=${path}`,
    "--kernel",
    file("end-now", "end"),
  );
  assert.equal(outcome, 0);
  const files = vms[0]?.fwCfg?.map(({ name, bytes }) => [name, new TextDecoder().decode(bytes)]);
  assert.deepEqual(files, [
    ["opt/a", "x,y"],
    ["opt/b", "from a file"],
  ]);
});

test("a value for isa-debug-exit is the exit status as QEMU has it", async () => {
  const ended = await run("run", "--kernel", file("exit", "debug-exit:21"), "--debug-exit");
  assert.equal(ended.outcome, 43);
  assert.deepEqual(ended.vms[0]?.debugExit, { base: 0x501, size: 2 });
  const placed = await run("run", "--kernel", file("exit", "debug-exit:0"), "--debug-exit=iobase=0xf4,iosize=0x04");
  assert.equal(placed.outcome, 1);
  assert.deepEqual(placed.vms[0]?.debugExit, { base: 0xf4, size: 4 });
});

test("wrong values for fw_cfg, debug exit and screen are refused", async () => {
  const wrong = [
    ["--smbios", "uuid=7"],
    ["--smbios", "colour=red"],
    ["--smbios", "serial="],
    ["--fw-cfg", "name=opt/a"],
    ["--fw-cfg", "name=opt/a,file=x,string=y"],
    ["--fw-cfg", "name=opt/a b,string=y"],
    ["--fw-cfg", `name=${"x".repeat(56)},string=y`],
    ["--fw-cfg", "name=etc/e820,string=y"],
    ["--fw-cfg", "string=y"],
    ["--fw-cfg", "name=opt/a,string=y,colour=red"],
    ["--debug-exit", "iobase=0x10000"],
    ["--debug-exit", "iobase=ten"],
    ["--debug-exit", "iosize=0"],
    ["--debug-exit", "debian"],
    ["--screen", "gtk"],
  ];
  for (const words of wrong) {
    const { error } = await run("run", ...words);
    assert.match(
      describeError(error, false),
      /^isola: --(fw-cfg|smbios|debug-exit|screen) .*wanted: /,
      words.join(" "),
    );
  }
});

test("--screen text types on the keyboard, and prints the last screen", async () => {
  const { outcome, stdout } = await run("run", "--kernel", file("screen", "print:serial"), "--screen", "text");
  assert.equal(outcome, 0);
  assert.equal(stdout, "keys\n");
});
