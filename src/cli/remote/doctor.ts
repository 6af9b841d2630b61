/** `isola doctor`: what this host has and lacks for isola, and how to mend what is missing. */

import { accessSync, constants, existsSync, mkdirSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { formatSize } from "../../base/size.ts";
import type { HostInventory } from "../../api/contract/api.ts";
import { kvmReport } from "../../fleet/engine-choice.ts";
import { kvmProcessor } from "../../fleet/kvm-engine.ts";
import { defaultImageDirectory } from "../../images/store.ts";
import { EXIT_STATUS } from "../exit-status.ts";
import type { Outcome } from "../host.ts";
import type { Define } from "./commands.ts";
import type { Remote } from "./remote.ts";
import { defaultSocketPath, defaultStateFolder } from "./state-folder.ts";

export interface Finding {
  readonly name: string;
  /** "missing": something does not work without it; "weak": it works, but less well. */
  readonly state: "good" | "weak" | "missing";
  readonly found: string;
  /** What to do about it. */
  readonly mend?: string;
}

const NEEDED_DISK_BYTES = 2 ** 30;
const NEEDED_MEMORY_BYTES = 2 ** 29;
const WANTED_NODE = 26;
const SOCKET_LIMIT_BYTES = 107;

const round = (bytes: number): string => formatSize(Math.floor(bytes / 2 ** 20) * 2 ** 20);

function runtime(): Finding {
  const version = process.versions.node;
  const found = `Node ${version} on ${process.platform}-${process.arch}`;
  if (Number(version.split(".")[0]) >= WANTED_NODE) return { name: "runtime", state: "good", found };
  return { name: "runtime", state: "missing", found, mend: `run \`npm ci\`, which brings Node ${WANTED_NODE}` };
}

function processors(): Finding {
  const count = availableParallelism();
  const found = `${count} of ${cpus()[0]?.model.trim() ?? process.arch}`;
  if (count > 1) return { name: "processors", state: "good", found };
  return { name: "processors", state: "weak", found, mend: "VMs and the server share one; give this machine another" };
}

function memory(): Finding {
  const found = `${round(totalmem())}, ${round(freemem())} free`;
  if (totalmem() >= NEEDED_MEMORY_BYTES) return { name: "memory", state: "good", found };
  return {
    name: "memory",
    state: "weak",
    found,
    mend: `a guest needs about 100M; wanted: ${formatSize(NEEDED_MEMORY_BYTES)}`,
  };
}

function kvm(): Finding {
  if (!existsSync("/dev/kvm")) {
    return {
      name: "kvm",
      state: "weak",
      found: "no /dev/kvm",
      mend: "guests run on the portable engine; for KVM: load kvm_intel or kvm_amd, and allow it in the firmware",
    };
  }
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return {
      name: "kvm",
      state: "weak",
      found: "/dev/kvm is there, and this user may not open it",
      mend: "sudo usermod -aG kvm $USER, then log in again",
    };
  }
  const { usable, reason, maxCpus, ring0PerSecond } = kvmReport();
  if (!usable) {
    return {
      name: "kvm",
      state: "weak",
      found: reason ?? "/dev/kvm does not work",
      mend: "guests run on the portable engine; for KVM: a host with hardware virtualization",
    };
  }
  const { model, tscHz } = kvmProcessor();
  const millions = Math.round((ring0PerSecond ?? 0) / 1e6);
  const found = `ring 0 at ${millions} million instructions a second, up to ${maxCpus} processors a VM`;
  return {
    name: "kvm",
    state: "good",
    found: `${found}; guests of other engines move here with --cpu ${model} --tsc ${tscHz}`,
  };
}

/** The first folder on the way to `path` that is there. */
function existing(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : existing(dirname(path));
}

function folder(name: string, path: string, variable: string): Finding {
  const change = `choose another by ${variable}`;
  try {
    mkdirSync(path, { recursive: true, mode: 0o711 });
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { name, state: "missing", found: `${path}: ${reason}`, mend: `make it a folder of yours, or ${change}` };
  }
  const { bavail, bsize } = statfsSync(existing(path));
  const found = `${path}, ${round(bavail * bsize)} free`;
  if (bavail * bsize >= NEEDED_DISK_BYTES) return { name, state: "good", found };
  return { name, state: "weak", found, mend: `free ${formatSize(NEEDED_DISK_BYTES)}, or ${change}` };
}

function inPath(program: string): string | undefined {
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((at) => join(at, program))
    .find((path) => existsSync(path));
}

