/** Puts a saved machine into a new one: all or nothing, since a new machine that refuses is thrown away. */

import { unloadable } from "../../cpu/wasm/loadable-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { BlockBackend, DiskInfo } from "../../devices/virtio/virtio-blk.ts";
import type { Board } from "../board.ts";
import type { OutsideMachine } from "../outside-machine.ts";
import type { EngineName } from "../vm-contract.ts";
import { savedStateMismatch } from "./errors.ts";
import type { OpenedState, SavedMachine } from "./manifest.ts";

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

/** Sees that the engine can go on from the processors' states, as far as that can be seen before it is tried. */
function checkProcessors({ vcpus, cpu }: SavedMachine, engine: EngineName): void {
  if (engine === "wasm" && vcpus.length > 1) {
    throw savedStateMismatch(
      `it has ${vcpus.length} processors, the portable engine runs one; restore it by --engine kvm`,
    );
  }
  for (const [index, state] of vcpus.entries()) {
    const reason = unloadable(state, cpu.features, index === 0);
    if (reason !== undefined) throw savedStateMismatch(`the processor cannot go on from it: ${reason}`);
  }
}

/** What a saved machine is put into. */
export interface LoadTarget {
  readonly engine: EngineName;
  readonly memory: GuestMemory;
  readonly board: Board;
  readonly outside?: OutsideMachine;
}

/**
 * Fills RAM and devices, and the processors too where the engine has them in its own place; gives their states. It can
 * be done once, since it reads the state's RAM.
 * @throws IsolaError `saved-state-invalid`, `saved-state-mismatch`, `state-version`, `state-invalid`; what the engine
 * says of a state that it does not take
 */
export async function loadSaved(
  { machine, codec, reader }: OpenedState,
  { engine, memory, board, outside }: LoadTarget,
): Promise<readonly CpuState[]> {
  const { vcpus, clock, devices } = machine;
  checkProcessors(machine, engine);
  const parts = outside?.restore(devices);
  board.load(parts?.others ?? devices);
  await reader.ram(memory, codec);
  parts?.settle({ vcpus, levels: board.fabric.levels, now: clock.now });
  return vcpus;
}
