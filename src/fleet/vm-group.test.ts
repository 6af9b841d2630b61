import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { limitBytes } from "./admission.ts";
import { groupCpu, VmGroup, VmGroups } from "./vm-group.ts";
import { vmSpecSchema } from "./vm-spec.ts";

const FILES = ["cpu.weight", "cpu.max", "cpu.max.burst", "memory.max", "memory.oom.group", "pids.max", "cgroup.kill"];

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "isola-group-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A group's files as the kernel has them, on an ordinary folder. */
function group(files: readonly string[] = FILES): VmGroup {
  for (const name of files) writeFileSync(join(folder, name), "");
  return new VmGroup(folder);
}

const read = (name: string): string => readFileSync(join(folder, name), "utf8");
const spec = (cpu: Record<string, unknown> = {}) =>
  vmSpecSchema.parse({ name: "one", image: "debian", memoryBytes: "96M", cpu });

test("shares become weights in their proportion, as far as the kernel has weights", () => {
  const one = group();
  const weights = [1024, 2048, 256, 2, 262_144].map((shares) => {
    one.share({ shares, ceilingPercent: null });
    return read("cpu.weight");
  });
  assert.deepEqual(weights, ["100", "200", "25", "1", "10000"]);
});

test("the ceiling is a tenth above the cap, or above the pool where that is less than the host", () => {
  const pool = { name: "small", processors: [0, 1], cores: 0.5 };
  const ceiling = (capPercent: number | null, cores: number): number | null => {
    const { ceilingPercent } = groupCpu(spec({ capPercent }), { ...pool, cores }, 2);
    return ceilingPercent === null ? null : Math.round(ceilingPercent * 10) / 10;
  };
  assert.deepEqual([ceiling(null, 2), ceiling(25, 2), ceiling(null, 0.5), ceiling(80, 0.5)], [null, 27.5, 55, 55]);
  const one = group();
  one.share({ shares: 1024, ceilingPercent: 27.5 });
  assert.deepEqual([read("cpu.max"), read("cpu.max.burst")], ["27500 100000", "27500"]);
  one.share({ shares: 1024, ceilingPercent: 0.1 });
  assert.equal(read("cpu.max"), "1000 100000");
  one.share({ shares: 1024, ceilingPercent: null });
  assert.deepEqual([read("cpu.max"), read("cpu.max.burst")], ["max 100000", "0"]);
});

test("memory holds what admission counts and more, and ends as a whole", () => {
  group().hold(spec());
  assert.ok(Number(read("memory.max")) > limitBytes(spec()));
  assert.equal(read("memory.oom.group"), "1");
  assert.ok(Number(read("pids.max")) >= 64);
});

test("a controller that was not given is passed over", () => {
  const one = group(["memory.max"]);
  one.hold(spec());
  one.share(groupCpu(spec({ capPercent: 10 }), undefined, 2));
  one.kill();
  assert.deepEqual(readdirSync(folder), ["memory.max"]);
});

test("an end for want of memory is told apart: by the group's limit, by the host's lack", () => {
  const one = group();
  writeFileSync(join(folder, "memory.max"), `${100 * 2 ** 20}\n`);
  const told = (text: string): string | undefined => {
    writeFileSync(join(folder, "memory.events"), text);
    return one.outOfMemory();
  };
  assert.equal(one.outOfMemory(), undefined);
  assert.equal(told("low 0\nhigh 0\nmax 9\noom 3\noom_kill 0\noom_group_kill 0\n"), undefined);
  assert.match(told("low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\n") ?? "", /went beyond 100M of memory/);
  assert.match(told("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n") ?? "", /host, which had no memory/);
});

test("each server has a folder of its own, and sweeps only what no VM of its has", async () => {
  const delegation = { folder, controllers: ["cpu", "memory"] };
  const mine = new VmGroups(delegation, "/var/lib/one");
  const other = new VmGroups(delegation, "/var/lib/two");
  assert.notEqual(mine.folder, other.folder);
  assert.equal(readFileSync(join(mine.folder, "cgroup.subtree_control"), "utf8"), "+cpu +memory");
  const kept = mine.make("0123456789abcdef", spec());
  assert.notEqual(kept.path, mine.make("0123456789abcdef", spec()).path);
  mkdirSync(join(other.folder, "left"));
  await mine.sweep(new Set([kept.path]));
  assert.ok(existsSync(kept.path));
  assert.equal(readdirSync(mine.folder, { withFileTypes: true }).filter((entry) => entry.isDirectory()).length, 1);
  assert.ok(existsSync(join(other.folder, "left")));
  assert.equal(await kept.remove(), true);
  assert.equal(await kept.remove(), true);
});
