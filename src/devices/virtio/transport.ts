/**
 * virtio over PCI, the modern transport: configuration space with its capabilities, and one memory BAR with the common
 * registers, the interrupt status, the device's configuration, the doorbells and the MSI-X structures, a page each.
 * [virtio 1.2 §4.1; PCI 3.0 §6]
 */

import type { AccessSize } from "../../cpu/vcpu.ts";
import type { DeviceContext } from "../device.ts";
import { CONFIG_BYTES, ConfigLayout } from "../pci/config-space.ts";
import {
  MSIX_CAPABILITY_ID,
  MSIX_ENABLE,
  MSIX_FUNCTION_MASK,
  type MsixControl,
  msixTableWords,
  readMsixTable,
  resetMsix,
  sendPending,
  triggerMsix,
  writeMsixTable,
} from "../pci/msix.ts";
import type { PciBar } from "../pci/pci-host.ts";
import { bytes, u16, u32, u32s, u8, u8s } from "../state.ts";
import type { Work } from "./doorbells.ts";
import { INDIRECT_DESC, ISR_CONFIG, ISR_QUEUE, NO_VECTOR, STATUS, VERSION_1 } from "./features.ts";
import { ADDRESS_WORDS } from "./queue.ts";

/** Offsets of a function: configuration space, then its BAR. */
const BAR_BASE = 0x1000;
const PAGE = 0x1000;
const BAR_BYTES = 0x8000;
export const VIRTIO_BAR: PciBar = { register: 0x10, sizeBytes: BAR_BYTES, offset: BAR_BASE };
/** All of a function's offsets. */
export const FUNCTION_BYTES = BAR_BASE + BAR_BYTES;

/** Places in the BAR. */
const COMMON = 0;
const COMMON_BYTES = 0x38;
const ISR = PAGE;
const DEVICE = 2 * PAGE;
const NOTIFY = 3 * PAGE;
const NOTIFY_STEP = 4;
const MSIX_TABLE = 4 * PAGE;
const MSIX_PENDING = 5 * PAGE;

/** Places in configuration space. */
const COMMAND = 0x04;
const PCI_STATUS = 0x06;
const MSIX = 0x40;
const MSIX_CONTROL = MSIX + 2;
const ACCESS_CAP = 0x98;
const ACCESS_BAR = ACCESS_CAP + 4;
const ACCESS_OFFSET = ACCESS_CAP + 8;
const ACCESS_LENGTH = ACCESS_CAP + 12;
const ACCESS_DATA = ACCESS_CAP + 16;
const COMMAND_BUS_MASTER = 0x0004;
const COMMAND_INTX_DISABLE = 0x0400;
const STATUS_INTERRUPT = 0x08;
const CAPABILITY_VENDOR = 0x09;

/** What the transport keeps for every device; a device's own fields come after these. */
export const transportState = (queues: number) => ({
  config: bytes(CONFIG_BYTES),
  status: u8,
  isr: u8,
  generation: u8,
  configVector: u16,
  queueSelect: u16,
  deviceFeatureSelect: u32,
  driverFeatureSelect: u32,
  driverFeatures: u32s(2),
  queueSize: u32s(queues),
  queueVector: u32s(queues),
  queueEnabled: u8s(queues),
  queueAddress: u32s(ADDRESS_WORDS * queues),
  queueNext: u32s(queues),
  queueUsed: u32s(queues),
  msixTable: u32s(msixTableWords(queues + 1)),
  msixPending: u32,
});
export type TransportState = ReturnType<typeof transportState>;

/** What the registers need of the board. */
export interface TransportPort {
  /** Where the BAR lies until the guest moves it: aligned to its size. */
  readonly barAddress: number;
  readonly work: Work;
  /** A memory write by the function, to where local APICs listen. */
  sendMsi(address: number, data: number): void;
}

export type TransportContext = DeviceContext<TransportState, TransportPort>;

/** What a kind of device tells its registers. */
export interface TransportSpec {
  /** As in [virtio 1.2 §5]. */
  readonly type: number;
  /** PCI class and subclass. */
  readonly pciClass: number;
  /** Largest size of each queue. */
  readonly queueSizes: readonly number[];
  readonly configBytes: number;
}

/** A device's own part, over one instance. */
export interface DeviceRegisters {
  /** Bits 0 to 23 of the features. */
  features(): number;
  readConfig(offset: number): number;
  writeConfig(offset: number, value: number): void;
  /** The device was reset by its driver. */
  reset(): void;
}

