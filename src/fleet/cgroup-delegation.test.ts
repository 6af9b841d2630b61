import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { type CgroupView, takeDelegation } from "./cgroup-delegation.ts";

const PID = 500;
const SHELL = 400;
const INIT = 1;

let mount = "";
beforeEach(() => {
  mount = mkdtempSync(join(tmpdir(), "isola-cgroup-"));
});
afterEach(() => rmSync(mount, { recursive: true, force: true }));

/** A group's files as the kernel has them, on an ordinary folder. */
function group(path: string, processes: readonly number[] = [], controllers = "cpuset cpu io memory pids"): string {
  const folder = join(mount, path);
  mkdirSync(folder, { recursive: true });
  const files = {
    "cgroup.controllers": `${controllers}\n`,
    "cgroup.procs": processes.map((pid) => `${pid}\n`).join(""),
    "cgroup.subtree_control": "",
    "cgroup.type": "domain\n",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

function view(change: Partial<CgroupView> = {}): CgroupView {
  const ancestors = [SHELL, INIT];
  return { mount, own: "/", pid: PID, ancestors, uid: 0, systemd: false, marked: () => false, ...change };
}

const reasonOf = (named: string | undefined, given: CgroupView): string => {
  const delegation = takeDelegation(named, given);
  assert.ok("reason" in delegation, JSON.stringify(delegation));
  return delegation.reason;
};

test("a service whose group systemd has delegated moves itself to a leaf and takes the controllers", () => {
  const service = group("system.slice/isola.service", [PID, SHELL]);
  const delegation = takeDelegation(
    undefined,
    view({ own: "/system.slice/isola.service", systemd: true, marked: (folder) => folder === service }),
  );
  assert.deepEqual(delegation, { folder: service, controllers: ["cpu", "memory", "pids"] });
  assert.equal(readFileSync(join(service, "cgroup.subtree_control"), "utf8"), "+cpu +memory +pids");
  // On an ordinary folder only the last of the writes is seen.
  assert.equal(readFileSync(join(service, "server/cgroup.procs"), "utf8"), String(SHELL));
});

test("a server that is started where the last one had put itself takes the group above", () => {
  const service = group("isola.service");
  group("isola.service/server", [PID]);
  const given = view({ own: "/isola.service/server", systemd: true, marked: (folder) => folder === service });
  assert.deepEqual(takeDelegation(undefined, given), { folder: service, controllers: ["cpu", "memory", "pids"] });
});

test("under systemd a group without its mark is left alone, whoever may write it", () => {
  const session = group("user.slice/session-1.scope", [PID, SHELL]);
  const reason = reasonOf(undefined, view({ own: "/user.slice/session-1.scope", systemd: true }));
  assert.equal(reason, `systemd has not delegated ${session} to the server`);
  assert.equal(readFileSync(join(session, "cgroup.subtree_control"), "utf8"), "");
  assert.equal(existsSync(join(session, "server")), false);
});

test("the root of a container's own groups is the server's; the host's root is not", () => {
  group(".", [INIT, PID]);
  assert.deepEqual(takeDelegation(undefined, view()), { folder: mount, controllers: ["cpu", "memory", "pids"] });
  rmSync(join(mount, "cgroup.type"));
  assert.match(reasonOf(undefined, view()), /host's own root group/);
});

test("a group that others share is left as it is", () => {
  const folder = group("shared", [PID, 77]);
  const reason = reasonOf(folder, view({ own: "/shared" }));
  assert.match(reason, /^process 77, which is not the server's, is in /);
  assert.equal(readFileSync(join(folder, "cgroup.subtree_control"), "utf8"), "");
});

test("a folder that was named is used with what controllers it has; without one the reason is told", () => {
  group(".");
  group("elsewhere", [PID]);
  const named = group("isola", [], "memory pids");
  const given = view({ own: "/elsewhere" });
  assert.deepEqual(takeDelegation(named, given), { folder: named, controllers: ["memory", "pids"] });
  assert.match(reasonOf(group("none-given", [], "hugetlb"), given), /is given none of cpu, memory, pids/);
  assert.match(reasonOf(join(mount, "missing"), given), /is no control group/);
  assert.match(reasonOf("none", given), /switched off/);
  assert.match(reasonOf(undefined, view({ mount: undefined })), /mounts no control groups of version 2/);
});

test("who could not move a VM's process into the group says so before it tries", () => {
  const named = group("isola");
  group("elsewhere", [PID]);
  // The group above both has no cgroup.procs that could be written.
  assert.match(reasonOf(named, view({ own: "/elsewhere" })), /ENOENT|EACCES/);
});
