/**
 * The in-kernel interrupt controllers and interval timer of a VM, as a board's wires reach them. [kvm api §4.24-4.26,
 * §4.52, §4.69-4.72] The descriptor is the process's, so every thread makes its own object over it.
 */

import { check, type Sys } from "../../sys/sys.ts";
import {
  KVM_CLOCK_DATA,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_PIT2,
  KVM_GET_CLOCK,
  KVM_GET_IRQCHIP,
  KVM_GET_PIT2,
  KVM_IRQ_LEVEL,
  KVM_IRQ_LINE,
  KVM_IRQ_ROUTING,
  KVM_IRQ_ROUTING_ENTRY,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQCHIP,
  KVM_IRQCHIP_STATE,
  KVM_MSI,
  KVM_PIT_CONFIG,
  KVM_PIT_FLAGS_HPET_LEGACY,
  KVM_PIT_SPEAKER_DUMMY,
  KVM_PIT_STATE2,
  KVM_SET_CLOCK,
  KVM_SET_GSI_ROUTING,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_IRQCHIP,
  KVM_SET_PIT2,
  KVM_SET_TSS_ADDR,
  KVM_SIGNAL_MSI,
} from "./abi.ts";

/** Pages that Intel's processors need for real mode: below the last 16 KiB under 4 GiB, where nothing else lies. */
const IDENTITY_MAP_ADDRESS = 0xfeffc000;
const TSS_ADDRESS = 0xfeffd000;

const IOAPIC_PINS = 24;
/**
 * ISA interrupt 0 is the board's GSI 2, and GSI 0 for the kernel's own interval timer: both lead to the same inputs.
 * An acknowledgement goes back to the GSI that names its input last, and without one the timer gives no second
 * interrupt: GSI 0 is that. [Linux arch/x86/kvm/i8254.c, pit_do_work; virt/kvm/irqchip.c, setup_routing_entry]
 */
const TIMER_GSIS = [2, 0] as const;

/** Creates the controllers and the timer, and connects the board's GSIs. Before the first vCPU. */
export function createInterrupts(sys: Sys, vm: number): void {
  check(sys.ioctl(vm, KVM_SET_TSS_ADDR, BigInt(TSS_ADDRESS)), "reserve the VM's TSS pages");
  const identity = new BigUint64Array(16);
  identity[0] = BigInt(IDENTITY_MAP_ADDRESS);
  // SAFETY, for all calls of this file: each argument is the address of a live buffer of the size that the request
  // names; the kernel copies during the call.
  check(sys.ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, sys.addressOf(identity)), "reserve the VM's identity map");
  check(sys.ioctl(vm, KVM_CREATE_IRQCHIP, 0n), "create the VM's interrupt controllers");
  const pit = new DataView(new ArrayBuffer(KVM_PIT_CONFIG.size));
  pit.setUint32(KVM_PIT_CONFIG.offset.flags, KVM_PIT_SPEAKER_DUMMY, true);
  check(sys.ioctl(vm, KVM_CREATE_PIT2, sys.addressOf(pit)), "create the VM's interval timer");
  const routing = routingTable();
  check(sys.ioctl(vm, KVM_SET_GSI_ROUTING, sys.addressOf(routing)), "connect the VM's interrupt lines");
}

interface Route {
  readonly gsi: number;
  readonly irqchip: number;
  readonly pin: number;
}

function routes(): Route[] {
  const all: Route[] = TIMER_GSIS.flatMap((gsi) => [
    { gsi, irqchip: KVM_IRQCHIP.PIC_MASTER, pin: 0 },
    { gsi, irqchip: KVM_IRQCHIP.IOAPIC, pin: 2 },
  ]);
  for (let gsi = 1; gsi < IOAPIC_PINS; gsi++) {
    if (gsi === 2) continue;
    all.push({ gsi, irqchip: KVM_IRQCHIP.IOAPIC, pin: gsi });
    if (gsi < 8) all.push({ gsi, irqchip: KVM_IRQCHIP.PIC_MASTER, pin: gsi });
    else if (gsi < 16) all.push({ gsi, irqchip: KVM_IRQCHIP.PIC_SLAVE, pin: gsi - 8 });
  }
  return all;
}

function routingTable(): DataView {
  const entries = routes();
  const table = new DataView(new ArrayBuffer(KVM_IRQ_ROUTING.size + entries.length * KVM_IRQ_ROUTING_ENTRY.size));
  table.setUint32(KVM_IRQ_ROUTING.offset.count, entries.length, true);
  for (const [index, { gsi, irqchip, pin }] of entries.entries()) {
    const at = KVM_IRQ_ROUTING.size + index * KVM_IRQ_ROUTING_ENTRY.size;
    table.setUint32(at + KVM_IRQ_ROUTING_ENTRY.offset.gsi, gsi, true);
    table.setUint32(at + KVM_IRQ_ROUTING_ENTRY.offset.type, KVM_IRQ_ROUTING_IRQCHIP, true);
    table.setUint32(at + KVM_IRQ_ROUTING_ENTRY.offset.irqchip, irqchip, true);
    table.setUint32(at + KVM_IRQ_ROUTING_ENTRY.offset.pin, pin, true);
  }
  return table;
}

