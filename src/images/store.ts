/**
 * Images kept on this machine, under $XDG_CACHE_HOME/isola/images. [XDG Base Directory Specification 0.8]
 *
 *   images/debian/manifest.json          what the image is; replaced by one rename
 *   images/debian/vmlinux-1f2e3d4c5b6a   files named after their contents; never changed once they have this name
 *   images/debian.lock                   held while an image is made
 *   images/debian.tmp/                   work under way; a leftover is removed by the next pull
 *
 * The manifest is renamed into place last, so an image is there whole or not at all, and replacing one never takes the
 * files away from under a manifest.
 */

import { createHash } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { IsolaError } from "../base/errors.ts";
import { formatSize } from "../base/size.ts";
import { debian, debianI386 } from "./debian.ts";
import { withLock } from "./lock.ts";
import { memtest } from "./memtest.ts";
import type { ProgressListener } from "./progress.ts";
import { IMAGE_FILES, type ImageFile, type ImageRecipe } from "./recipe.ts";

const RECIPES: readonly ImageRecipe[] = [debian, debianI386, memtest];
const MANIFEST_VERSION = 1;
/** A pull takes half a minute on a fast network; another process's is awaited for so long, in milliseconds. */
const PULL_WAIT_MS = 15 * 60 * 1000;