function apt(): Finding {
  const path = inPath("apt-get");
  if (path !== undefined) return { name: "apt", state: "good", found: path };
  return {
    name: "apt",
    state: "weak",
    found: "no apt-get",
    mend: "images are made of Debian's packages: use a Debian or Ubuntu host, or bring kernels of your own by --kernel and --initrd",
  };
}

async function images(remote: Remote): Promise<Finding> {
  const all = await remote.host.openStore().list();
  const cached = all.filter(({ cachedBytes }) => cachedBytes !== undefined).map(({ name }) => name);
  if (cached.length > 0) return { name: "images", state: "good", found: `${cached.join(", ")} in the cache` };
  return {
    name: "images",
    state: "weak",
    found: "none in the cache",
    mend: "the first start of a VM fetches its image; to do it now: isola image pull debian",
  };
}

function socketPath(): Finding | undefined {
  const path = defaultSocketPath(process.env);
  if (Buffer.byteLength(path) <= SOCKET_LIMIT_BYTES) return undefined;
  return {
    name: "socket",
    state: "missing",
    found: `${path} is longer than ${SOCKET_LIMIT_BYTES} bytes`,
    mend: "choose a shorter folder by ISOLA_STATE",
  };
}

/** What the server says of the walls around its VMs, and of the engines. */
function walls({ confinement, engines }: HostInventory): Finding[] {
  return [
    ...confinement.map(
      ({ name, enforced, detail }): Finding => ({
        name: `wall ${name}`,
        state: enforced ? "good" : "weak",
        found: detail,
        ...(enforced ? {} : { mend: MEND_WALL[name] ?? "see ARCHITECTURE.md, on isolation" }),
      }),
    ),
    ...engines.map(
      ({ name, available, reason }): Finding => ({
        name: `engine ${name}`,
        state: available ? "good" : "weak",
        found: reason === "" ? "available" : reason,
      }),
    ),
  ];
}

const MEND_WALL: Readonly<Partial<Record<HostInventory["confinement"][number]["name"], string>>> = {
  landlock: "use a kernel of 5.13 or later, with landlock in /sys/kernel/security/lsm",
  "own-uid": "run the server as root: it then gives each VM a user of its own",
  "cgroup-v2": "run it under systemd with Delegate=yes, or name a group of its own by isola up --cgroup; see README.md",
  "cpu-affinity": "let the server use the processors of the pool",
};

async function server(remote: Remote): Promise<Finding[]> {
  try {
    const [{ version }, host] = await Promise.all([remote.api.getHealth(), remote.api.getHost()]);
    const found = `version ${version} answers at ${remote.connection.name}`;
    const same = version === remote.host.version;
    const finding: Finding = same
      ? { name: "server", state: "good", found }
      : {
          name: "server",
          state: "weak",
          found,
          mend: `this is version ${remote.host.version}: isola down, then isola up`,
        };
    return [finding, ...walls(host)];
  } catch (error) {
    const found = error instanceof Error ? (error.message.split(";")[0] ?? "") : String(error);
    return [{ name: "server", state: "weak", found, mend: "isola up; it also tells which walls it puts around VMs" }];
  }
}

async function doctor(remote: Remote): Promise<Outcome> {
  const findings: Finding[] = [
    runtime(),
    processors(),
    memory(),
    kvm(),
    apt(),
    folder("cache", defaultImageDirectory(), "XDG_CACHE_HOME"),
    folder("state", defaultStateFolder(process.env), "ISOLA_STATE"),
    await images(remote),
    ...[socketPath()].filter((finding) => finding !== undefined),
    ...(await server(remote)),
  ];
  if (remote.json) remote.printJson(findings);
  else {
    const marks = { good: "ok", weak: "weak", missing: "MISSING" } as const;
    const width = Math.max(...findings.map(({ name }) => name.length));
    for (const { name, state, found, mend } of findings) {
      remote.print(`${marks[state].padEnd(7)}  ${name.padEnd(width)}  ${found}`);
      if (mend !== undefined) remote.print(`${" ".repeat(11 + width)}to mend: ${mend}`);
    }
  }
  return findings.some(({ state }) => state === "missing") ? EXIT_STATUS.hostError.status : EXIT_STATUS.ok.status;
}

export function addDoctorCommand(define: Define): void {
  define("doctor", "what this host has and lacks for isola, and how to mend it")
    .addHelpText(
      "after",
      "\nIts status is 1 if something is missing.\n\nExamples:\n  isola doctor\n  isola doctor --json",
    )
    .action(define.run((remote) => doctor(remote)));
}
