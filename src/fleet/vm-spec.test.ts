import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { vmSpecSchema, vmUpdateSchema } from "./vm-spec.ts";

const base = { name: "one", image: "debian" };

test("what is left out has a default, and a parsed spec parses to itself", () => {
  const spec = vmSpecSchema.parse({ ...base, memoryBytes: "96M", disks: [{ name: "d", sizeBytes: "1G" }] });
  assert.equal(spec.memoryBytes, 96 * 2 ** 20);
  const unlimited = { bytesPerSecond: null, requestsPerSecond: null };
  assert.deepEqual(spec.disks, [{ name: "d", sizeBytes: 2 ** 30, readonly: false, ...unlimited }]);
  assert.equal(spec.cpu.model, "x86-64-v2");
  assert.equal(spec.cpu.shares, 1024);
  assert.equal(spec.cpu.capPercent, null);
  assert.deepEqual(vmSpecSchema.parse(structuredClone(spec)), spec);
});

test("equal processors have one name", () => {
  const model = (text: string): string => vmSpecSchema.parse({ ...base, cpu: { model: text } }).cpu.model;
  assert.equal(model("x86-64-v2,+sha,+aes,-rdrand"), "x86-64-v2,+aes,+sha,-rdrand");
  assert.equal(model(model("max")), model("max"));
});

test("bad values are refused, each at its field", () => {
  const refused: [Record<string, unknown>, string][] = [
    [{ name: "a/b" }, "name"],
    [{ name: "" }, "name"],
    [{ name: ".." }, "name"],
    [{ image: null }, "image"],
    [{ kernel: "relative" }, "kernel"],
    [{ append: "a\nb" }, "append"],
    [{ memoryBytes: "1K" }, "memoryBytes"],
    [{ memoryBytes: "1T" }, "memoryBytes"],
    [{ memoryBytes: "lots" }, "memoryBytes"],
    [{ memoryBytes: "96M", memoryReservationBytes: "97M" }, "memoryReservationBytes"],
    [{ cpu: { shares: 1 } }, "cpu.shares"],
    [{ cpu: { capPercent: 10, reservationPercent: 20 } }, "cpu.reservationPercent"],
    [{ cpu: { reservationPercent: 101 } }, "cpu.reservationPercent"],
    [{ cpu: { model: "pentium" } }, "cpu.model"],
    [{ cpu: { model: "x86-64-v2,+flux" } }, "cpu.model"],
    [{ disks: [{ name: "d", sizeBytes: 100 }] }, "disks.0.sizeBytes"],
    [{ disks: [{ name: "d", sizeBytes: "1M", bytesPerSecond: "1K" }] }, "disks.0.bytesPerSecond"],
    [{ disks: [{ name: "d", sizeBytes: "1M", requestsPerSecond: 0 }] }, "disks.0.requestsPerSecond"],
    [
      {
        disks: [
          { name: "d", sizeBytes: 512 },
          { name: "d", sizeBytes: 512 },
        ],
      },
      "disks",
    ],
    [{ clock: { offsetSeconds: 5, startAt: "2001-01-01T00:00:00Z" } }, "clock"],
    [{ firmware: { fwCfg: [{ name: "etc/e820", text: "" }] } }, "firmware.fwCfg.0.name"],
    [{ unknown: 1 }, ""],
  ];
  for (const [change, path] of refused) {
    const { error } = vmSpecSchema.safeParse({ ...base, ...change });
    assert.equal(error?.issues[0]?.path.join("."), path, JSON.stringify(change));
  }
});

test("a change without fields changes nothing; the schema is also JSON's", () => {
  assert.deepEqual(vmUpdateSchema.parse({}), {});
  assert.deepEqual(vmUpdateSchema.parse({ cpu: { shares: 10 } }), { cpu: { shares: 10 } });
  assert.equal(z.toJSONSchema(vmSpecSchema, { io: "input", unrepresentable: "any" }).type, "object");
});
