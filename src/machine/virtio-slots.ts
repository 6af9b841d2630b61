/**
 * The virtio functions of a board, one a PCI slot from 1 on, as every thread sees them. There is no firmware that would
 * place their BARs, so they have places from power-on, and decode memory as soon as a driver enables that; interrupt
 * pin A of a slot is the I/O APIC's input that the ACPI tables name.
 */

import type { GuestClock } from "../cpu/vcpu.ts";
import type { Device } from "../devices/device.ts";
import type { Interrupts } from "../devices/interrupts/fabric.ts";
import { gsiOfPin, PCI_WINDOWS, type PciFunctions } from "../devices/pci/pci-host.ts";
import type { StateArena, StateSpec } from "../devices/state.ts";
import type { VirtioDefinition, VirtioDevice } from "../devices/virtio/define-virtio.ts";
import { Doorbells } from "../devices/virtio/doorbells.ts";
import { VIRTIO_BAR } from "../devices/virtio/transport.ts";
import { type BlockBackend, type DiskInfo, virtioBlk } from "../devices/virtio/virtio-blk.ts";
import { type EntropySource, virtioRng } from "../devices/virtio/virtio-rng.ts";

const FIRST_SLOT = 1;
/** MSI addresses: 0xfeexxxxx. [SDM 3 §11.11.1] */
const MSI_PREFIX = 0xfee;

export interface VirtioSlotsOptions {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  readonly fabric: Interrupts;
  readonly functions: PciFunctions;
  readonly disks?: readonly DiskInfo[];
  readonly entropy?: boolean;
}

export class VirtioSlots {
  readonly doorbells: Doorbells;
  readonly disks: readonly VirtioDevice<BlockBackend>[];
  readonly entropy: VirtioDevice<EntropySource> | undefined;
  readonly #options: VirtioSlotsOptions;
  #count = 0;

  constructor(options: VirtioSlotsOptions) {
    const { arena, disks = [], entropy = false } = options;
    this.#options = options;
    this.doorbells = new Doorbells(arena, disks.length + 1);
    this.disks = disks.map((info, index) => this.#place(virtioBlk, info, `${virtioBlk.name}${index}`));
    this.entropy = entropy ? this.#place(virtioRng, null, virtioRng.name) : undefined;
  }

  #place<S extends StateSpec, Info, Port, Q extends string>(
    definition: VirtioDefinition<S, Info, Port, Q>,
    info: Info,
    name: string,
  ): VirtioDevice<Port> {
    const { arena, clock, fabric, functions } = this.#options;
    const index = this.#count++;
    const slot = FIRST_SLOT + index;
    const made = definition.instantiate({
      arena,
      clock,
      info,
      name,
      irq: fabric.line(gsiOfPin(slot, 0)),
      port: {
        work: this.doorbells.device(index),
        barAddress: PCI_WINDOWS[0].start + index * VIRTIO_BAR.sizeBytes,
        sendMsi(address, data) {
          if (address >>> 20 === MSI_PREFIX) fabric.sendMsi(address, data);
        },
      },
    });
    functions.attach(0, slot, 0, made.device, [VIRTIO_BAR]);
    return made;
  }

  get all(): readonly Pick<VirtioDevice<never>, "device" | "work">[] {
    return this.entropy === undefined ? this.disks : [...this.disks, this.entropy];
  }

  get devices(): readonly Device[] {
    return this.all.map(({ device }) => device);
  }

  /** After loading a state: doorbells are no part of it, so every queue is looked at. */
  resume(): void {
    for (const { work } of this.all) work.kickAll();
  }
}
