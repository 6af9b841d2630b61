/**
 * An initramfs with programs of Debian's as they are in their packages: what an unmodified user space asks of the
 * virtual hardware. The packages come through apt once; the archive then lies in the cache beside isola's images.
 *
 * Its console is a shell without prompt and echo that reads commands line by line; `ToolsGuest` speaks to it.
 */

import { createHash } from "node:crypto";
import { Apt, type PackageRecord } from "../../src/images/apt.ts";
import { CpioWriter } from "../../src/images/cpio.ts";
import { readDeb } from "../../src/images/deb.ts";
import { cached } from "./cached.ts";

const PROGRAMS = [
  "busybox-static",
  "coreutils",
  "dash",
  "gzip",
  "mawk",
  "openssl",
  "python3",
  "sqlite3",
  "xz-utils",
] as const;
/** What packages ask for, but their programs do without here: package management, texts, name services. */
const LEFT_OUT =
  /^(perl|dpkg|tar|debianutils|install-info|debconf|gcc-|media-types|mailcap|mime-support|tzdata|libnsl|libtirpc|netbase|readline-common|libmd0|init-system-helpers|openssl-provider)/;
/** Files that no test reads; they would only take guest memory. */
const USELESS_FILE =
  /^usr\/(share|include|lib\/x86_64-linux-gnu\/(gconv|perl|engines)|lib\/python3[^/]*\/(test|idlelib|tkinter|lib2to3|ensurepip|distutils|unittest|pydoc_data|turtledemo|dist-packages|multiprocessing|asyncio))|^(etc|var)\//;
/** The useful ones among coreutils, which is large. */
const COREUTILS = /^usr\/bin\/(base64|cat|cmp|cut|dd|head|mkdir|od|rm|seq|sha256sum|sort|tail|test|tr|uniq|wc)$/;

const INIT = `#!/bin/busybox sh
export PATH=/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 LC_ALL=C HOME=/tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
cd /tmp
busybox stty -echo -onlcr -icrnl </dev/console
echo "tools ready"
# Without a terminal on its output the shell is not interactive: neither prompt nor line editing.
dash -s </dev/console 2>&1 | busybox cat
busybox poweroff -f
`;

/** All packages that the programs need, each once; what no package is named is virtual and left out. */
async function resolvePackages(apt: Apt): Promise<PackageRecord[]> {
  // A program of ours that is missing is an error with its reason.
  await apt.show(PROGRAMS[0]);
  const records = new Map<string, PackageRecord | undefined>();
  let names: readonly string[] = PROGRAMS;
  while (names.length > 0) {
    const found = await apt.showAll(names);
    for (const name of names) records.set(name, found.get(name));
    const wanted = new Set([...found.values()].flatMap(({ depends }) => depends));
    names = [...wanted].filter((name) => !records.has(name) && !LEFT_OUT.test(name));
  }
  const missing = PROGRAMS.filter((name) => records.get(name) === undefined);
  if (missing.length > 0) throw new Error(`the host's apt sources have no package ${missing.join(", ")}`);
  return [...records.values()].filter((record) => record !== undefined);
}

async function build(directory: string): Promise<Uint8Array> {
  const apt = await Apt.create({ directory });
  const cpio = new CpioWriter();
  for (const path of ["dev", "proc", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]) cpio.directory(path);
  // Packages of both times, before and after /bin became /usr/bin, end in the same place.
  for (const path of ["bin", "sbin", "lib", "lib64"]) cpio.symlink(path, `usr/${path}`);
  cpio.node("dev/console", "character", 5, 1).node("dev/null", "character", 1, 3, 0o666);
  cpio.file("init", INIT, 0o755);
  const records = await resolvePackages(apt);
  for (const [name, deb] of await apt.downloadAll(records)) {
    const files = new Map<string, Uint8Array>();
    const place = (path: string): string => path.replace(/^(bin|sbin|lib|lib64)\//, "usr/$1/");
    for await (const { path, type, mode, bytes, linkPath } of readDeb(deb)) {
      const target = place(path);
      if (USELESS_FILE.test(target)) continue;
      if (name === "coreutils" && !COREUTILS.test(target)) continue;
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
export function toolsInitramfs(): Promise<Uint8Array> {
  // Another recipe is another file.
  const recipe = [INIT, ...PROGRAMS, LEFT_OUT, USELESS_FILE, COREUTILS].join("\n");
  return cached(`tools-${createHash("sha256").update(recipe).digest("hex").slice(0, 12)}.cpio`, build);
}
