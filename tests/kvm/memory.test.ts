/** A VM's memory on the host's own /dev/kvm, as the host's kernel tells of it. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { createKvmEngine } from "../../src/fleet/kvm-engine.ts";
import { DEFAULT_CPU_MODEL } from "../../src/isa/cpu-models.ts";
import { ENGINE_BYTES, GuestMemory } from "../../src/memory/guest-memory.ts";
import { linuxSys } from "../../src/sys/linux.ts";
import { missingKvm } from "./host-kvm.ts";

const MIB = 2 ** 20;
const HUGE_PAGE_BYTES = 2 * MIB;

const skip = missingKvm("the test of huge pages", () =>
  existsSync("/sys/kernel/mm/transparent_hugepage") ? undefined : "this host's kernel has no huge pages",
);

/** The flags of the mapping that holds `address`. [proc(5), smaps] */
function mappingFlags(address: bigint): string[] {
  const hex = (text: string | undefined) => BigInt(`0x${text}`);
  let inside = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) inside = hex(range[1]) <= address && address < hex(range[2]);
    else if (inside && line.startsWith("VmFlags:")) return line.split(/\s+/).slice(1);
  }
  return [];
}

test("a VM's RAM, and nothing else of its memory, is to be in huge pages, which its guest's can be mapped by", {
  skip,
}, () => {
  const sys = linuxSys();
  const memory = GuestMemory.create(16 * MIB);
  const start = sys.addressOf(memory.memory.buffer);
  const ram = start + BigInt(ENGINE_BYTES);
  const engine = createKvmEngine({ name: "kvm", memory, cpus: 1, cpu: DEFAULT_CPU_MODEL.name });
  try {
    // The same place within a huge page in the guest, where RAM begins at 0, and in this process.
    assert.equal(ram % BigInt(HUGE_PAGE_BYTES), 0n);
    assert.ok(mappingFlags(ram).includes("hg"), mappingFlags(ram).join(" "));
    assert.ok(mappingFlags(ram + BigInt(16 * MIB - 1)).includes("hg"));
    assert.ok(!mappingFlags(start).includes("hg"));
  } finally {
    engine.dispose();
  }
});
