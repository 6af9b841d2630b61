/** What the command line asks of the store of guest images (images/), so that tests can put another in its place. */

import type { ProgressListener } from "../images/progress.ts";

export interface ImageInfo {
  readonly name: string;
  readonly description: string;
  /** Bytes in the cache; undefined where the image is not there yet. */
  readonly cachedBytes?: number;
  /** Versions of what the cached image is made of, by package. */
  readonly versions?: Readonly<Record<string, string>>;
}

export interface ImageFiles {
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly commandLine: string;
}

export interface ImageStore {
  list(): Promise<readonly ImageInfo[]>;
  /** Fetches and builds the image where the cache lacks it, or anew with `refresh`. */
  pull(name: string, options: { readonly refresh: boolean; readonly progress: ProgressListener }): Promise<ImageInfo>;
  /** The files to boot, fetched first where the cache lacks them. Throws an IsolaError for an unknown name. */
  open(name: string, progress: ProgressListener): Promise<ImageFiles>;
  /** Removes the image from the cache; false where it was not there. */
  remove(name: string): Promise<boolean>;
}
