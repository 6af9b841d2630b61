import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IsolaError } from "../base/errors.ts";
import { busyboxApplets } from "./busybox.ts";
import { readCpio } from "./cpio.ts";
import { buildInitramfs, readBusyboxPackage, readKernelPackage } from "./debian.ts";
import { readMemtestPackage } from "./memtest.ts";
import { type ModuleInfo, modulesAlias, modulesDep, readModuleInfo, selectModules } from "./modules.ts";
import { debOf, moduleOf, tarOf } from "./sample-archives.ts";

const APPLETS = [
  "[",
  "[[",
  "cat",
  "cttyhack",
  "hostname",
  "modprobe",
  "mount",
  "poweroff",
  "reboot",
  "setsid",
  "sh",
  "start-stop-daemon",
  "sync",
];
const binary = (names: readonly string[]) =>
  new TextEncoder().encode(`\x7fELF\0[\0[[\0x y\0usage: cat\0${names.join("\0")}\0\0tail`);
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

describe("BusyBox's commands", () => {
  test("the whole list is found, and not a shorter look-alike", () => {
    assert.deepEqual(busyboxApplets(binary(APPLETS)), APPLETS);
  });

  test("a list that lacks what the session needs is refused", () => {
    assert.throws(() => busyboxApplets(binary(APPLETS.slice(0, -2))), /without start-stop-daemon, sync/);
    assert.throws(() => busyboxApplets(new Uint8Array(100)), /0 commands found/);
  });
});

describe("kernel modules", () => {
  const info = (name: string, ...depends: string[]): ModuleInfo => ({ name, depends, aliases: [] });
  const byName = (...list: ModuleInfo[]) => new Map(list.map((one) => [one.name, one]));

  for (const bits of [32, 64] as const) {
    test(`what a ${bits}-bit module says of itself`, () => {
      const lines = ["license=GPL", "alias=virtio:d00000004v*", "depends=virtio-ring,virtio", "alias=x"];
      assert.deepEqual(readModuleInfo("kernel/drivers/virtio-rng.ko", moduleOf(lines, bits)), {
        name: "virtio_rng",
        depends: ["virtio_ring", "virtio"],
        aliases: ["virtio:d00000004v*", "x"],
      });
    });
  }

  test("modules come after what they depend on; wanted ones may be missing", () => {
    const modules = byName(info("a", "b", "c"), info("b", "c"), info("c"), info("unused"));
    assert.deepEqual(
      selectModules(modules, ["a", "built-in"]).map(({ name }) => name),
      ["c", "b", "a"],
    );
  });

  test("a missing dependency is an error, a circle is not", () => {
    assert.throws(() => selectModules(byName(info("a", "gone")), ["a"]), /module a: it depends on gone/);
    assert.equal(selectModules(byName(info("a", "b"), info("b", "a")), ["a"]).length, 2);
  });

  test("modules.dep names all dependencies, the nearest first", () => {
    const selected = selectModules(byName(info("a", "b"), info("b", "c"), info("c")), ["a"]);
    const paths = new Map(selected.map(({ name }) => [name, `k/${name}.ko`]));
    assert.equal(modulesDep(selected, paths), "k/c.ko:\nk/b.ko: k/c.ko\nk/a.ko: k/b.ko k/c.ko\n");
    assert.equal(modulesAlias([{ name: "m", depends: [], aliases: ["pci:v1*"] }]), "alias pci:v1* m\n");
  });

  test("hostile modules give an IsolaError", () => {
    const samples = [32, 64].map((bits) => moduleOf(["depends=a", "alias=b"], bits === 32 ? 32 : 64));
    const change = fc.tuple(fc.nat(300), fc.constantFrom(0, 1, 0x40, 0x7f, 0xff));
    fc.assert(
      fc.property(
        fc.constantFrom(...samples),
        fc.array(change, { maxLength: 5 }),
        fc.nat(300),
        (sample, changes, length) => {
          const bytes = sample.slice(0, changes.length % 2 === 0 ? sample.length : length);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          try {
            readModuleInfo("x.ko", bytes);
          } catch (error) {
            assert.ok(error instanceof IsolaError, String(error));
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("the initramfs", () => {
  const root = "lib/modules/6.1.0-9-cloud-amd64";
  const kernelDeb = debOf(
    "data.tar",
    tarOf([
      { path: "./boot/config-6.1.0-9-cloud-amd64", data: "config" },
      { path: "./boot/vmlinuz-6.1.0-9-cloud-amd64", data: "bzImage" },
      { path: `./${root}/kernel/drivers/virtio/virtio.ko`, data: moduleOf(["depends="]) },
      {
        path: `./usr/${root}/kernel/drivers/block/virtio_blk.ko`,
        data: moduleOf(["depends=virtio", "alias=virtio:d00000002v*"]),
      },
      { path: `./${root}/kernel/drivers/net/other.ko`, data: moduleOf(["depends="]) },
    ]),
  );
  const build = async () => buildInitramfs(binary(APPLETS), await readKernelPackage(kernelDeb));

  test("kernel and release come from the package", async () => {
    const kernel = await readKernelPackage(kernelDeb);
    assert.equal(kernel.release, "6.1.0-9-cloud-amd64");
    assert.equal(text(kernel.bzImage), "bzImage");
  });

  test("it holds init, every command, the modules wanted, and their lists", async () => {
    const entries = new Map(readCpio(await build()).map((entry) => [entry.path, entry]));
    assert.equal(entries.get("init")?.mode, 0o755);
    for (const applet of APPLETS) assert.equal(text(entries.get(`bin/${applet}`)?.bytes), "busybox");
    assert.deepEqual([entries.get("dev/console")?.major, entries.get("dev/console")?.minor], [5, 1]);
    assert.ok(entries.has(`${root}/kernel/drivers/virtio/virtio.ko`));
    assert.ok(!entries.has(`${root}/kernel/drivers/net/other.ko`));
    const dep = text(entries.get(`${root}/modules.dep`)?.bytes);
    assert.match(dep, /^kernel\/drivers\/block\/virtio_blk\.ko: kernel\/drivers\/virtio\/virtio\.ko$/m);
    assert.equal(text(entries.get(`${root}/modules.alias`)?.bytes), "alias virtio:d00000002v* virtio_blk\n");
  });

  test("the same packages give the same bytes", async () => {
    assert.deepEqual(await build(), await build());
  });

  test("packages without their main file are refused", async () => {
    const empty = debOf("data.tar", tarOf([]));
    await assert.rejects(readKernelPackage(empty), /no boot\/vmlinuz-\*/);
    await assert.rejects(readBusyboxPackage(empty), /no bin\/busybox/);
  });
});

test("Memtest86+'s 32-bit program comes from its package; another package is refused", async () => {
  const data = tarOf([
    { path: "./boot/memtest86+ia32.efi", data: "efi" },
    { path: "./boot/memtest86+ia32.bin", data: "bin" },
    { path: "./boot/memtest86+x64.bin", data: "x64" },
  ]);
  assert.equal(text(await readMemtestPackage(debOf("data.tar", data))), "bin");
  await assert.rejects(readMemtestPackage(debOf("data.tar", tarOf([]))), /holds no boot\/memtest86\+ia32\.bin/);
});