export class KvmInterrupts {
  readonly #sys: Sys;
  readonly #vm: number;
  readonly #level = new DataView(new ArrayBuffer(KVM_IRQ_LEVEL.size));
  readonly #levelAddress: bigint;
  readonly #msi = new DataView(new ArrayBuffer(KVM_MSI.size));
  readonly #msiAddress: bigint;

  /** `vm` is a VM's descriptor, whose owner keeps it open. */
  constructor(sys: Sys, vm: number) {
    this.#sys = sys;
    this.#vm = vm;
    this.#levelAddress = sys.addressOf(this.#level);
    this.#msiAddress = sys.addressOf(this.#msi);
  }

  setLine(gsi: number, level: boolean): void {
    this.#level.setUint32(KVM_IRQ_LEVEL.offset.irq, gsi, true);
    this.#level.setUint32(KVM_IRQ_LEVEL.offset.level, level ? 1 : 0, true);
    check(this.#sys.ioctl(this.#vm, KVM_IRQ_LINE, this.#levelAddress), `set interrupt line ${gsi}`);
  }

  sendMsi(address: number, data: number): void {
    this.#msi.setUint32(KVM_MSI.offset.addressLow, address, true);
    this.#msi.setUint32(KVM_MSI.offset.data, data, true);
    // A message to no processor, or of a vector that there is not, is lost as on a bus.
    this.#sys.ioctl(this.#vm, KVM_SIGNAL_MSI, this.#msiAddress);
  }

  replaceTimer(replaced: boolean): void {
    const state = this.readTimer();
    const flags = state.getUint32(KVM_PIT_STATE2.offset.flags, true);
    const next = replaced ? flags | KVM_PIT_FLAGS_HPET_LEGACY : flags & ~KVM_PIT_FLAGS_HPET_LEGACY;
    if (next === flags) return;
    state.setUint32(KVM_PIT_STATE2.offset.flags, next, true);
    this.writeTimer(state);
  }

  /** The interval timer, a KVM_PIT_STATE2. */
  readTimer(): DataView {
    const state = new DataView(new ArrayBuffer(KVM_PIT_STATE2.size));
    check(this.#sys.ioctl(this.#vm, KVM_GET_PIT2, this.#sys.addressOf(state)), "read the VM's interval timer");
    return state;
  }
  /** Every counter that has a count begins it anew. */
  writeTimer(state: DataView): void {
    check(this.#sys.ioctl(this.#vm, KVM_SET_PIT2, this.#sys.addressOf(state)), "write the VM's interval timer");
  }

  /** A KVM_PIC_STATE or KVM_IOAPIC_STATE, live until it is given to `writeChip`. */
  readChip(chip: number): DataView {
    const block = new DataView(new ArrayBuffer(KVM_IRQCHIP_STATE.size));
    block.setUint32(KVM_IRQCHIP_STATE.offset.chip, chip, true);
    check(this.#sys.ioctl(this.#vm, KVM_GET_IRQCHIP, this.#sys.addressOf(block)), `read interrupt controller ${chip}`);
    return new DataView(block.buffer, KVM_IRQCHIP_STATE.offset.state);
  }
  /** `state` is what `readChip` of the same chip gave, changed as one likes. */
  writeChip(chip: number, state: DataView): void {
    const address = this.#sys.addressOf(state.buffer);
    check(this.#sys.ioctl(this.#vm, KVM_SET_IRQCHIP, address), `write interrupt controller ${chip}`);
  }

  /** kvmclock's time in ns. */
  get clock(): bigint {
    const data = new DataView(new ArrayBuffer(KVM_CLOCK_DATA.size));
    check(this.#sys.ioctl(this.#vm, KVM_GET_CLOCK, this.#sys.addressOf(data)), "read the VM's clock");
    return data.getBigUint64(KVM_CLOCK_DATA.offset.clock, true);
  }
  set clock(value: bigint) {
    const data = new DataView(new ArrayBuffer(KVM_CLOCK_DATA.size));
    data.setBigUint64(KVM_CLOCK_DATA.offset.clock, value, true);
    check(this.#sys.ioctl(this.#vm, KVM_SET_CLOCK, this.#sys.addressOf(data)), "set the VM's clock");
  }
}
