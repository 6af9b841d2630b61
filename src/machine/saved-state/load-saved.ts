/** Puts a saved machine into a new one: all or nothing, since a new machine that refuses is thrown away. */

import { unloadable } from "../../cpu/wasm/loadable-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { BlockBackend, DiskInfo } from "../../devices/virtio/virtio-blk.ts";
import type { Board } from "../board.ts";
import type { EngineName } from "../vm-contract.ts";
import { savedStateMismatch } from "./errors.ts";
import type { OpenedState } from "./manifest.ts";

/** Sees that the disks given are those of the state, as far as that can be seen. @throws IsolaError `saved-state-mismatch` */
export function checkDisks(wanted: readonly DiskInfo[], given: readonly BlockBackend[]): void {
  if (wanted.length !== given.length) {
    throw savedStateMismatch(
      `it has ${wanted.length} disks, ${given.length} are given; give those that it was saved with`,
    );
  }
  for (const [index, { sectors, readOnly, serial }] of wanted.entries()) {
    const { info } = given[index] ?? {};
    if (info?.sectors === sectors && info.readOnly === readOnly && info.serial === serial) continue;
    const told = (disk: DiskInfo | undefined): string =>
      disk === undefined
        ? "none"
        : `${disk.sectors} sectors${disk.readOnly ? ", read-only" : ""}, serial "${disk.serial}"`;
    throw savedStateMismatch(
      `disk ${index + 1} has ${told(info)}, the state ${told({ sectors, readOnly, serial })}; give the disks in their order`,
    );
  }
}

/**
 * Fills RAM and the board's devices; gives the processors' states. It can be done once, since it reads the state's RAM.
 * @throws IsolaError `saved-state-invalid`, `saved-state-mismatch`, `state-version`, `state-invalid`
 */
export async function loadSaved(
  saved: OpenedState,
  engine: EngineName,
  memory: GuestMemory,
  board: Board,
): Promise<readonly CpuState[]> {
  const { machine, codec, reader } = saved;
  const { vcpus } = machine;
  if (engine === "wasm" && vcpus.length > 1) {
    throw savedStateMismatch(
      `it has ${vcpus.length} processors, the portable engine runs one; restore it by --engine kvm`,
    );
  }
  for (const state of engine === "wasm" ? vcpus : []) {
    const reason = unloadable(state, machine.cpu.features);
    if (reason !== undefined) throw savedStateMismatch(`the processor cannot go on from it: ${reason}`);
  }
  board.load(machine.devices);
  await reader.ram(memory, codec);
  return vcpus;
}
