/**
 * The images `debian` and `debian-i386`: a kernel of Debian's as it is, and an initramfs with BusyBox and the drivers
 * that isola's devices need. Nothing of the guest runs at build time; the same packages give the same bytes.
 */

import { IsolaError } from "../base/errors.ts";
import { unpackKernel } from "../machine/boot/bzimage.ts";
import { Apt } from "./apt.ts";
import { busyboxApplets } from "./busybox.ts";
import { CpioWriter } from "./cpio.ts";
import { readDeb } from "./deb.ts";
import { decompress } from "./decompress/decompress.ts";
import { BANNER, INIT_SCRIPT, POWER_BUTTON_SCRIPT, PROFILE, SESSION_SCRIPT } from "./debian-init.ts";
import { type ModuleInfo, modulesAlias, modulesDep, readModuleInfo, selectModules } from "./modules.ts";
import type { ImageRecipe } from "./recipe.ts";

/** Modules of the initramfs; a kernel that has one built in, or lacks it, is fine. */
const MODULES = [
  "virtio_pci",
  "virtio_mmio",
  "virtio_blk",
  "virtio_net",
  "virtio_console",
  "virtio_rng",
  "virtio_balloon",
  "virtiofs",
  "vmw_vsock_virtio_transport",
  "button",
  "evdev",
];

const MIB = 2 ** 20;
/** Largest module that is read, in bytes. */
const MODULE_LIMIT = 64 * MIB;

export interface KernelFiles {
  readonly release: string;
  readonly bzImage: Uint8Array;
  /** Modules by path under the root. */
  readonly modules: ReadonlyMap<string, Uint8Array>;
}

/** Whether a module is worth reading at all for a guest: dependencies can only lie in these folders. */
function mayBeGuests(path: string): boolean {
  return /\/kernel\/(drivers\/(acpi|virtio|block|net|char|scsi|input|hid)|net\/(vmw_vsock|core|vsock)|fs\/fuse|lib|crypto)\//.test(
    path,
  );
}

/**
 * Picks the kernel, and those modules of which `mayBeNeeded` says yes to the path, out of the kernel's package.
 * @throws IsolaError `package-invalid`
 */
