/**
 * Programs of Debian's that check the processor they run on, in a guest of 512 MiB: stress-ng's stressors under --verify,
 * each by a number of operations, and Python's own tests of its numbers.
 */

import assert from "node:assert/strict";
import { ImageStore } from "../../../src/images/store.ts";
import { debianInitramfs, shellInit } from "../debian-initramfs.ts";
import { Guest, MIB } from "../guest.ts";

const MEMORY_BYTES = 512 * MIB;
const BOOT_SECONDS = 300;

const INIT = shellInit("ready", "busybox sh");

/** Python's test modules, and what they read. */
const PYTHON_TESTS =
  /^usr\/lib\/python3\.\d+\/test\/(__init__\.py|support\/|test_(float|math|struct|decimal|int|grammar|numeric_tower|fractions)\.py|mathdata\/|\w+\.txt|decimaltestdata\/|(ann|inspect)_\w+\.py|typinganndata\/)/;

const PYTHON = ["float", "math", "struct", "decimal", "int"] as const;
/** Operations by stressor: some seconds each on an interpreter. */
const STRESSORS = { cpu: 70, fp: 8, vecmath: 100, vm: 2000, memcpy: 20, syscall: 20 } as const;
const STRESSOR_OPTIONS: Partial<Record<string, string>> = {
  vm: "--vm-bytes 16m",
  // Its test of accept() forks a client that connects, and only then listens: on one processor the stressor waits for
  // ever if it is preempted in between, as the kernel's trace of a slow run shows. FIFO keeps it running until it waits.
  syscall: "--sched fifo --sched-prio 1",
};

export interface Check {
  readonly name: string;
  /** A line for the guest's shell. */
  readonly command: string;
  /** What it must print. */
  readonly wanted: RegExp;
  /** Generous: several times what it takes on a busy host. */
  readonly seconds: number;
}

export const CHECKS: readonly Check[] = [
  ...Object.entries(STRESSORS).map(([name, operations]) => ({
    name: `stress-ng --${name}`,
    command: `stress-ng --verify --${name} 1 --${name}-ops ${operations} ${STRESSOR_OPTIONS[name] ?? ""}`,
    wanted: /successful run completed/,
    seconds: 600,
  })),
  ...PYTHON.map((name) => ({
    name: `python test_${name}`,
    // The modules are compiled once and kept, which takes longer than most of the tests.
    // decimal's prepare their contexts where they are run as a program.
    command: `PYTHONDONTWRITEBYTECODE= python3 -m ${name === "decimal" ? "" : "unittest "}test.test_${name}`,
    wanted: /^Ran \d+ tests? in .*\n\nOK/m,
    seconds: name === "decimal" || name === "math" ? 3000 : 900,
  })),
];

function initramfs(): Promise<Uint8Array> {
  return debianInitramfs({
    name: "verify",
    init: INIT,
    programs: ["busybox-static", "stress-ng", "python3"],
    // Libraries that are linked are enough: their drivers, texts and maintenance are not.
    leftOut:
      /^(perl|dpkg|tar|debianutils|install-info|debconf|gcc-|media-types|mailcap|mime-support|tzdata|libnsl|libtirpc|netbase|readline-common|init-system-helpers|openssl-provider|libegl-mesa|libgl1|mesa|libllvm|net-tools|xkb)/i,
    useless:
      /^usr\/(share|include|lib\/x86_64-linux-gnu\/(gconv|perl|engines|dri)|lib\/python3[^/]*\/(idlelib|tkinter|lib2to3|ensurepip|distutils|pydoc_data|turtledemo|dist-packages|ctypes\/test|sqlite3\/test|unittest\/test|lib2to3\/tests))|^(etc|var)\//,
    derived: { from: "python3", pattern: /^(python3\.\d+)$/, to: "lib$1-testsuite" },
    only: { "libpython3.11-testsuite": PYTHON_TESTS },
  });
}

/** Boots a guest and runs checks in it; each failure shows what was printed. Tells of each that is through. */
export async function runChecks(checks: readonly Check[], tell: (line: string) => void): Promise<void> {
  const { kernel, commandLine } = await new ImageStore().open("debian");
  await using guest = await Guest.start({
    memoryBytes: MEMORY_BYTES,
    kernel,
    initrd: await initramfs(),
    commandLine: `${commandLine} quiet`,
  });
  await guest.expect(/ready\n/, BOOT_SECONDS);
  for (const [i, { name, command, wanted, seconds }] of checks.entries()) {
    const started = performance.now();
    const from = guest.text.length;
    guest.type(`${command} </dev/null; echo "<<end ${i}>> $?"\n`);
    const [, status] = await guest.expect(new RegExp(`<<end ${i}>> (\\d+)\n`), seconds);
    const output = guest.text.slice(from);
    assert.equal(status, "0", `${name}: status ${status}:\n${output}`);
    assert.match(output, wanted, name);
    tell(`${name}: passed, ${((performance.now() - started) / 1000).toFixed(0)} s`);
  }
  guest.type("exit\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.doesNotMatch(guest.text, /traps:|segfault|general protection|Oops|BUG:/);
}
