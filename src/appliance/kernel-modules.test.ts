import assert from "node:assert/strict";
import { test } from "node:test";
import { modulesFor, parseModuleIndex, shellPattern } from "./kernel-modules.ts";

const DEPENDENCIES = [
  "kernel/arch/x86/kvm/kvm.ko: kernel/virt/lib/irqbypass.ko",
  "kernel/arch/x86/kvm/kvm-amd.ko: kernel/drivers/crypto/ccp/ccp.ko kernel/arch/x86/kvm/kvm.ko kernel/virt/lib/irqbypass.ko",
  "kernel/virt/lib/irqbypass.ko:",
  "kernel/drivers/crypto/ccp/ccp.ko:",
  "kernel/drivers/block/virtio_blk.ko:",
  "",
].join("\n");
const ALIASES = [
  "# comment",
  "alias cpu:type:x86,ven*fam*mod*:feature:*00C2* kvm_amd",
  "alias virtio:d00000002v* virtio_blk",
  "alias pci:v*d*sv*sd*bc01sc[0-7]i* absent",
].join("\n");

test("a device's module is loaded after those that it needs", () => {
  const index = parseModuleIndex(DEPENDENCIES, ALIASES);
  const processor = "cpu:type:x86,ven0002fam0017mod0001:feature:,0000,00C2,00C6";
  assert.deepEqual(modulesFor(index, [processor, processor]), ["irqbypass", "kvm", "ccp", "kvm_amd"]);
  assert.deepEqual(modulesFor(index, ["virtio:d00000002v00001AF4"]), ["virtio_blk"]);
  assert.equal(index.modules.get("kvm_amd")?.path, "kernel/arch/x86/kvm/kvm-amd.ko");
});

test("devices without a module, and aliases of modules that are not there, load nothing", () => {
  const index = parseModuleIndex(DEPENDENCIES, ALIASES);
  assert.deepEqual(modulesFor(index, ["virtio:d00000001v00001AF4", "pci:v1d1sv0sd0bc01sc06i01", ""]), []);
});

test("shell patterns: any run, any character, sets, and the rest as it stands", () => {
  assert.match("acpi:PNP0A03:", shellPattern("acpi*:PNP0A03:*"));
  assert.match("a.c", shellPattern("a.c"));
  assert.doesNotMatch("abc", shellPattern("a.c"));
  assert.match("v5", shellPattern("v[0-9]"));
  assert.doesNotMatch("v5", shellPattern("v[!0-9]"));
  assert.doesNotMatch("xv5", shellPattern("v?"));
});
