/**
 * Where this server may make control groups: in a folder that somebody named, or in its own group where that is
 * delegated to it. Nothing of the host's outside that folder is changed.
 * [linux Documentation/admin-guide/cgroup-v2.rst; systemd CGROUP_DELEGATION]
 */

import { accessSync, constants, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { extendedAttribute } from "../sys/extended-attribute.ts";

/** What a VM is held by; each that the folder has is used. */
const WANTED = ["cpu", "memory", "pids"] as const;
/** The server's own place: a group that gives controllers to groups below it may hold no process itself. */
const LEAF = "server";

export type Delegation =
  | { readonly folder: string; readonly controllers: readonly string[] }
  /** Why there is none, for a person. */
  | { readonly reason: string };

/** What is asked of the host. */
export interface CgroupView {
  /** Where cgroup2 is mounted. */
  readonly mount: string | undefined;
  /** This process's group, from there. */
  readonly own: string;
  readonly pid: number;
  /** Parents of this process and theirs. */
  readonly ancestors: readonly number[];
  readonly uid: number;
  /** Whether systemd rules the host's groups. */
  readonly systemd: boolean;
  /** Whether the folder carries systemd's mark of delegation. */
  marked(folder: string): boolean;
}

const read = (path: string): string => readFileSync(path, "utf8");
const words = (path: string): string[] =>
  read(path)
    .split(/\s+/)
    .filter((word) => word !== "");

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // After the command in parentheses, which may hold anything: state, parent. [proc(5)]
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}

export function hostView(): CgroupView {
  const view = { pid: process.pid, uid: process.getuid?.() ?? -1, systemd: existsSync("/run/systemd/system") };
  const marked = (folder: string): boolean =>
    // The first is of systemd 251 and later, the second is shown to root alone.
    ["user.delegate", "trusted.delegate"].some((name) => extendedAttribute(folder, name) === "1");
  try {
    // ID PARENT DEVICE ROOT MOUNT-POINT ... - TYPE ... [proc(5), mountinfo]
    const mount = /^\d+ \d+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(read("/proc/self/mountinfo"))?.[1];
    const own = /^0::(\/.*)$/m.exec(read("/proc/self/cgroup"))?.[1] ?? "/";
    const ancestors: number[] = [];
    for (let pid = parentOf(process.pid); pid > 0; pid = parentOf(pid)) ancestors.push(pid);
    return { ...view, mount, own, ancestors, marked };
  } catch {
    return { ...view, mount: undefined, own: "/", ancestors: [], marked };
  }
}

/** The real root of all groups lacks what every other group has. */
const isHostRoot = (folder: string): boolean => !existsSync(join(folder, "cgroup.type"));

/** The server's own group, where it is delegated. */
function ownFolder(view: CgroupView, mount: string): Delegation | string {
  const own = resolve(mount, `.${view.own}`);
  // One that was started where the last server had put itself.
  const folder = basename(own) === LEAF ? dirname(own) : own;
  if (view.marked(folder)) return folder;
  if (view.systemd) return { reason: `systemd has not delegated ${folder} to the server` };
  if (folder === mount) {
    return isHostRoot(folder) ? { reason: "the server runs in the host's own root group" } : folder;
  }
  if (view.uid !== 0 && statSync(folder).uid === view.uid) return folder;
  return { reason: `${folder} is not delegated to the server` };
}

/** Throws Node's error where a child of the server's could not be moved to a group in `folder`. */
function mayMoveTo(folder: string, own: string): void {
  let common = folder;
  while (common !== "/" && own !== common && !own.startsWith(`${common}/`)) common = dirname(common);
  for (const at of [folder, common]) accessSync(join(at, "cgroup.procs"), constants.W_OK);
}

/** Leaves the folder to groups: this process, and those that started it, go into a group of their own below it. */
function vacate(folder: string, { pid, ancestors }: CgroupView): string | undefined {
  if (isHostRoot(folder)) return undefined;
  const here = words(join(folder, "cgroup.procs")).map(Number);
  const own = [pid, ...ancestors];
  const other = here.find((one) => !own.includes(one));
  if (other !== undefined) return `process ${other}, which is not the server's, is in ${folder} too`;
  if (here.length === 0) return undefined;
  const leaf = join(folder, LEAF);
  mkdirSync(leaf, { recursive: true });
  for (const one of here) writeFileSync(join(leaf, "cgroup.procs"), String(one));
  return undefined;
}

function take(folder: string, own: string, view: CgroupView): Delegation {
  if (!existsSync(join(folder, "cgroup.controllers"))) return { reason: `${folder} is no control group` };
  const given = words(join(folder, "cgroup.controllers"));
  const controllers = WANTED.filter((name) => given.includes(name));
  if (controllers.length === 0) {
    return {
      reason: `${folder} is given none of ${WANTED.join(", ")} (those of version 1 are not used)`,
    };
  }
  mayMoveTo(folder, own);
  const inTheWay = vacate(folder, view);
  if (inTheWay !== undefined) return { reason: inTheWay };
  writeFileSync(join(folder, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  return { folder, controllers };
}

/** `named`: the folder of a control group that is isola's, or `none`; undefined: the server's own, if it is delegated. */
export function takeDelegation(named: string | undefined, view: CgroupView = hostView()): Delegation {
  if (named === "none") return { reason: "switched off by --cgroup none" };
  const { mount } = view;
  if (mount === undefined) return { reason: "the host mounts no control groups of version 2" };
  try {
    const folder = named === undefined ? ownFolder(view, mount) : resolve(named);
    return typeof folder === "string" ? take(folder, resolve(mount, `.${view.own}`), view) : folder;
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}