export async function readKernelPackage(
  deb: Uint8Array,
  mayBeNeeded: (path: string) => boolean = mayBeGuests,
): Promise<KernelFiles> {
  let release = "";
  let bzImage: Uint8Array | undefined;
  const modules = new Map<string, Uint8Array>();
  // Debian 13 keeps modules under usr/lib, and compressed.
  const wanted = /^(boot\/vmlinuz-|(usr\/)?lib\/modules\/[^/]+\/kernel\/.*\.ko(\.xz|\.zst|\.gz)?$)/;
  for await (const { path, bytes } of readDeb(deb, ({ path, type }) => {
    return type === "file" && wanted.test(path) && (path.startsWith("boot/") || mayBeNeeded(path));
  })) {
    if (path.startsWith("boot/vmlinuz-")) {
      release = path.slice("boot/vmlinuz-".length);
      bzImage = bytes;
    } else {
      modules.set(path.replace(/^usr\//, "").replace(/\.ko\..*$/, ".ko"), await decompress(bytes, MODULE_LIMIT));
    }
  }
  if (bzImage === undefined) {
    throw new IsolaError({
      code: "package-invalid",
      message: "reading kernel package: it holds no boot/vmlinuz-*, wanted a kernel image package",
    });
  }
  return { release, bzImage, modules };
}

/** Picks the static binary out of its package. */
export async function readBusyboxPackage(deb: Uint8Array): Promise<Uint8Array> {
  for await (const { bytes } of readDeb(deb, ({ path }) => /^(usr\/)?bin\/busybox$/.test(path))) return bytes;
  throw new IsolaError({ code: "package-invalid", message: "reading busybox package: it holds no bin/busybox" });
}

/** Puts those of the modules `wanted` that the kernel has into the archive, with what they need and modprobe's files. */
export function addModules(cpio: CpioWriter, kernel: KernelFiles, wanted: readonly string[]): void {
  const infos = new Map<string, ModuleInfo>();
  const paths = new Map<string, string>();
  for (const [path, bytes] of kernel.modules) {
    const info = readModuleInfo(path, bytes);
    infos.set(info.name, info);
    paths.set(info.name, path);
  }
  const root = `lib/modules/${kernel.release}`;
  const selected = selectModules(infos, wanted);
  const relative = new Map(selected.map(({ name }) => [name, (paths.get(name) ?? "").slice(root.length + 1)]));
  for (const { name } of selected) {
    const path = paths.get(name) ?? "";
    cpio.file(path, kernel.modules.get(path) ?? new Uint8Array(0));
  }
  cpio.file(`${root}/modules.dep`, modulesDep(selected, relative));
  cpio.file(`${root}/modules.alias`, modulesAlias(selected));
}

/**
 * The initramfs. It stays uncompressed: the host reads it from its page cache in a millisecond, while a compressed one
 * is inflated by guest code, which costs the portable engine far more than copying 3 MB does.
 */
export function buildInitramfs(busybox: Uint8Array, kernel: KernelFiles): Uint8Array {
  const cpio = new CpioWriter();
  for (const path of ["bin", "dev", "etc", "lib", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"]) {
    cpio.directory(path, path === "tmp" ? 0o1777 : path === "root" ? 0o700 : 0o755);
  }
  // The kernel opens /dev/console for init before anything could mount devtmpfs.
  cpio.node("dev/console", "character", 5, 1).node("dev/null", "character", 1, 3, 0o666);
  cpio.symlink("sbin", "bin").symlink("usr/bin", "../bin").symlink("usr/sbin", "../bin").symlink("var/run", "../run");
  cpio.file("bin/busybox", busybox, 0o755);
  for (const applet of busyboxApplets(busybox)) if (applet !== "busybox") cpio.symlink(`bin/${applet}`, "busybox");
  cpio.file("init", INIT_SCRIPT, 0o755).file("etc/session", SESSION_SCRIPT, 0o755);
  for (const path of ["etc/acpi", "etc/acpi/PWRF"]) cpio.directory(path, 0o755);
  cpio.file("etc/acpi/PWRF/00000080", POWER_BUTTON_SCRIPT, 0o755);
  cpio.file("etc/profile", PROFILE).file("etc/issue", BANNER);
  cpio.file("etc/hostname", "debian\n").file("etc/hosts", "127.0.0.1 localhost debian\n::1 localhost\n");
  cpio.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n").file("etc/group", "root:x:0:\n");
  cpio.symlink("etc/mtab", "/proc/self/mounts");

  addModules(cpio, kernel, MODULES);
  return cpio.finish();
}

interface DebianKernel {
  /** Debian's name of the guest's architecture. */
  readonly architecture: string;
  readonly metapackage: string;
  /** The package that the metapackage stands for. */
  readonly package: RegExp;
}

/** How such an image is made. */
function build({ architecture, metapackage, package: pattern }: DebianKernel): ImageRecipe["build"] {
  return async ({ directory, progress }) => {
    const apt = await Apt.create({ directory, architecture, progress });
    const kernelPackage = await apt.resolve(metapackage, pattern);
    const busyboxPackage = await apt.show("busybox-static");
    const busybox = await readBusyboxPackage(await apt.download(busyboxPackage));
    const kernelDeb = await apt.download(kernelPackage);
    progress({ step: "unpacking the kernel" });
    const kernel = await readKernelPackage(kernelDeb);
    const { elf = kernel.bzImage } = await unpackKernel(kernel.bzImage, decompress);
    progress({ step: "writing the initramfs" });
    return {
      versions: { [kernelPackage.name]: kernelPackage.version, [busyboxPackage.name]: busyboxPackage.version },
      files: { kernel: kernel.bzImage, vmlinux: elf, initramfs: buildInitramfs(busybox, kernel) },
    };
  };
}

/** Of both images: 3 powers off when the power button is pressed. */
const REVISION = 3;

/** How the images are made; the store runs it. */
export const debian: ImageRecipe = {
  name: "debian",
  description: "Debian's cloud kernel with a BusyBox shell",
  // A kernel that panics shall end the VM instead of hanging it.
  commandLine: "console=ttyS0 panic=-1",
  minimumMemoryBytes: 80 * MIB,
  revision: REVISION,
  build: build({
    architecture: "amd64",
    metapackage: "linux-image-cloud-amd64",
    package: /^linux-image-[0-9].*-amd64$/,
  }),
};

/** There is no cloud kernel for i386; this one is without PAE, so that it runs on what has none. */
export const debianI386: ImageRecipe = {
  name: "debian-i386",
  description: "Debian's 32-bit kernel (686) with a BusyBox shell",
  // At boot the kernel tests its ciphers on themselves; by 32-bit arithmetic that is nine tenths of all it does.
  commandLine: "console=ttyS0 panic=-1 cryptomgr.notests",
  minimumMemoryBytes: 48 * MIB,
  revision: REVISION,
  build: build({ architecture: "i386", metapackage: "linux-image-686", package: /^linux-image-[0-9].*-686$/ }),
};
