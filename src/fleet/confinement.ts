/**
 * The walls around a VM's process, as this host allows them: planned once, built by the launcher, shown by `inspect`.
 * The process boundary is what counts; Node's permissions are a second fence behind the kernel's.
 */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { LANDLOCK_FS, type LandlockRule, processDoor } from "../sys/confine.ts";
import type { Delegation } from "./cgroup-delegation.ts";
import type { Barrier } from "./contract.ts";
import { closedTo } from "./host-facts.ts";

/** VMs of a server that runs as root get users of their own from here: far from any that a host gives out. */
const FIRST_UID = 0x3000_0000;
const READ_AND_RUN = LANDLOCK_FS.execute | LANDLOCK_FS.readFile | LANDLOCK_FS.readDirectory;
const READ = LANDLOCK_FS.readFile | LANDLOCK_FS.readDirectory;

export interface Walls {
  readonly barriers: readonly Barrier[];
  /** Whether the launcher can run: it needs FFI. */
  readonly launcher: boolean;
  readonly landlock: readonly LandlockRule[] | null;
  /** Of the VM with this number; null: the server's own user. */
  uid(number: number): number | null;
  /** Flags of the VM's Node. */
  readonly nodeFlags: readonly string[];
}

/** Folder of isola's code: src, or dist. */
const CODE = dirname(dirname(fileURLToPath(import.meta.url)));

/** Changes when the code does: for what is derived from it. */
export function codeVersion(): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(CODE, { recursive: true, encoding: "utf8" }).sort()) {
    const { mtimeMs, size } = statSync(join(CODE, name));
    hash.update(`${name} ${size} ${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

/** What a VM's program reads besides itself: the packages which it uses; as a part of a package, itself. */
function codePaths(): string[] {
  const require = createRequire(import.meta.url);
  const packages = ["xz-decompress"].flatMap((name) => {
    for (const folder of require.resolve.paths(name) ?? []) {
      if (existsSync(join(folder, name))) return [join(folder, name)];
    }
    return [];
  });
  return import.meta.url.endsWith(".ts") ? packages : [CODE, join(dirname(CODE), "package.json"), ...packages];
}

function landlockRules(code: readonly string[]): LandlockRule[] {
  const libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
  return [
    ...[process.execPath, ...libraries].map((path) => ({ path, allow: READ_AND_RUN })),
    ...[...code, "/etc/ld.so.cache", "/dev/urandom"].map((path) => ({ path, allow: READ })),
    { path: "/dev/null", allow: LANDLOCK_FS.readFile | LANDLOCK_FS.writeFile },
  ];
}

/** `programs`: the folder of VMs' programs. */
export function planWalls(programs: string, delegation: Delegation): Walls {
  const code = [programs, ...codePaths()];
  const nodeFlags = [
    "--permission",
    ...code.map((path) => `--allow-fs-read=${path}`),
    "--allow-worker",
    "--allow-net",
    "--no-experimental-ffi",
    "--no-addons",
    "--disallow-code-generation-from-strings",
    "--disable-warning=SecurityWarning",
    "--disable-warning=ExperimentalWarning",
  ];
  const barriers: Barrier[] = [];
  const state = (name: Barrier["name"], enforced: boolean, detail: string): boolean => {
    barriers.push({ name, enforced, detail });
    return enforced;
  };
  let version = -1;
  let why = "";
  try {
    version = processDoor().landlockVersion();
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  const launcher = version >= 0;
  state("no-new-privileges", launcher, launcher ? "set before the VM's program is executed" : why);
  const landlock = state(
    "landlock",
    version > 0,
    version > 0
      ? `version ${version}: no file but isola's code and the system's libraries, no TCP${version >= 6 ? ", no signals outside" : ""}`
      : launcher
        ? "the host's kernel has none, or it is switched off (boot it with lsm=landlock,...)"
        : why,
  );
  const root = process.getuid?.() === 0;
  const closed = [process.execPath, ...code].map((path) => closedTo(path, 4)).find((path) => path !== undefined);
  const ownUid = state(
    "own-uid",
    launcher && root && closed === undefined,
    !root
      ? "the server does not run as root: its VMs share its user"
      : closed === undefined
        ? `one user for each VM, from ${FIRST_UID}`
        : `${closed} is closed to other users; open it, or install isola where all may read`,
  );
  state("node-permissions", true, "no files but isola's code, no processes, no native code");
  state("no-native-calls", true, "the portable engine's process has no FFI");
  state("cpu-affinity", launcher, launcher ? "bound to the processors of its pool" : why);
  if ("folder" in delegation) {
    state("cgroup-v2", true, `a group for each VM below ${delegation.folder}: ${delegation.controllers.join(", ")}`);
  } else {
    state("cgroup-v2", false, `${delegation.reason}; isola's own limiter holds budgets`);
  }
  return {
    barriers,
    launcher,
    landlock: landlock ? landlockRules(code) : null,
    uid: (number) => (ownUid ? FIRST_UID + number : null),
    nodeFlags,
  };
}

/** What a VM's process does that a wall would forbid. */
export interface Needs {
  /** Brings what it writes to the disk: Node's permissions know no right for that. */
  readonly writesDisks: boolean;
  /** Asks the kernel for what Node does not offer, as the engine kvm does. */
  readonly callsNatively: boolean;
}

/** The walls of one VM, in the group at `group`; the kernel's stand for each. */
export function wallsFor(walls: Walls, { writesDisks, callsNatively }: Needs, group?: string): Walls {
  const lost = new Map<Barrier["name"], string>();
  if (writesDisks) lost.set("node-permissions", "off for VMs with disks, since it forbids fsync");
  if (callsNatively) {
    lost.set("node-permissions", "off with the engine kvm, whose native calls pass it by");
    lost.set("no-native-calls", "the engine kvm makes them, on a descriptor of /dev/kvm that it was handed");
  }
  const permissions = lost.has("node-permissions");
  const isLost = (flag: string): boolean =>
    (permissions && /^--(permission|allow-)/.test(flag)) || (callsNatively && flag === "--no-experimental-ffi");
  return {
    ...walls,
    nodeFlags: walls.nodeFlags.filter((flag) => !isLost(flag)),
    barriers: walls.barriers.map((one) => {
      const why = lost.get(one.name);
      if (one.name === "cgroup-v2" && group !== undefined) return { ...one, detail: `in ${group}` };
      return why === undefined ? one : { ...one, enforced: false, detail: `${why}; the kernel's walls stand` };
    }),
  };
}
