import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { processDoor } from "./confine.ts";

const folder = mkdtempSync(join(tmpdir(), "isola-walls-"));
after(() => rmSync(folder, { recursive: true }));
const [open, secret] = [join(folder, "open"), join(folder, "secret")];
mkdirSync(open);
writeFileSync(join(open, "file"), "open");
writeFileSync(secret, "secret");

/** What a process does that put Landlock's wall around itself, by its system calls: FFI is as far as hostile code gets. */
function behindTheWall(body: string): string {
  const program = `
    import { processDoor, LANDLOCK_FS } from ${JSON.stringify(new URL("confine.ts", import.meta.url).href)};
    import { linuxSys } from ${JSON.stringify(new URL("linux.ts", import.meta.url).href)};
    const door = processDoor();
    const sys = linuxSys();
    door.setNoNewPrivileges();
    door.landlock([{ path: ${JSON.stringify(open)}, allow: LANDLOCK_FS.readFile }, { path: "/does/not/exist", allow: 4 }]);
    ${body}`;
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--input-type=module-typescript", "--no-warnings", "-e", program],
    { encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

test("behind Landlock's wall native code opens what the rules allow, and nothing else", () => {
  assert.ok(processDoor().landlockVersion() > 0, "this host has no Landlock");
  const answers = behindTheWall(`
    const flags = { read: 0, write: 2 };
    console.log([
      sys.open(${JSON.stringify(join(open, "file"))}, flags.read) > 0,
      sys.open(${JSON.stringify(join(open, "file"))}, flags.write),
      sys.open(${JSON.stringify(secret)}, flags.read),
      sys.open("/proc/${process.pid}/environ", flags.read),
    ].join());`);
  assert.equal(answers, "true,-13,-13,-13");
});

test("from version 6 on a signal to a process outside is refused", () => {
  const expected = processDoor().landlockVersion() >= 6 ? "EPERM" : "sent";
  const body = `try { process.kill(${process.pid}, 0); console.log("sent"); } catch (error) { console.log(error.code); }`;
  assert.equal(behindTheWall(body), expected);
});

test("a thread runs for as long at a time as was asked, where the kernel knows of that", () => {
  const door = processDoor();
  const [version = 0, minor = 0] = release().split(".").map(Number);
  const knows = version > 6 || (version === 6 && minor >= 12);
  const before = door.timeSlice(0);
  door.setTimeSlice(0, 7000);
  assert.equal(door.timeSlice(0), knows ? 7000 : before);
  assert.throws(() => door.setTimeSlice(0x7fff_ffff, 7000), /thread 2147483647/);
});
