/** What a VM boots from, as paths on this host: an image's files, the user's own, or both. */

import { stat } from "node:fs/promises";
import { formatSize } from "../base/size.ts";
import type { ProgressListener } from "../images/progress.ts";
import type { ImageStore } from "../images/store.ts";
import { FleetError } from "./fleet-error.ts";
import type { VmSpec } from "./vm-spec.ts";

export interface BootFiles {
  readonly kernel: string;
  readonly initrd: string | null;
  readonly modules: readonly { readonly path: string; readonly commandLine: string }[];
  readonly commandLine: string;
}

/** No kernel comes near: a vmlinux with all its debugging information has about 1 GiB. */
const KERNEL_LIMIT_BYTES = 2 ** 31;
const SERIAL_CONSOLE = "console=ttyS0";

async function check(spec: VmSpec, what: string, path: string, limit: number): Promise<void> {
  const refuse = (problem: string, cause?: unknown): FleetError =>
    new FleetError({
      code: "invalid-spec",
      message: `cannot start ${spec.name}: its ${what} ${path} ${problem}`,
      cause,
    });
  const found = await stat(path).catch((cause: unknown) => {
    throw refuse(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`, cause);
  });
  if (!found.isFile()) throw refuse("is no regular file");
  if (found.size === 0) throw refuse("is empty");
  if (found.size > limit) throw refuse(`has ${formatSize(found.size)}; wanted: at most ${formatSize(limit)}`);
}

/** Fetches the image where it is not on this machine. @throws FleetError `invalid-spec`; IsolaErrors of the store */
export async function bootFiles(
  spec: VmSpec,
  images: Pick<ImageStore, "locate">,
  progress: ProgressListener,
): Promise<BootFiles> {
  const image = spec.image === null ? undefined : await images.locate(spec.image, progress);
  const kernel = spec.kernel ?? image?.paths.vmlinux ?? "";
  if (spec.kernel !== null) await check(spec, "kernel", spec.kernel, KERNEL_LIMIT_BYTES);
  for (const { path } of spec.initrds) await check(spec, "initrd", path, spec.memoryBytes);
  const base = image?.commandLine ?? (/(^|\s)console=/.test(spec.append) ? "" : SERIAL_CONSOLE);
  return {
    kernel,
    initrd: spec.initrds.length === 0 ? (image?.paths.initramfs ?? null) : null,
    modules: spec.initrds,
    commandLine: [base, spec.append].filter((part) => part !== "").join(" "),
  };
}
