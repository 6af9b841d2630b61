import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FleetRecord } from "./record.ts";
import { type VmSpec, vmSpecSchema } from "./vm-spec.ts";

test("a VM that an earlier version recorded has the fields that came since", () => {
  const folder = mkdtempSync(join(tmpdir(), "isola-record-"));
  try {
    const spec = vmSpecSchema.parse({ name: "old", image: "debian" });
    const { smbios: _, ...firmware } = spec.firmware;
    const record = new FleetRecord(join(folder, "record.db"));
    record.draftVm("0123456789abcdef", { ...spec, firmware } as VmSpec, new Date().toISOString());
    record.madeVm("0123456789abcdef");
    record.close();
    const again = new FleetRecord(join(folder, "record.db"));
    assert.deepEqual(again.vms()[0]?.spec, spec);
    again.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
