/**
 * KVM's interrupt controllers and interval timer as the board's own devices have them, and back: one saved state for
 * every engine. The devices' definitions are instantiated over a buffer of their own, so that what a file says of them
 * passes the same checks as on the portable engine. [kvm api §4.26, §4.57, §4.71; Linux arch/x86/kvm/i8254.c, i8259.c]
 */

import type { GuestClock } from "../cpu/vcpu.ts";
import {
  KVM_IOAPIC_STATE,
  KVM_PIC_STATE,
  KVM_PIT_CHANNEL,
  KVM_PIT_FLAGS_SPEAKER_DATA_ON,
  KVM_PIT_STATE2,
} from "../cpu/kvm/abi.ts";
import type { Device } from "../devices/device.ts";
import { IOAPIC_ADDRESS, IOAPIC_PINS, ioapic } from "../devices/interrupts/ioapic.ts";
import { lapic } from "../devices/interrupts/lapic.ts";
import { pic, setPicLine } from "../devices/interrupts/pic.ts";
import { gsiOfIsa, isaOfGsi } from "../devices/interrupts/wires.ts";
import { PIT_HZ, pit } from "../devices/pc/pit.ts";
import { StateArena } from "../devices/state.ts";
import type { SavedBoard } from "../machine/board.ts";
import { IsolaError } from "../base/errors.ts";

const STATE_BYTES = 2 ** 20;
const nothing = (): void => undefined;

/** Interrupt controllers without wires: their state alone. */
export class SavedInterrupts {
  readonly pic;
  readonly ioapic;
  readonly pit;
  readonly lapics;

  constructor(cpus: number, clock: GuestClock) {
    const place = { arena: new StateArena(new SharedArrayBuffer(STATE_BYTES)), clock };
    this.pic = pic.instantiate({ ...place, port: { changed: nothing } });
    this.ioapic = ioapic.instantiate({ ...place, port: { id: cpus, send: nothing, changed: nothing } });
    this.pit = pit.instantiate({ ...place, port: null });
    const port = { changed: nothing, command: nothing, broadcastEoi: nothing };
    this.lapics = Array.from({ length: cpus }, (_, index) =>
      lapic.instantiate({ ...place, name: `lapic${index}`, port: { ...port, index } }),
    );
    for (const device of this.#devices) device.reset();
  }

  get #devices(): readonly Device[] {
    return [this.pic, this.ioapic, this.pit, ...this.lapics];
  }