const configLayout = ({ type, pciClass, queueSizes, configBytes }: TransportSpec): ConfigLayout => {
  const vectors = queueSizes.length + 1;
  /** A capability that names a part of the BAR. [virtio 1.2 §4.1.4] */
  const part = (name: string, at: number, next: number, kind: number, offset: number, length: number, size = 16) => [
    {
      name: `${name} capability`,
      offset: at,
      size: 4 as const,
      value: CAPABILITY_VENDOR | (next << 8) | (size << 16) | (kind << 24),
    },
    { name: `${name} bar`, offset: at + 4, size: 4 as const, value: 0, ...(kind === 5 ? { writable: 0xff } : {}) },
    {
      name: `${name} offset`,
      offset: at + 8,
      size: 4 as const,
      value: offset,
      ...(kind === 5 ? { writable: 0xffffffff } : {}),
    },
    {
      name: `${name} length`,
      offset: at + 12,
      size: 4 as const,
      value: length,
      ...(kind === 5 ? { writable: 0xffffffff } : {}),
    },
  ];
  return new ConfigLayout([
    { name: "vendor", offset: 0x00, size: 2, value: 0x1af4 },
    { name: "device", offset: 0x02, size: 2, value: 0x1040 + type },
    { name: "command", offset: COMMAND, size: 2, value: 0, writable: 0x0546 },
    // It has a capability list.
    { name: "status", offset: PCI_STATUS, size: 2, value: 0x0010, clearable: 0xf900 },
    { name: "revision", offset: 0x08, size: 1, value: 1 },
    { name: "interface", offset: 0x09, size: 1, value: 0 },
    { name: "class", offset: 0x0a, size: 2, value: pciClass },
    { name: "cache line", offset: 0x0c, size: 1, value: 0, writable: 0xff },
    { name: "latency", offset: 0x0d, size: 1, value: 0 },
    { name: "header type", offset: 0x0e, size: 1, value: 0 },
    { name: "bar 0", offset: VIRTIO_BAR.register, size: 4, value: 0, writable: -BAR_BYTES >>> 0 },
    { name: "subsystem vendor", offset: 0x2c, size: 2, value: 0x1af4 },
    { name: "subsystem", offset: 0x2e, size: 2, value: 0x40 + type },
    { name: "capabilities", offset: 0x34, size: 1, value: MSIX },
    { name: "interrupt line", offset: 0x3c, size: 1, value: 0, writable: 0xff },
    { name: "interrupt pin", offset: 0x3d, size: 1, value: 1 },
    { name: "msix capability", offset: MSIX, size: 2, value: MSIX_CAPABILITY_ID | (0x50 << 8) },
    {
      name: "msix control",
      offset: MSIX_CONTROL,
      size: 2,
      value: vectors - 1,
      writable: MSIX_ENABLE | MSIX_FUNCTION_MASK,
    },
    { name: "msix table", offset: MSIX + 4, size: 4, value: MSIX_TABLE },
    { name: "msix pending", offset: MSIX + 8, size: 4, value: MSIX_PENDING },
    ...part("common", 0x50, 0x60, 1, COMMON, COMMON_BYTES),
    ...part("isr", 0x60, 0x70, 3, ISR, 1),
    ...part("device", 0x70, 0x80, 4, DEVICE, Math.max(configBytes, 4)),
    ...part("notify", 0x80, ACCESS_CAP, 2, NOTIFY, NOTIFY_STEP * queueSizes.length, 20),
    { name: "notify multiplier", offset: 0x90, size: 4, value: NOTIFY_STEP },
    ...part("access", ACCESS_CAP, 0, 5, 0, 0, 20),
  ]);
};

/** Sets all but PCI configuration space and the MSI-X table to what they are after a reset by the driver. [§2.4] */
const resetRegisters = (spec: TransportSpec, { state }: TransportContext): void => {
  state.status = 0;
  state.isr = 0;
  state.configVector = NO_VECTOR;
  state.queueSelect = 0;
  state.deviceFeatureSelect = 0;
  state.driverFeatureSelect = 0;
  state.driverFeatures.fill(0);
  state.queueSize.set(spec.queueSizes);
  state.queueVector.fill(NO_VECTOR);
  for (const field of [state.queueEnabled, state.queueAddress, state.queueNext, state.queueUsed]) field.fill(0);
  state.msixPending = 0;
};

/** The registers of one device: every call with the board's lock held, from any thread. */
export class Transport {
  readonly #spec: TransportSpec;
  readonly #layout: ConfigLayout;
  readonly #context: TransportContext;
  readonly #device: DeviceRegisters;

  constructor(spec: TransportSpec, layout: ConfigLayout, context: TransportContext, device: DeviceRegisters) {
    this.#spec = spec;
    this.#layout = layout;
    this.#context = context;
    this.#device = device;
  }

