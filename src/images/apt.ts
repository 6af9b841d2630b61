/**
 * Debian packages through the host's apt, as any user and without a trace on the host. [apt.conf(5), apt-get(8)]
 *
 * apt gets a state, a cache and a dpkg status of its own in a directory of the caller's, so it needs no root, takes none
 * of the host's locks, and sees no installed packages. Sources, keys and proxies are the host's, used as they are. apt
 * verifies the chain of signatures and hashes; the hash of each package is checked once more here.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { IsolaError } from "../base/errors.ts";
import type { ProgressListener } from "./progress.ts";

/** What a person can do without apt or without a network; ends the messages of this file. */
const WAY_OUT = "give a kernel of your own by --kernel and --initrd";

/** apt's output is for a message at the most; a program gone wild must not fill memory. */
const OUTPUT_LIMIT = 16 * 1024 * 1024;

export interface PackageRecord {
  readonly name: string;
  readonly version: string;
  /** Size of the .deb in bytes. */
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Names of `Pre-Depends` and `Depends`, first alternatives only, without versions. */
  readonly depends: readonly string[];
}

interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Fractions that apt reports on its status descriptor: `dlstatus:ITEM:PERCENT:TEXT`. [apt README.progress-reporting] */
function watchStatus(stream: Readable, listener: (fraction: number) => void): void {
  let line = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const lines = (line + text).split("\n");
    line = (lines.pop() ?? "").slice(-4096);
    for (const one of lines) {
      const percent = Number(/^dlstatus:[^:]*:([0-9.]+):/.exec(one)?.[1]);
      if (percent >= 0 && percent <= 100) listener(percent / 100);
    }
  });
}

function collect(child: ChildProcess): Promise<CommandResult> {
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      if (output[name].length < OUTPUT_LIMIT) output[name] += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ status: status ?? -1, ...output }));
  });
}

/** The line of apt's complaints that says most: a network failure rather than what follows from it. */
export function tellingLine(complaints: string): string {
  const lines = complaints.split("\n").map((line) => line.trim());
  const complaint = lines.filter((line) => /^(E|W|Err):? ?/.test(line) && line.length > 3);
  const cause = lines.find((line) =>
    /could not resolve|temporary failure|could not connect|unable to connect|connection (refused|timed out)|proxy/i.test(
      line,
    ),
  );
  const line = cause ?? complaint[0] ?? lines.findLast((one) => one !== "") ?? "no reason given";
  return line.replace(/^[EW]: /, "").slice(0, 300);
}

/** Paragraphs of `apt-cache show`; only the fields that are needed. */
export function parsePackageRecord(text: string): PackageRecord | undefined {
  const paragraph = text.split(/\n\s*\n/)[0] ?? "";
  const field = (name: string) => new RegExp(`^${name}: *(.+)$`, "m").exec(paragraph)?.[1]?.trim();
  const [name, version, size, sha256] = [field("Package"), field("Version"), field("Size"), field("SHA256")];
  if (name === undefined || version === undefined || size === undefined || !/^[0-9]+$/.test(size)) return undefined;
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) return undefined;
  const depends = [field("Pre-Depends"), field("Depends")]
    .flatMap((list) => list?.split(",") ?? [])
    .map((item) => item.split("|")[0]?.trim().split(/[ (:]/)[0] ?? "")
    .filter((item) => item !== "");
  return { name, version, sizeBytes: Number(size), sha256, depends };
}

export interface AptOptions {
  /** A directory of the caller's, made if missing; everything of apt's goes there. */
  readonly directory: string;
  /** Debian's name of the guest's architecture, which need not be the host's. */
  readonly architecture?: string;
  readonly progress?: ProgressListener;
  /** Program names, for tests. */
  readonly programs?: { readonly get: string; readonly cache: string };
}

export class Apt {
  readonly #directory: string;
  readonly #architecture: string;
  readonly #progress: ProgressListener;
  readonly #programs: { readonly get: string; readonly cache: string };
  #updateComplaint: string | undefined;

