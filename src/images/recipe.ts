/** What an image is made of, and how it is made. Every recipe gives the same three files. */

import type { ProgressListener } from "./progress.ts";

/**
 * `kernel`: as distributed (bzImage). `vmlinux`: the same, unpacked to an ELF, so that a boot need not unpack it; the
 * same bytes where there is nothing to unpack. `initramfs`: an empty archive for a program that needs none.
 */
export const IMAGE_FILES = ["kernel", "vmlinux", "initramfs"] as const;
export type ImageFile = (typeof IMAGE_FILES)[number];

export interface BuildContext {
  /** An empty directory for the recipe's own use; removed afterwards. */
  readonly directory: string;
  readonly progress: ProgressListener;
}

export interface BuiltImage {
  /** Versions of what went into the image, by package. */
  readonly versions: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<ImageFile, Uint8Array>>;
}

export interface ImageRecipe {
  readonly name: string;
  /** One line for `isola image list`. */
  readonly description: string;
  /** The kernel's command line unless the user appends to it. */
  readonly commandLine: string;
  /** The least guest memory, in bytes, with which it has been seen to come up. */
  readonly minimumMemoryBytes: number;
  /** Counts up when the recipe makes something else of the same packages: an image of another revision is made anew. */
  readonly revision: number;
  build(context: BuildContext): Promise<BuiltImage>;
}