const fileSchema = z.object({
  // A plain name: a manifest must not lead out of its directory.
  file: z.string().regex(/^[a-z]+-[0-9a-f]{12}$/),
  sizeBytes: z.int().positive(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
const manifestSchema = z.object({
  manifest: z.literal(MANIFEST_VERSION),
  name: z.string(),
  /** Of the recipe; the first ones did not say. */
  revision: z.int().default(1),
  created: z.iso.datetime(),
  versions: z.record(z.string(), z.string()),
  files: z.object({ kernel: fileSchema, vmlinux: fileSchema, initramfs: fileSchema }),
});
export type ImageManifest = z.infer<typeof manifestSchema>;

export interface StoredImage {
  readonly manifest: ImageManifest;
  /** Absolute paths. */
  readonly paths: Readonly<Record<ImageFile, string>>;
  readonly commandLine: string;
  readonly minimumMemoryBytes: number;
}

export interface ImageInfo {
  readonly name: string;
  readonly description: string;
  /** Guest memory that it takes at the least. */
  readonly minimumMemoryBytes: number;
  /** Bytes in the cache; undefined where the image is known but not on this machine. */
  readonly cachedBytes?: number;
  /** Versions of what the cached image is made of, by package. */
  readonly versions?: Readonly<Record<string, string>>;
}

/** What a VM boots from. */
export interface ImageContents {
  /** The kernel's ELF. */
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
  readonly minimumMemoryBytes: number;
}

/**
 * Refuses a guest that would come to nothing for want of memory: a kernel that has too little panics or resets, which
 * tells nobody why. @throws IsolaError `memory-too-small`
 */
export function checkImageMemory(name: string, minimumMemoryBytes: number, memoryBytes: number): void {
  if (memoryBytes >= minimumMemoryBytes) return;
  throw new IsolaError({
    code: "memory-too-small",
    message: `starting ${name} with ${formatSize(memoryBytes)} of memory: it needs ${formatSize(minimumMemoryBytes)} at the least; give more (--memory), or your own kernel (--kernel)`,
  });
}

export interface PullOptions {
  /** Make the image anew even where it is on this machine. */
  readonly refresh?: boolean;
  readonly progress?: ProgressListener;
}

export interface FindOptions {
  /** Sizes are always checked; `full` reads every file and checks its hash. */
  readonly verify?: "sizes" | "full";
}

/** ENOTDIR: a part of the path is a file. Who then writes there is told so. */
function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Where images are kept: XDG's cache directory; a relative XDG_CACHE_HOME is invalid by the specification. */
export function defaultImageDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const cache = environment["XDG_CACHE_HOME"] ?? "";
  return join(isAbsolute(cache) ? cache : join(homedir(), ".cache"), "isola", "images");
}

/** Writes and brings to disk, so that a rename that follows cannot survive a power cut without the contents. */
async function writeDurably(path: string, bytes: Uint8Array | string): Promise<void> {
  const file = await open(path, "w", 0o644);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

export class ImageStore {
  readonly directory: string;
  readonly #recipes: readonly ImageRecipe[];

  constructor(directory = defaultImageDirectory(), recipes: readonly ImageRecipe[] = RECIPES) {
    this.directory = directory;
    this.#recipes = recipes;
  }

  /** @throws IsolaError `image-unknown` */
  #recipe(name: string): ImageRecipe {
    const recipe = this.#recipes.find((one) => one.name === name);
    if (recipe !== undefined) return recipe;
    const known = this.#recipes.map((one) => one.name).join(", ");
    throw new IsolaError({
      code: "image-unknown",
      message: `looking up image ${JSON.stringify(name.slice(0, 80))}: no such image; known ones are: ${known}`,
    });
  }

  #damaged(name: string, what: string, cause?: unknown): IsolaError {
    return new IsolaError({
      code: "image-damaged",
      message: `opening image ${name}: ${what}; fetch it again by "isola image pull ${name}"`,
      cause,
    });
  }

  /** The manifest, or undefined where the image is not on this machine. */
  async #manifest(name: string): Promise<ImageManifest | undefined> {
    const path = join(this.directory, name, "manifest.json");
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw this.#damaged(name, `${path} cannot be read`, error);
    }
    try {
      return manifestSchema.parse(JSON.parse(text));
    } catch (error) {
      throw this.#damaged(name, `${path} is no manifest of version ${MANIFEST_VERSION}`, error);
    }
  }

  #info({ name, description, minimumMemoryBytes }: ImageRecipe, manifest: ImageManifest | undefined): ImageInfo {
    if (manifest === undefined) return { name, description, minimumMemoryBytes };
    const cachedBytes = IMAGE_FILES.reduce((sum, file) => sum + manifest.files[file].sizeBytes, 0);
    return { name, description, minimumMemoryBytes, cachedBytes, versions: manifest.versions };
  }

  /** Every known image, here or not. A damaged one is listed as not here. */
  async list(): Promise<ImageInfo[]> {
    return Promise.all(
      this.#recipes.map(async (recipe) => this.#info(recipe, await this.#manifest(recipe.name).catch(() => undefined))),
    );
  }

  /**
   * An image on this machine; undefined where it has not been pulled, or was made by another revision of its recipe.
   * @throws IsolaError `image-unknown`, `image-damaged`
   */
  async find(name: string, { verify = "sizes" }: FindOptions = {}): Promise<StoredImage | undefined> {
    const recipe = this.#recipe(name);
    const manifest = await this.#manifest(name);
    if (manifest === undefined || manifest.revision !== recipe.revision) return undefined;
    const path = (file: ImageFile) => join(this.directory, name, manifest.files[file].file);
    for (const file of IMAGE_FILES) {
      const wanted = manifest.files[file];
      const found = await stat(path(file)).catch((error: unknown) => {
        throw this.#damaged(name, `${path(file)} is missing`, error);
      });
      if (found.size !== wanted.sizeBytes) {
        throw this.#damaged(name, `${path(file)} has ${found.size} bytes, wanted ${wanted.sizeBytes}`);
      }
      if (verify === "full" && sha256(await readFile(path(file))) !== wanted.sha256) {
        throw this.#damaged(name, `the SHA-256 of ${path(file)} is not ${wanted.sha256}`);
      }
    }
    const paths = { kernel: path("kernel"), vmlinux: path("vmlinux"), initramfs: path("initramfs") };
    const { commandLine, minimumMemoryBytes } = recipe;
    return { manifest, paths, commandLine, minimumMemoryBytes };
  }

  /** The image's files, made first where they are not on this machine. Throws as `open` does. */
  async locate(name: string, progress: ProgressListener = () => undefined): Promise<StoredImage> {
    return (await this.find(name)) ?? (await this.#obtain(name, { progress }));
  }

  /**
   * The bytes to boot from, made first where they are not on this machine.
   * @throws IsolaError `image-unknown`, `image-damaged`, and those of `pull`
   */
  async open(name: string, progress: ProgressListener = () => undefined): Promise<ImageContents> {
    const read = async ({ paths, commandLine, minimumMemoryBytes }: StoredImage): Promise<ImageContents> => {
      const [kernel, initrd] = await Promise.all([readFile(paths.vmlinux), readFile(paths.initramfs)]);
      return { kernel, initrd, commandLine, minimumMemoryBytes };
    };
    const image = await this.locate(name, progress);
    try {
      return await read(image);
    } catch (error) {
      // A pull that ended between the two steps has put new files in place of those.
      const again = isMissing(error) ? await this.find(name) : undefined;
      if (again === undefined) throw this.#damaged(name, "its files cannot be read", error);
      return read(again);
    }
  }

  /**
   * Makes the image from its packages unless it is on this machine and sound. One that is being replaced stays usable
   * until the new one is complete. A process that finds another at work waits for it.
   * @throws IsolaError `image-unknown`, `cache-unwritable`, `locked`, and the recipe's
   */
  async pull(name: string, options: PullOptions = {}): Promise<ImageInfo> {
    const { manifest } = await this.#obtain(name, options);
    return this.#info(this.#recipe(name), manifest);
  }

  async #obtain(name: string, { refresh = false, progress = () => undefined }: PullOptions): Promise<StoredImage> {
    const recipe = this.#recipe(name);
    await this.#writable(() => mkdir(this.directory, { recursive: true }));
    let waited = false;
    const waiting = (holder: number) => {
      waited = true;
      progress({ step: `waiting for process ${holder}, which pulls the same image` });
    };
    const options = { action: `pulling image ${name}`, waitMs: PULL_WAIT_MS, waiting };
    return this.#writable(() =>
      withLock(join(this.directory, `${name}.lock`), options, async () => {
        // What another process has just made is as fresh as what this one would make. A damaged image is made anew.
        const usable = !refresh || waited;
        const here = usable ? await this.find(name, { verify: "full" }).catch(() => undefined) : undefined;
        return here ?? this.#build(recipe, progress);
      }),
    );
  }

  async #build(recipe: ImageRecipe, progress: ProgressListener): Promise<StoredImage> {
    const { name } = recipe;
    const work = join(this.directory, `${name}.tmp`);
    const home = join(this.directory, name);
    await rm(work, { recursive: true, force: true });
    try {
      await mkdir(join(work, "build"), { recursive: true });
      const { versions, files } = await recipe.build({ directory: join(work, "build"), progress });
      progress({ step: "storing the image" });
      await mkdir(home, { recursive: true });
      const entries = await Promise.all(
        IMAGE_FILES.map(async (file) => {
          const bytes = files[file];
          const hash = sha256(bytes);
          const stored = `${file}-${hash.slice(0, 12)}`;
          await writeDurably(join(work, stored), bytes);
          await rename(join(work, stored), join(home, stored));
          return [file, { file: stored, sizeBytes: bytes.length, sha256: hash }] as const;
        }),
      );
      const manifest: ImageManifest = {
        manifest: MANIFEST_VERSION,
        name,
        revision: recipe.revision,
        created: new Date().toISOString(),
        versions: { ...versions },
        files: Object.fromEntries(entries) as ImageManifest["files"],
      };
      // The files' names must be on disk before the manifest that speaks of them.
      await syncDirectory(home);
      await writeDurably(join(work, "manifest.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
      await rename(join(work, "manifest.json"), join(home, "manifest.json"));
      await syncDirectory(home);
      const kept = new Set(["manifest.json", ...entries.map(([, { file }]) => file)]);
      for (const file of await readdir(home)) if (!kept.has(file)) await rm(join(home, file), { force: true });
    } finally {
      await rm(work, { recursive: true, force: true });
    }
    const image = await this.find(name, { verify: "full" });
    if (image === undefined) throw this.#damaged(name, "it is gone right after it was made");
    return image;
  }

  /** Removes the image; false where there was none. @throws IsolaError `image-unknown`, `locked` */
  async remove(name: string): Promise<boolean> {
    this.#recipe(name);
    const home = join(this.directory, name);
    const exists = await stat(home).then(
      () => true,
      () => false,
    );
    if (!exists) return false;
    const lock = join(this.directory, `${name}.lock`);
    return this.#writable(() =>
      withLock(lock, { action: `removing image ${name}`, waitMs: 0 }, async () => {
        // Without its manifest the image is gone; what a failure leaves behind is no longer one.
        await rm(join(home, "manifest.json"), { force: true });
        await rm(home, { recursive: true, force: true });
        return true;
      }),
    );
  }

  /** Turns the host's refusals to write into one line. */
  async #writable<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      const { code, path } = cause as NodeJS.ErrnoException;
      if (cause instanceof IsolaError || code === undefined) throw cause;
      const reasons: Record<string, string> = {
        ENOSPC: "the disk is full",
        EDQUOT: "the disk quota is used up",
        EACCES: "permission denied",
        EPERM: "permission denied",
        EROFS: "the file system is read-only",
        ENOTDIR: "a part of the path is no directory",
      };
      throw new IsolaError({
        code: "cache-unwritable",
        message:
          `writing the image cache ${path ?? this.directory}: ${reasons[code] ?? code}; ` +
          "free space, or set XDG_CACHE_HOME to a directory you may write",
        cause,
      });
    }
  }
}