  save(): SavedBoard {
    return Object.fromEntries(this.#devices.map((device) => [device.name, device.save()]));
  }

  /** Gives what is left of `saved`, for the board. @throws IsolaError `state-invalid`, `state-version` */
  load(saved: SavedBoard): SavedBoard {
    const rest = { ...saved };
    for (const device of this.#devices) {
      const state = rest[device.name];
      if (state === undefined) {
        throw new IsolaError({
          code: "state-invalid",
          message: `loading the board: no state of ${device.name}; the saved state is damaged`,
        });
      }
      device.load(state);
      delete rest[device.name];
    }
    return rest;
  }
}

const bit = (flag: boolean | number): number => (flag === true || (flag !== false && flag !== 0) ? 1 : 0);

// The 8259 pair.

const ICW1 = 0x10;
const ICW1_IC4 = 0x01;
const ICW4_8086 = 0x01;
const ICW4_AEOI = 0x02;
const ICW4_SFNM = 0x10;
const FIELD = KVM_PIC_STATE.offset;

/** Levels of a chip's inputs among those of the GSIs, a bit each. */
function picLines(chip: number, levels: number): number {
  let lines = 0;
  for (let input = 0; input < 8; input++) {
    const irq = chip * 8 + input;
    if (isaOfGsi(gsiOfIsa(irq)) === irq) lines |= ((levels >>> gsiOfIsa(irq)) & 1) << input;
  }
  return lines;
}

/** Reads one chip of the pair, 0 the master; `levels` are those of the GSIs' lines. */
export function picFromKvm({ pic: { context } }: SavedInterrupts, chip: number, kvm: DataView, levels: number): void {
  const { state } = context;
  const byte = (at: number): number => kvm.getUint8(at);
  state.irr[chip] = byte(FIELD.irr);
  state.imr[chip] = byte(FIELD.imr);
  state.isr[chip] = byte(FIELD.isr);
  state.lines[chip] = picLines(chip, levels);
  state.elcr[chip] = byte(FIELD.elcr);
  state.base[chip] = byte(FIELD.irqBase) & 0xf8;
  const modes = (bit(byte(FIELD.autoEoi)) * ICW4_AEOI) | (bit(byte(FIELD.specialFullyNestedMode)) * ICW4_SFNM);
  state.icw4[chip] = ICW4_8086 | modes;
  state.lowest[chip] = (byte(FIELD.priorityAdd) + 7) & 7;
  const awaited = byte(FIELD.initState);
  state.awaited[chip] = awaited === 0 ? 0 : awaited + 1;
  state.icw1[chip] = ICW1 | (bit(byte(FIELD.init4)) * ICW1_IC4);
  state.readIsr[chip] = bit(byte(FIELD.readRegisterSelect));
  state.poll[chip] = bit(byte(FIELD.poll));
  state.specialMask[chip] = bit(byte(FIELD.specialMask));
  state.rotateInAeoi[chip] = bit(byte(FIELD.rotateOnAutoEoi));
  // The pair's output, and the cascade's line, follow from the rest.
  setPicLine(context, 0, (at(state.lines, 0) & 1) !== 0);
}

const at = (array: Uint8Array | Uint32Array | Float64Array, index: number): number => array[index] ?? 0;

/** Changes `kvm`, which holds what the chip has now. */
export function picToKvm({ pic: { context } }: SavedInterrupts, chip: number, kvm: DataView, levels: number): void {
  const { state } = context;
  const set = (field: number, value: number): void => kvm.setUint8(field, value);
  set(FIELD.lastIrr, picLines(chip, levels));
  set(FIELD.irr, at(state.irr, chip));
  set(FIELD.imr, at(state.imr, chip));
  set(FIELD.isr, at(state.isr, chip));
  set(FIELD.elcr, at(state.elcr, chip));
  set(FIELD.irqBase, at(state.base, chip));
  set(FIELD.autoEoi, bit(at(state.icw4, chip) & ICW4_AEOI));
  set(FIELD.specialFullyNestedMode, bit(at(state.icw4, chip) & ICW4_SFNM));
  set(FIELD.priorityAdd, (at(state.lowest, chip) + 1) & 7);
  set(FIELD.initState, Math.max(at(state.awaited, chip) - 1, 0));
  set(FIELD.init4, bit(at(state.icw1, chip) & ICW1_IC4));
  set(FIELD.readRegisterSelect, at(state.readIsr, chip));
  set(FIELD.poll, at(state.poll, chip));
  set(FIELD.specialMask, at(state.specialMask, chip));
  set(FIELD.rotateOnAutoEoi, at(state.rotateInAeoi, chip));
}

// The I/O APIC.

const REDIRECTION_LEVEL = 1 << 15;

export function ioapicFromKvm({ ioapic: { context } }: SavedInterrupts, kvm: DataView, levels: number): void {
  const { state } = context;
  const { offset } = KVM_IOAPIC_STATE;
  state.select = kvm.getUint32(offset.select, true) & 0xff;
  state.id = kvm.getUint32(offset.id, true) & 0xf;
  state.lines = levels;
  for (let pin = 0; pin < IOAPIC_PINS; pin++) {
    state.low[pin] = kvm.getUint32(offset.redirections + 8 * pin, true);
    state.high[pin] = kvm.getUint32(offset.redirections + 8 * pin + 4, true);
  }
}

/**
 * Level-triggered lines that are high are told as requests, which KVM then sends where they are not in service already.
 * An edge was sent when it came.
 */
export function ioapicToKvm({ ioapic: { context } }: SavedInterrupts, kvm: DataView, levels: number): void {
  const { state } = context;
  const { offset } = KVM_IOAPIC_STATE;
  let requests = 0;
  kvm.setBigUint64(offset.baseAddress, BigInt(IOAPIC_ADDRESS), true);
  kvm.setUint32(offset.select, state.select, true);
  kvm.setUint32(offset.id, state.id, true);
  for (let pin = 0; pin < IOAPIC_PINS; pin++) {
    const low = at(state.low, pin);
    kvm.setUint32(offset.redirections + 8 * pin, low, true);
    kvm.setUint32(offset.redirections + 8 * pin + 4, at(state.high, pin), true);
    if ((low & REDIRECTION_LEVEL) !== 0) requests |= levels & (1 << pin);
  }
  kvm.setUint32(offset.irr, requests, true);
}

// The 8254.

const NS_PER_TICK = 1e9 / PIT_HZ;
const LOW_HIGH = 3;
/** KVM's states of a count read or written in two bytes: next is the low one, or the high one. */
const WORD_LOW = 3;
const WORD_HIGH = 4;
/** KVM's own mode for a counter that was never set up. */
const NO_MODE = 0xff;
const WHOLE_COUNT = 0x10000;
const PERIODIC_MODES: readonly number[] = [2, 3];

const channelAt = (kvm: DataView, channel: number): DataView =>
  new DataView(
    kvm.buffer,
    kvm.byteOffset + KVM_PIT_STATE2.offset.channels + channel * KVM_PIT_CHANNEL.size,
    KVM_PIT_CHANNEL.size,
  );

/** `monotonicNs`: the host's CLOCK_MONOTONIC now, the guest's clock being `now`. */
export function pitFromKvm(
  { pit: { context } }: SavedInterrupts,
  kvm: DataView,
  now: number,
  monotonicNs: bigint,
): void {
  const { state } = context;
  const { offset } = KVM_PIT_CHANNEL;
  for (let channel = 0; channel < 3; channel++) {
    const counter = channelAt(kvm, channel);
    const byte = (field: number): number => counter.getUint8(field);
    const access = byte(offset.rwMode) & LOW_HIGH;
    const mode = byte(offset.mode);
    state.mode[channel] = mode === NO_MODE ? 0 : mode & 7;
    state.access[channel] = access === 0 ? LOW_HIGH : access;
    state.bcd[channel] = bit(byte(offset.bcd));
    state.count[channel] = mode === NO_MODE ? 0 : Math.min(counter.getUint32(offset.count, true), WHOLE_COUNT);
    state.gate[channel] = bit(byte(offset.gate));
    // KVM does not tell when the first counter began: it begins now.
    const age = channel === 0 ? 0n : monotonicNs - counter.getBigUint64(offset.countLoadTime, true);
    state.start[channel] = Math.max(0, now - Number(BigInt.asIntN(63, age)));
    const held = at(state.gate, channel) === 0;
    state.stopped[channel] = held ? Math.floor((now - at(state.start, channel)) / NS_PER_TICK) : -1;
    state.writeLow[channel] = byte(offset.writeLatch);
    state.writeSecond[channel] = bit(byte(offset.writeState) === WORD_HIGH);
    state.readSecond[channel] = bit(byte(offset.readState) === WORD_HIGH);
    const latched = byte(offset.countLatched);
    state.latched[channel] = latched === LOW_HIGH ? 2 : bit(latched);
    state.latch[channel] = counter.getUint16(offset.latchedCount, true);
    state.statusLatched[channel] = bit(byte(offset.statusLatched));
    state.status[channel] = byte(offset.status);
  }
  const flags = kvm.getUint32(KVM_PIT_STATE2.offset.flags, true);
  state.speaker = at(state.gate, 2) | (bit(flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) << 1);
  const count = at(state.count, 0);
  state.nextEdge = count === 0 ? Infinity : now + Math.ceil(count * NS_PER_TICK);
}

/** Changes `kvm`, which holds what the timer has now. */
export function pitToKvm({ pit: { context } }: SavedInterrupts, kvm: DataView): void {
  const { state } = context;
  const { offset } = KVM_PIT_CHANNEL;
  for (let channel = 0; channel < 3; channel++) {
    const counter = channelAt(kvm, channel);
    const access = at(state.access, channel);
    const set = (field: number, value: number): void => counter.setUint8(field, value);
    const count = at(state.count, channel);
    const mode = at(state.mode, channel);
    // A counter that has no count yet, or a one-shot that is over, must not begin anew with what KVM takes for a count.
    const over = channel === 0 && !PERIODIC_MODES.includes(mode) && state.nextEdge === Infinity;
    set(offset.mode, count === 0 || over ? NO_MODE : mode);
    counter.setUint32(offset.count, count === 0 ? WHOLE_COUNT : count, true);
    set(offset.rwMode, access);
    set(offset.bcd, at(state.bcd, channel));
    set(offset.gate, at(state.gate, channel));
    set(offset.writeLatch, at(state.writeLow, channel));
    const state2 = (second: number): number => (access !== LOW_HIGH ? access : second !== 0 ? WORD_HIGH : WORD_LOW);
    set(offset.writeState, state2(at(state.writeSecond, channel)));
    set(offset.readState, state2(at(state.readSecond, channel)));
    const left = at(state.latched, channel);
    set(offset.countLatched, left === 2 ? LOW_HIGH : left === 0 ? 0 : access === LOW_HIGH ? 2 : access);
    counter.setUint16(offset.latchedCount, at(state.latch, channel) & 0xffff, true);
    set(offset.statusLatched, at(state.statusLatched, channel));
    set(offset.status, at(state.status, channel));
  }
  const flags = kvm.getUint32(KVM_PIT_STATE2.offset.flags, true) & ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
  kvm.setUint32(KVM_PIT_STATE2.offset.flags, flags | (bit(state.speaker & 2) * KVM_PIT_FLAGS_SPEAKER_DATA_ON), true);
}
