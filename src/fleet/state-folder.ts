/**
 * The folder in which a server keeps its state, and the lock by which one server at a time has it.
 *
 *   fleet.db          the record
 *   server.lock       names the server that has the folder
 *   programs/         the program of VMs' processes, for them to read
 *   vms/ID/           a VM's control socket, console log, cause of its last end, saved state
 *   disks/ID/         its disks
 */

import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { chmod, mkdir, open, readdir, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { withLock } from "../images/lock.ts";
import { IsolaError } from "../base/errors.ts";
import { FleetError } from "./fleet-error.ts";
import { diskPath, VM_FILES } from "./vm-spawn.ts";
import type { DiskSpec } from "./vm-spec.ts";

/** `/var/lib/isola` for root; else `$XDG_STATE_HOME/isola`. [XDG Base Directory Specification 0.8] */
export function defaultStateFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const state = environment["XDG_STATE_HOME"] ?? "";
  if (isAbsolute(state)) return join(state, "isola");
  return process.getuid?.() === 0 ? "/var/lib/isola" : join(homedir(), ".local", "state", "isola");
}

/** Brings a file, or a folder's names, to the disk. */
function syncPath(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const ID = /^[0-9a-f]{16}$/;

export class StateFolder {
  readonly path: string;
  readonly #release: () => void;
  readonly #released: Promise<void>;

  private constructor(path: string, release: () => void, released: Promise<void>) {
    this.path = path;
    this.#release = release;
    this.#released = released;
  }

  /** Makes the folder where it is missing, and takes it. @throws FleetError `in-use`, `host-failed` */
  static async open(path: string): Promise<StateFolder> {
    try {
      await mkdir(path, { recursive: true });
      // VMs with users of their own reach their program in it, and nothing else.
      await chmod(path, 0o711);
      for (const [name, mode] of [
        ["vms", 0o700],
        ["disks", 0o700],
        ["programs", 0o755],
      ] as const) {
        await mkdir(join(path, name), { recursive: true, mode });
        await chmod(join(path, name), mode);
      }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new FleetError({
        code: "host-failed",
        message: `opening the state folder ${path}: ${code ?? String(cause)}; wanted: a folder of yours; choose another with --state`,
        cause,
      });
    }
    const taken = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const options = { action: `serving the state folder ${path}`, waitMs: 0 };
    const released = withLock(join(path, "server.lock"), options, async () => {
      taken.resolve();
      await release.promise;
    }).catch((cause: unknown) => {
      if (!(cause instanceof IsolaError)) throw cause;
      throw new FleetError({ code: "in-use", message: cause.message, cause });
    });
    await Promise.race([taken.promise, released]);
    return new StateFolder(path, release.resolve, released);
  }

  async close(): Promise<void> {
    this.#release();
    await this.#released;
  }

  get record(): string {
    return join(this.path, "fleet.db");
  }
  get programs(): string {
    return join(this.path, "programs");
  }
  get disks(): string {
    return join(this.path, "disks");
  }
  vm(id: string): string {
    return join(this.path, "vms", id);
  }
  disksOf(id: string): string {
    return join(this.disks, id);
  }

  /** Whether a VM's state is saved. */
  isSaved(id: string): boolean {
    return existsSync(join(this.vm(id), VM_FILES.saved));
  }

  /** Takes a state that a VM's process has written whole for the VM's own, durably. */
  keepSaved(id: string): void {
    const folder = this.vm(id);
    const written = join(folder, VM_FILES.saving);
    syncPath(written);
    renameSync(written, join(folder, VM_FILES.saved));
    syncPath(folder);
  }

  /** Drops a saved state; harmless where there is none. */
  dropSaved(id: string): void {
    rmSync(join(this.vm(id), VM_FILES.saved), { force: true });
  }

  /** Folders and disks of a VM; those that are there stay as they are. */
  async make(id: string, disks: readonly DiskSpec[]): Promise<void> {
    await mkdir(this.vm(id), { recursive: true, mode: 0o700 });
    await mkdir(this.disksOf(id), { recursive: true, mode: 0o700 });
    await this.shape(id, disks);
  }

  /** Makes and grows disks to their sizes, sparse; removes those that are not named. */
  async shape(id: string, disks: readonly DiskSpec[]): Promise<void> {
    const folder = this.disksOf(id);
    for (const { name, sizeBytes } of disks) {
      await using file = await open(diskPath(folder, name), "a", 0o600);
      if ((await file.stat()).size < sizeBytes) await file.truncate(sizeBytes);
      await file.sync();
    }
    const kept = new Set(disks.map(({ name }) => diskPath(folder, name)));
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      if (!kept.has(path.replace(/\.lock(\.r-.*)?$/, ""))) await rm(path, { force: true });
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.vm(id), { recursive: true, force: true });
    await rm(this.disksOf(id), { recursive: true, force: true });
  }

  /** Removes folders of VMs that the record does not know: left by a removal, or by a making that was interrupted. */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    for (const kind of ["vms", "disks"]) {
      for (const name of await readdir(join(this.path, kind))) {
        if (ID.test(name) && !known.has(name)) await rm(join(this.path, kind, name), { recursive: true, force: true });
      }
    }
  }
}
