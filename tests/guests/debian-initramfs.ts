/**
 * An initramfs with programs of Debian's as they are in their packages. The packages come through apt once; the archive
 * then lies in the cache beside isola's images.
 */

import { createHash } from "node:crypto";
import { Apt, type PackageRecord } from "../../src/images/apt.ts";
import { CpioWriter } from "../../src/images/cpio.ts";
import { readDeb } from "../../src/images/deb.ts";
import { cached } from "./cached.ts";

/**
 * An /init that mounts what programs expect, prints `ready`, runs `shell` over the console without a terminal on its
 * output, so that it shows neither prompt nor line editing, and powers off.
 */
export function shellInit(ready: string, shell: string): string {
  return `#!/bin/busybox sh
export PATH=/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 LC_ALL=C HOME=/tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
cd /tmp
busybox stty -echo -onlcr -icrnl </dev/console
echo "${ready}"
${shell} </dev/console 2>&1 | busybox cat
busybox poweroff -f
`;
}

export interface Recipe {
  /** Of the file in the cache. */
  readonly name: string;
  /** /init, a script. */
  readonly init: string;
  /** Packages, which bring along what they depend on. */
  readonly programs: readonly string[];
  /** Packages that others ask for, but the programs do without. */
  readonly leftOut: RegExp;
  /** Files that nobody reads; they would only take guest memory. */
  readonly useless: RegExp;
  /** By package: the files to take, where not all. */
  readonly only?: Readonly<Record<string, RegExp>>;
  /** More packages by what another depends on: `libpython3.11-testsuite` by python3's `python3.11`. */
  readonly derived?: { readonly from: string; readonly pattern: RegExp; readonly to: string };
}

/** All packages that the programs need, each once; what no package is named is virtual and left out. */
async function resolvePackages(apt: Apt, recipe: Recipe): Promise<PackageRecord[]> {
  const wantedPrograms = [...recipe.programs];
  const { derived } = recipe;
  if (derived !== undefined) {
    const { depends } = await apt.show(derived.from);
    const source = depends.find((name) => derived.pattern.test(name));
    if (source !== undefined) wantedPrograms.push(source.replace(derived.pattern, derived.to));
  }
  // A program of ours that is missing is an error with its reason.
  await apt.show(wantedPrograms[0] ?? "");
  const records = new Map<string, PackageRecord | undefined>();
  let names: readonly string[] = wantedPrograms;
  while (names.length > 0) {
    const found = await apt.showAll(names);
    for (const name of names) records.set(name, found.get(name));
    const wanted = new Set([...found.values()].flatMap(({ depends }) => depends));
    names = [...wanted].filter((name) => !records.has(name) && !recipe.leftOut.test(name));
  }
  const missing = wantedPrograms.filter((name) => records.get(name) === undefined);
  if (missing.length > 0) throw new Error(`the host's apt sources have no package ${missing.join(", ")}`);
  return [...records.values()].filter((record) => record !== undefined);
}

async function build(recipe: Recipe, directory: string): Promise<Uint8Array> {
  const apt = await Apt.create({ directory });
  const cpio = new CpioWriter();
  for (const path of ["dev", "proc", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]) cpio.directory(path);
  // Packages of both times, before and after /bin became /usr/bin, end in the same place.
  for (const path of ["bin", "sbin", "lib", "lib64"]) cpio.symlink(path, `usr/${path}`);
  cpio.node("dev/console", "character", 5, 1).node("dev/null", "character", 1, 3, 0o666);
  cpio.file("init", recipe.init, 0o755);
  const records = await resolvePackages(apt, recipe);
  for (const [name, deb] of await apt.downloadAll(records)) {
    const files = new Map<string, Uint8Array>();
    const place = (path: string): string => path.replace(/^(bin|sbin|lib|lib64)\//, "usr/$1/");
    for await (const { path, type, mode, bytes, linkPath } of readDeb(deb)) {
      const target = place(path);
      if (recipe.useless.test(target) || recipe.only?.[name]?.test(target) === false) continue;
      if (type === "file") {
        files.set(target, bytes);
        cpio.file(target, bytes, mode);
      } else if (type === "hardlink") {
        cpio.file(target, files.get(place(linkPath.replace(/^\.\//, ""))) ?? new Uint8Array(0), mode);
      } else if (type === "symlink") {
        cpio.symlink(target, linkPath);
      }
    }
  }
  return cpio.finish();
}

/** The initramfs, made at the first call on this machine. */
export function debianInitramfs(recipe: Recipe): Promise<Uint8Array> {
  // Another recipe is another file.
  const plain = JSON.stringify(recipe, (_, value: unknown) => (value instanceof RegExp ? value.source : value));
  const digest = createHash("sha256").update(plain).digest("hex").slice(0, 12);
  return cached(`${recipe.name}-${digest}.cpio`, (directory) => build(recipe, directory));
}
