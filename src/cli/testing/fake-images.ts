/** A store of two images in memory: `echo`, which is there, and `later`, which must be fetched. */

import { IsolaError } from "../../base/errors.ts";
import type { ProgressListener } from "../../images/progress.ts";
import type { ImageContents, ImageInfo, PullOptions } from "../../images/store.ts";
import type { Images } from "../host.ts";

const MINIMUM_MEMORY_BYTES = 4 * 2 ** 20;
const KERNELS: Readonly<Record<string, string>> = { echo: "print:hello echo", later: "print:late" };

export class FakeImages implements Images {
  readonly #cached = new Set(["echo"]);

  async list(): Promise<ImageInfo[]> {
    return Object.keys(KERNELS).map((name) => this.#info(name));
  }

  async pull(name: string, { progress }: PullOptions): Promise<ImageInfo> {
    this.#kernel(name);
    progress?.({ step: `downloading ${name}`, fraction: 0.5, totalBytes: 2048 });
    this.#cached.add(name);
    return this.#info(name);
  }

  async open(name: string, progress: ProgressListener = () => undefined): Promise<ImageContents> {
    const kernel = this.#kernel(name);
    if (!this.#cached.has(name)) await this.pull(name, { progress });
    return {
      kernel,
      initrd: new Uint8Array([0]),
      commandLine: "console=ttyS0",
      minimumMemoryBytes: MINIMUM_MEMORY_BYTES,
    };
  }

  async remove(name: string): Promise<boolean> {
    return this.#cached.delete(name);
  }

  #info(name: string): ImageInfo {
    const info = { name, description: `the image ${name}`, minimumMemoryBytes: MINIMUM_MEMORY_BYTES };
    return this.#cached.has(name) ? { ...info, cachedBytes: 1024 } : info;
  }

  #kernel(name: string): Uint8Array {
    const text = KERNELS[name];
    if (text !== undefined) return new TextEncoder().encode(text);
    throw new IsolaError({ code: "image-unknown", message: `cannot open the image ${name}: there is none` });
  }
}
