/** A fleet on a state folder of its own, and what tests ask of a VM's console. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConsoleAttachment, Fleet } from "../../src/fleet/contract.ts";
import { type FleetOptions, openFleet } from "../../src/fleet/fleet-server.ts";
import { pause, Transcript } from "../guests/transcript.ts";

export interface TestFleet extends AsyncDisposable {
  readonly fleet: Fleet;
  readonly folder: string;
  /** Another server over the same folder, after the first has let go of it. */
  reopen(): Promise<Fleet>;
}

/** Disposing of it kills every VM and removes the folder. */
export async function testFleet(options: Omit<FleetOptions, "stateFolder"> = {}): Promise<TestFleet> {
  const folder = await mkdtemp(join(tmpdir(), "isola-fleet-"));
  let fleet = await openFleet({ ...options, stateFolder: folder });
  return {
    get fleet() {
      return fleet;
    },
    folder,
    async reopen() {
      await fleet.close();
      fleet = await openFleet({ ...options, stateFolder: folder });
      return fleet;
    },
    async [Symbol.asyncDispose]() {
      for (const { id } of await fleet.list()) await fleet.kill(id);
      await fleet.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A VM's console: what it prints is awaited, what it reads is typed. */
export class VmConsole {
  readonly #transcript = new Transcript();
  #attachment: ConsoleAttachment | undefined;

  static async open(fleet: Fleet, vm: string, replayBytes = 1_000_000): Promise<VmConsole> {
    const console = new VmConsole();
    const listener = {
      onData: (bytes: Uint8Array) => console.#transcript.add(bytes),
      onEnd: (reason: string) => console.#transcript.end(reason),
    };
    console.#attachment = await fleet.console(vm, listener, { replayBytes });
    return console;
  }

  get text(): string {
    return this.#transcript.text;
  }

  expect(pattern: RegExp, seconds = 120): Promise<RegExpExecArray> {
    return this.#transcript.expect(pattern, seconds);
  }

  async type(text: string): Promise<void> {
    await this.#attachment?.write(new TextEncoder().encode(text));
  }

  close(): void {
    this.#attachment?.close();
  }
}

/** Waits until `check` holds. */
export async function eventually(what: string, check: () => Promise<boolean>, seconds = 60): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await pause(50);
  }
}