  static layout(spec: TransportSpec): ConfigLayout {
    return configLayout(spec);
  }

  get #queues(): number {
    return this.#spec.queueSizes.length;
  }

  /** As after power-on; every field is zero before. */
  powerOn(): void {
    const { state, port } = this.#context;
    this.#layout.reset(state.config);
    this.#layout.write(state.config, VIRTIO_BAR.register, 4, port.barAddress);
    resetMsix(state);
    resetRegisters(this.#spec, this.#context);
    port.work.resetting = false;
    port.work.takeKicks();
    this.#device.reset();
    this.#updateLine();
  }

  read(offset: number, size: AccessSize): number {
    if (offset < BAR_BASE) return this.#readConfigSpace(offset, size);
    return this.#readBar(offset - BAR_BASE, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset < BAR_BASE) this.#writeConfigSpace(offset, size, value);
    else this.#writeBar(offset - BAR_BASE, size, value);
  }

  #readConfigSpace(offset: number, size: AccessSize): number {
    const { config } = this.#context.state;
    if (offset >= ACCESS_DATA && offset < ACCESS_DATA + 4) {
      const window = this.#accessWindow();
      return window === undefined ? 0 : this.#readBar(window.offset, window.size);
    }
    return this.#layout.read(config, offset, size);
  }

  #writeConfigSpace(offset: number, size: AccessSize, value: number): void {
    const { state, port } = this.#context;
    if (offset >= ACCESS_DATA && offset < ACCESS_DATA + 4) {
      const window = this.#accessWindow();
      if (window !== undefined) this.#writeBar(window.offset, window.size, value);
      return;
    }
    const enabled = this.busMaster;
    this.#layout.write(state.config, offset, size, value);
    if (!enabled && this.busMaster) port.work.kickAll();
    sendPending(state, this.#msix());
    this.#updateLine();
  }

  /** What the registers of the configuration access capability point at; undefined if at nothing. [§4.1.4.9] */
  #accessWindow(): { offset: number; size: AccessSize } | undefined {
    const { config } = this.#context.state;
    const word = (at: number): number => this.#layout.read(config, at, 4);
    const offset = word(ACCESS_OFFSET);
    const size = word(ACCESS_LENGTH);
    if (config[ACCESS_BAR] !== 0 || (size !== 1 && size !== 2 && size !== 4)) return undefined;
    return offset % size === 0 && offset < BAR_BYTES ? { offset, size } : undefined;
  }

  #readBar(offset: number, size: AccessSize): number {
    const { state } = this.#context;
    const at = offset % PAGE;
    switch (offset - at) {
      case COMMON:
        return this.#readCommon(at, size);
      case ISR: {
        if (at !== 0) return 0;
        // Reading acknowledges. [§4.1.4.5.1]
        const { isr } = state;
        state.isr = 0;
        this.#updateLine();
        return isr;
      }
      case DEVICE: {
        let value = 0;
        for (let i = 0; i < size; i++) {
          if (at + i < this.#spec.configBytes) value |= (this.#device.readConfig(at + i) & 0xff) << (8 * i);
        }
        return value;
      }
      case MSIX_TABLE:
        return (readMsixTable(state, at & ~3) >>> (8 * (at & 3))) & mask(size);
      case MSIX_PENDING:
        return at < 4 ? (state.msixPending >>> (8 * at)) & mask(size) : 0;
      default:
        return 0;
    }
  }

  #writeBar(offset: number, size: AccessSize, value: number): void {
    const { state, port } = this.#context;
    const at = offset % PAGE;
    switch (offset - at) {
      case COMMON:
        // Until a reset has ended there is nothing to set up.
        if (!port.work.resetting) this.#writeCommon(at, size, value);
        break;
      case DEVICE:
        for (let i = 0; i < size; i++) {
          if (at + i < this.#spec.configBytes) this.#device.writeConfig(at + i, (value >>> (8 * i)) & 0xff);
        }
        break;
      case NOTIFY: {
        const queue = Math.floor(at / NOTIFY_STEP);
        if (queue < this.#queues) port.work.kick(queue);
        break;
      }
      case MSIX_TABLE:
        // Only whole words are defined. [PCI 3.0 §6.8.2]
        if (size === 4) writeMsixTable(state, at, value, this.#msix());
        break;
      default:
    }
  }

  #readCommon(at: number, size: AccessSize): number {
    let value = 0;
    for (let i = 0; i < size; i++) {
      const field = COMMON_FIELDS[at + i];
      if (field === undefined) continue;
      const whole = this.#readField(field.name);
      value |= ((whole >>> (8 * (at + i - field.offset))) & 0xff) << (8 * i);
    }
    return value;
  }

  #readField(name: CommonField): number {
    const { state } = this.#context;
    const queue = state.queueSelect;
    const there = queue < this.#queues;
    switch (name) {
      case "deviceFeature":
        return this.#offered(state.deviceFeatureSelect);
      case "driverFeature":
        return state.driverFeatures[state.driverFeatureSelect] ?? 0;
      case "numQueues":
        return this.#queues;
      case "configGeneration":
        return state.generation;
      case "status":
        return state.status;
      case "queueSize":
        return there ? (state.queueSize[queue] ?? 0) : 0;
      case "queueVector":
        return there ? (state.queueVector[queue] ?? NO_VECTOR) : NO_VECTOR;
      case "queueEnable":
        return there ? (state.queueEnabled[queue] ?? 0) : 0;
      case "queueNotifyOff":
        return there ? queue : 0;
      case "address0":
      case "address1":
      case "address2":
      case "address3":
      case "address4":
      case "address5":
        return there ? (state.queueAddress[queue * ADDRESS_WORDS + Number(name.slice(-1))] ?? 0) : 0;
      case "deviceFeatureSelect":
      case "driverFeatureSelect":
      case "configVector":
      case "queueSelect":
        return state[name];
    }
  }

  /** Fields are written whole; anything else changes nothing. [§4.1.3.1] */
  #writeCommon(at: number, size: AccessSize, value: number): void {
    const field = COMMON_FIELDS[at];
    if (field === undefined || field.offset !== at || field.size !== size) return;
    const { state } = this.#context;
    const { name } = field;
    const queue = state.queueSelect;
    const settable = queue < this.#queues && state.queueEnabled[queue] === 0;
    switch (name) {
      case "deviceFeatureSelect":
      case "driverFeatureSelect":
      case "queueSelect":
        state[name] = value;
        break;
      case "driverFeature":
        // Features are fixed once they were accepted. [§3.1.1]
        if ((state.status & STATUS.featuresOk) === 0 && state.driverFeatureSelect < 2) {
          state.driverFeatures[state.driverFeatureSelect] = value;
        }
        break;
      case "configVector":
        state.configVector = this.#vector(value);
        break;
      case "queueVector":
        if (queue < this.#queues) state.queueVector[queue] = this.#vector(value);
        break;
      case "status":
        this.#writeStatus(value);
        break;
      case "queueSize":
        if (settable) this.#setQueueSize(queue, value);
        break;
      case "queueEnable":
        if (settable && value === 1) this.#enable(queue);
        break;
      case "address0":
      case "address1":
      case "address2":
      case "address3":
      case "address4":
      case "address5":
        // An enabled ring stays where it is.
        if (settable) state.queueAddress[queue * ADDRESS_WORDS + Number(name.slice(-1))] = value;
        break;
      default:
    }
  }

  #vector(value: number): number {
    return value <= this.#queues ? value : NO_VECTOR;
  }

  /** A size that is none, or too large, is not taken. [§4.1.4.3.2] */
  #setQueueSize(queue: number, value: number): void {
    const fits = value > 0 && value <= (this.#spec.queueSizes[queue] ?? 0) && (value & (value - 1)) === 0;
    if (fits) this.#context.state.queueSize[queue] = value;
  }

  #enable(queue: number): void {
    const { state, port } = this.#context;
    const at = queue * ADDRESS_WORDS;
    const [descriptors = 0, driver = 0, device = 0] = [0, 2, 4].map((word) => state.queueAddress[at + word] ?? 0);
    // [§2.7]: 16, 2 and 4 bytes.
    if (descriptors % 16 !== 0 || driver % 2 !== 0 || device % 4 !== 0) {
      this.needsReset();
      return;
    }
    state.queueEnabled[queue] = 1;
    port.work.kick(queue);
  }

  #writeStatus(value: number): void {
    const { state, port } = this.#context;
    if (value === 0) {
      // A device at work still reads as not reset until its work has ended. [§4.1.4.3.1]
      if (port.work.busy === 0) this.finishReset();
      else port.work.resetting = true;
      return;
    }
    let added = value & ~STATUS.needsReset & ~state.status;
    if ((added & STATUS.featuresOk) !== 0 && !this.#featuresAcceptable()) added &= ~STATUS.featuresOk;
    state.status |= added;
    if ((added & STATUS.driverOk) !== 0) port.work.kickAll();
  }

  /** Whether the driver's choice is a subset of the offer and speaks the modern form. [§6.1] */
  #featuresAcceptable(): boolean {
    const { driverFeatures } = this.#context.state;
    const [low = 0, high = 0] = driverFeatures;
    return (low & ~this.#offered(0)) === 0 && (high & ~this.#offered(1)) === 0 && (high & VERSION_1) !== 0;
  }

  #offered(word: number): number {
    if (word === 0) return (this.#device.features() | INDIRECT_DESC) >>> 0;
    return word === 1 ? VERSION_1 : 0;
  }

  /** Ends a reset that the driver asked for. */
  finishReset(): void {
    this.#context.port.work.resetting = false;
    resetRegisters(this.#spec, this.#context);
    this.#device.reset();
    this.#updateLine();
  }

  /** Whether the driver took a feature; `bit` is a bit of word 0. */
  negotiated(bit: number): boolean {
    return ((this.#context.state.driverFeatures[0] ?? 0) & bit) !== 0;
  }

  /** Whether queues may be walked: the driver is ready, the function may write memory, nothing went wrong. */
  get live(): boolean {
    const { status } = this.#context.state;
    const wanted = STATUS.driverOk | STATUS.featuresOk;
    return (status & (wanted | STATUS.needsReset)) === wanted && this.busMaster && !this.#context.port.work.resetting;
  }

  get busMaster(): boolean {
    return ((this.#context.state.config[COMMAND] ?? 0) & COMMAND_BUS_MASTER) !== 0;
  }

  /** The guest broke a rule: the driver has to begin anew. [§2.1.2] */
  needsReset(): void {
    const { state } = this.#context;
    state.status |= STATUS.needsReset;
    if ((state.status & STATUS.driverOk) !== 0) this.#interrupt(state.configVector, ISR_CONFIG);
  }

  /** The device's configuration changed by itself. */
  configChanged(): void {
    const { state } = this.#context;
    state.generation = (state.generation + 1) & 0xff;
    if ((state.status & STATUS.driverOk) !== 0) this.#interrupt(state.configVector, ISR_CONFIG);
  }

  /** A queue has used buffers to show. */
  queueInterrupt(queue: number): void {
    this.#interrupt(this.#context.state.queueVector[queue] ?? NO_VECTOR, ISR_QUEUE);
  }

  #interrupt(vector: number, isr: number): void {
    const { state } = this.#context;
    if (!this.busMaster && this.#msixEnabled) return;
    if (this.#msixEnabled) {
      triggerMsix(state, vector, this.#msix());
    } else {
      state.isr |= isr;
      this.#updateLine();
    }
  }

  get #msixEnabled(): boolean {
    return (this.#msixControl & MSIX_ENABLE) !== 0;
  }

  get #msixControl(): number {
    return this.#layout.read(this.#context.state.config, MSIX_CONTROL, 2);
  }

  #msix(): MsixControl {
    return { control: this.#msixControl, send: this.#context.port.sendMsi };
  }

  /** The INTx line follows the interrupt status, unless MSI-X or the command register keeps it low. */
  #updateLine(): void {
    const { state, irq } = this.#context;
    const asserted = state.isr !== 0;
    const status = state.config[PCI_STATUS] ?? 0;
    state.config[PCI_STATUS] = asserted ? status | STATUS_INTERRUPT : status & ~STATUS_INTERRUPT;
    const disabled = (this.#layout.read(state.config, COMMAND, 2) & COMMAND_INTX_DISABLE) !== 0;
    if (asserted && !disabled && !this.#msixEnabled) irq.raise();
    else irq.lower();
  }
}

const mask = (size: AccessSize): number => (size === 4 ? 0xffffffff : (1 << (8 * size)) - 1);

/** The common configuration, in order. [§4.1.4.3] */
const COMMON_LAYOUT = [
  ["deviceFeatureSelect", 4],
  ["deviceFeature", 4],
  ["driverFeatureSelect", 4],
  ["driverFeature", 4],
  ["configVector", 2],
  ["numQueues", 2],
  ["status", 1],
  ["configGeneration", 1],
  ["queueSelect", 2],
  ["queueSize", 2],
  ["queueVector", 2],
  ["queueEnable", 2],
  ["queueNotifyOff", 2],
  ["address0", 4],
  ["address1", 4],
  ["address2", 4],
  ["address3", 4],
  ["address4", 4],
  ["address5", 4],
] as const;
type CommonField = (typeof COMMON_LAYOUT)[number][0];

/** The field at each byte. */
const COMMON_FIELDS: readonly { readonly name: CommonField; readonly offset: number; readonly size: number }[] =
  (() => {
    let offset = 0;
    return COMMON_LAYOUT.flatMap(([name, size]) => {
      const field = { name, offset, size };
      offset += size;
      return Array<typeof field>(size).fill(field);
    });
  })();
