/** The store of guest images on this machine (images/store.ts), as the commands see it. */

import { readFile } from "node:fs/promises";
import type { ProgressListener } from "../images/progress.ts";
import { type ImageListing, ImageStore as Cache, type StoredImage } from "../images/store.ts";
import type { ImageFiles, ImageInfo, ImageStore } from "./image-store.ts";

function infoOf({ name, description, manifest, sizeBytes }: ImageListing): ImageInfo {
  if (manifest === undefined) return { name, description };
  return { name, description, cachedBytes: sizeBytes, versions: manifest.versions };
}

export class LocalImages implements ImageStore {
  readonly #cache = new Cache();

  async list(): Promise<ImageInfo[]> {
    return (await this.#cache.list()).map(infoOf);
  }

  async pull(name: string, options: { refresh: boolean; progress: ProgressListener }): Promise<ImageInfo> {
    await this.#fetched(name, options);
    const listing = (await this.#cache.list()).find((image) => image.name === name);
    return listing === undefined ? { name, description: "" } : infoOf(listing);
  }

  async open(name: string, progress: ProgressListener): Promise<ImageFiles> {
    const { paths, commandLine } = await this.#fetched(name, { refresh: false, progress });
    // The unpacked kernel, so that a start need not unpack it.
    const [kernel, initrd] = await Promise.all([readFile(paths.vmlinux), readFile(paths.initramfs)]);
    return { kernel, initrd, commandLine };
  }

  remove(name: string): Promise<boolean> {
    return this.#cache.remove(name);
  }

  async #fetched(name: string, options: { refresh: boolean; progress: ProgressListener }): Promise<StoredImage> {
    const stored = options.refresh ? undefined : await this.#cache.open(name);
    return stored ?? (await this.#cache.pull(name, { progress: options.progress }));
  }
}
