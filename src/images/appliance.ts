/**
 * The image in which isola is the host: a Debian kernel with KVM, Node, isola's own code, and src/appliance as process 1.
 * It boots wherever a kernel and an initramfs do; one without a command of its own would have nothing to do.
 */

import type { ApplianceConfiguration } from "../appliance/main.ts";
import { Apt } from "./apt.ts";
import { CpioWriter } from "./cpio.ts";
import { addModules, type KernelFiles, readKernelPackage } from "./debian.ts";
import { type ImageFileEntry, packageFiles, PROGRAM_ROOT, runtimeFiles, sourceFiles } from "./program-files.ts";
import type { ProgressListener } from "./progress.ts";

/** What a host for virtual machines needs of the kernel: KVM, and drivers of disks and networks. */
export const APPLIANCE_MODULES = [
  "kvm_amd",
  "kvm_intel",
  "virtio_pci",
  "virtio_blk",
  "virtio_net",
  "virtio_rng",
  "nvme",
  "tun",
  "vhost_vsock",
];

export interface ApplianceContents {
  readonly kernel: KernelFiles;
  /** The checkout that isola runs from. */
  readonly root: string;
  readonly configuration: ApplianceConfiguration;
  /** More files; a later one replaces an earlier one at the same place. */
  readonly files?: Iterable<ImageFileEntry>;
}

/** Debian's cloud kernel with its modules, KVM's included. */
export async function fetchApplianceKernel(directory: string, progress?: ProgressListener): Promise<KernelFiles> {
  const apt = await Apt.create({ directory, ...(progress === undefined ? {} : { progress }) });
  const record = await apt.resolve("linux-image-cloud-amd64", /^linux-image-[0-9].*-amd64$/);
  return await readKernelPackage(await apt.download(record), () => true);
}

/** The initramfs. */
export function buildAppliance({ kernel, root, configuration, files = [] }: ApplianceContents): Uint8Array {
  const cpio = new CpioWriter();
  for (const path of ["dev", "etc", "proc", "root", "run", "sys", "tmp"]) {
    cpio.directory(path, path === "tmp" ? 0o1777 : path === "root" ? 0o700 : 0o755);
  }
  // The kernel opens /dev/console for its first process before anything could mount devtmpfs.
  cpio.node("dev/console", "character", 5, 1).node("dev/null", "character", 1, 3, 0o666);
  cpio.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n").file("etc/group", "root:x:0:\nkvm:x:104:\n");
  cpio.file("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
  cpio.file("etc/isola/appliance.json", JSON.stringify(configuration));
  // A script, so that the kernel's command line need not say more than the default: /init.
  cpio.file("init", `#!/bin/node\nimport("${PROGRAM_ROOT}/dist/appliance/main.js");\n`, 0o755);
  const all = [...runtimeFiles(), ...packageFiles(root), ...sourceFiles(root, "src"), ...files];
  for (const { path, contents, executable = false } of all) {
    cpio.file(path.replace(/^\/+/, ""), contents, executable ? 0o755 : 0o644);
  }
  addModules(cpio, kernel, APPLIANCE_MODULES);
  return cpio.finish();
}