  private constructor(options: AptOptions) {
    this.#directory = options.directory;
    this.#architecture = options.architecture ?? "amd64";
    this.#progress = options.progress ?? (() => undefined);
    this.#programs = options.programs ?? { get: "apt-get", cache: "apt-cache" };
  }

  /** Prepares the private state and fetches the indexes. @throws IsolaError `apt-missing` */
  static async create(options: AptOptions): Promise<Apt> {
    const apt = new Apt(options);
    await apt.#prepare();
    await apt.#update();
    return apt;
  }

  async #prepare(): Promise<void> {
    for (const path of ["state/lists/partial", "cache/archives/partial", "packages"]) {
      await mkdir(join(this.#directory, path), { recursive: true });
    }
    // An empty list of installed packages: the host's packages are none of the guest's.
    await writeFile(join(this.#directory, "status"), "");
    // Hooks of the host's configuration act on the host's own cache; they must not run for this one.
    const hooks = ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"];
    await writeFile(join(this.#directory, "apt.conf"), hooks.map((hook) => `#clear ${hook};\n`).join(""));
  }

  async #run(program: string, args: readonly string[], watch?: (fraction: number) => void): Promise<CommandResult> {
    const settings = {
      "Dir::State": join(this.#directory, "state"),
      "Dir::State::status": join(this.#directory, "status"),
      "Dir::Cache": join(this.#directory, "cache"),
      "APT::Architecture": this.#architecture,
      "APT::Architectures": this.#architecture,
      // Root would otherwise hand the download to the user _apt, who may not enter this directory.
      "APT::Sandbox::User": "",
      "Debug::NoLocking": "1",
      "Acquire::Languages": "none",
      "Acquire::Retries": "1",
      "Acquire::http::Timeout": "30",
      "Acquire::https::Timeout": "30",
      ...(watch === undefined ? {} : { "APT::Status-Fd": "3" }),
    };
    const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    const child = spawn(program, ["-q", "-c", join(this.#directory, "apt.conf"), ...options, ...args], {
      cwd: join(this.#directory, "packages"),
      // Messages are searched for English words.
      env: { ...process.env, LC_ALL: "C.UTF-8", LANGUAGE: "" },
      stdio: ["ignore", "pipe", "pipe", watch === undefined ? "ignore" : "pipe"],
    });
    if (watch !== undefined) watchStatus(child.stdio[3] as Readable, watch);
    try {
      return await collect(child);
    } catch (cause) {
      throw new IsolaError({
        code: "apt-missing",
        message: `fetching Debian packages: this host has no working ${program}; ${WAY_OUT}`,
        cause,
      });
    }
  }

  /** One index that fails is no reason to stop: another may hold the package. The complaint is kept for that case. */
  async #update(): Promise<void> {
    const step = "fetching package indexes";
    this.#progress({ step });
    const result = await this.#run(this.#programs.get, ["update"], (fraction) => this.#progress({ step, fraction }));
    if (result.status !== 0 || /^(W|E|Err):/m.test(result.stderr)) {
      this.#updateComplaint = tellingLine(`${result.stderr}\n${result.stdout}`);
    }
  }

  /** The candidate version of a package. @throws IsolaError `apt-update-failed`, `package-unknown` */
  async show(name: string): Promise<PackageRecord> {
    const result = await this.#run(this.#programs.cache, ["show", "--no-all-versions", name]);
    const record = result.status === 0 ? parsePackageRecord(result.stdout) : undefined;
    if (record !== undefined) return record;
    if (this.#updateComplaint !== undefined) {
      throw new IsolaError({
        code: "apt-update-failed",
        message:
          `fetching package ${name}: apt could not fetch its indexes (${this.#updateComplaint}); ` +
          `check the network and the host's apt sources, or ${WAY_OUT}`,
      });
    }
    throw new IsolaError({
      code: "package-unknown",
      message:
        `fetching package ${name}: the host's apt sources have no such package; ` +
        `add a source of Debian 12 or later, or ${WAY_OUT}`,
    });
  }

  /** The candidate versions of those packages that there are, by name; apt is asked once. */
  async showAll(names: readonly string[]): Promise<Map<string, PackageRecord>> {
    const { stdout } = await this.#run(this.#programs.cache, ["show", "--no-all-versions", ...names]);
    const records = stdout.split(/\n\s*\n/).map(parsePackageRecord);
    return new Map(records.flatMap((record) => (record === undefined ? [] : [[record.name, record]])));
  }

  /** The versioned package behind a metapackage: its first dependency that `pattern` matches. */
  async resolve(metapackage: string, pattern: RegExp): Promise<PackageRecord> {
    const record = await this.show(metapackage);
    const dependency = record.depends.find((name) => pattern.test(name));
    if (dependency === undefined) {
      throw new IsolaError({
        code: "package-unknown",
        message:
          `fetching package ${metapackage}: its dependencies (${record.depends.join(", ")}) ` +
          `name none like ${pattern.source}; ${WAY_OUT}`,
      });
    }
    return this.show(dependency);
  }

  /** Downloads one package, at the second try if need be, and checks it. Gives the bytes of the .deb. */
  async download(record: PackageRecord): Promise<Uint8Array> {
    let failure = "";
    for (let attempt = 1; attempt <= 2; attempt++) {
      const outcome = await this.#downloadOnce(record);
      if (typeof outcome !== "string") return outcome;
      failure = outcome;
    }
    throw new IsolaError({
      code: "package-download-failed",
      message: `downloading package ${record.name} ${record.version}: ${failure}; try again, or ${WAY_OUT}`,
    });
  }

  /**
   * Downloads packages by one run of apt, checks them, and gives their bytes by name. What that run did not bring is
   * tried once more alone. @throws IsolaError `package-download-failed`
   */
  async downloadAll(records: readonly PackageRecord[]): Promise<Map<string, Uint8Array>> {
    const directory = await this.#emptyPackages();
    const progress = {
      step: `downloading ${records.length} packages`,
      totalBytes: records.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    };
    const wanted = records.map(({ name, version }) => `${name}=${version}`);
    await this.#run(this.#programs.get, ["download", ...wanted], (fraction) =>
      this.#progress({ ...progress, fraction }),
    );
    const byHash = new Map<string, Uint8Array>();
    for (const file of await readdir(directory)) {
      const bytes = await readFile(join(directory, file));
      byHash.set(createHash("sha256").update(bytes).digest("hex"), bytes);
    }
    const packages = new Map<string, Uint8Array>();
    for (const record of records) {
      packages.set(record.name, byHash.get(record.sha256) ?? (await this.download(record)));
    }
    return packages;
  }

  async #emptyPackages(): Promise<string> {
    const directory = join(this.#directory, "packages");
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    return directory;
  }

  /** The package, or why not, for a person. */
  async #downloadOnce(record: PackageRecord): Promise<Uint8Array | string> {
    // apt names the file after name, epoch and version in its own encoding; an empty directory makes it the only one.
    const directory = await this.#emptyPackages();
    const progress = { step: `downloading ${record.name}`, totalBytes: record.sizeBytes };
    const result = await this.#run(this.#programs.get, ["download", `${record.name}=${record.version}`], (fraction) =>
      this.#progress({ ...progress, fraction }),
    );
    if (result.status !== 0) return tellingLine(`${result.stderr}\n${result.stdout}`);
    const file = (await readdir(directory)).find((name) => name.endsWith(".deb"));
    if (file === undefined) return "apt left no file";
    const bytes = await readFile(join(directory, file));
    await rm(join(directory, file));
    if (bytes.length !== record.sizeBytes) return `the file has ${bytes.length} bytes, wanted ${record.sizeBytes}`;
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    if (sha256 !== record.sha256) return `its SHA-256 is ${sha256}, wanted ${record.sha256}`;
    this.#progress({ ...progress, fraction: 1 });
    return bytes;
  }
}
