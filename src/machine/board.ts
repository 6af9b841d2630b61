/**
 * The board: a PC's buses, interrupt controllers and devices over one SharedArrayBuffer.
 *
 * The first thread creates it; others attach to the same buffer and see the same machine. Everything that touches
 * device state holds the board's lock; the buses here take it themselves. A sleeping virtual processor waits on the
 * wake word, which changes with every interrupt, input and request.
 */

import { IsolaError } from "../base/errors.ts";
import type { AccessSize, Bus, GuestClock } from "../cpu/vcpu.ts";
import { DeviceBus } from "../devices/bus.ts";
import { ByteRing } from "../devices/byte-ring.ts";
import { type Device, type IrqLine, pio, type SavedDevice } from "../devices/device.ts";
import { InterruptFabric, type Interrupts, type ProcessorInterrupts } from "../devices/interrupts/fabric.ts";
import { OutsideFabric, type OutsideInterrupts } from "../devices/interrupts/outside.ts";
import { mayBlock, SharedLock } from "../devices/lock.ts";
import { acpiPm, pressPowerButton, SCI_IRQ } from "../devices/pc/acpi-pm.ts";
import { debugExit, type DebugExitConfig } from "../devices/pc/debug-exit.ts";
import { fwCfg, type FwCfgFile, fwCfgItems, type FwCfgPort } from "../devices/pc/fw-cfg.ts";
import { hpet, legacyReplacement } from "../devices/pc/hpet.ts";
import { a20Open, i8042, takeKeys } from "../devices/pc/i8042.ts";
import { pit } from "../devices/pc/pit.ts";
import { postPort } from "../devices/pc/post-port.ts";
import { rtc } from "../devices/pc/rtc.ts";
import type { TextScreen } from "../devices/pc/text-screen.ts";
import { COM1_IRQ, drainUart, receiveUart, uart } from "../devices/pc/uart.ts";
import { readScreen, vga } from "../devices/pc/vga.ts";
import { hostBridge, pciHost, PciFunctions, pciWindows } from "../devices/pci/pci-host.ts";
import { StateArena } from "../devices/state.ts";
import type { DiskInfo } from "../devices/virtio/virtio-blk.ts";
import { type GuestMemory, LOW_RAM_LIMIT } from "../memory/guest-memory.ts";
import { CodeNotices } from "./code-notices.ts";
import { VirtioSlots } from "./virtio-slots.ts";

/** What a board is built from; every thread that attaches to it must be given the same. Plain data. */
export interface BoardConfig {
  readonly ramBytes: number;
  readonly vcpus: number;
  /** Disks in the order of their PCI slots. */
  readonly disks?: readonly DiskInfo[];
  /** Whether there is a virtio entropy device. */
  readonly entropy?: boolean;
  /** Files that fw_cfg offers; names differ. */
  readonly fwCfg?: readonly FwCfgFile[];
  /** Where isa-debug-exit lies; absent: there is none. */
  readonly debugExit?: DebugExitConfig;
}

export interface BoardOptions extends BoardConfig {
  readonly clock: GuestClock;
  /** RAM for devices that reach into it; without it their transfers fail. */
  readonly memory?: GuestMemory;
  /** The buffer of a board that another thread made; absent: makes one. */
  readonly shared?: SharedArrayBuffer;
  /** The engine's interrupt controllers and interval timer; absent: the board has its own. */
  readonly outside?: OutsideInterrupts;
  /** Called on the thread whose access asked for it, with the lock held; the flags of `requests` are set before. */
  onPowerOff?(): void;
  onReset?(): void;
  onDebugExit?(): void;
  /** The gate of address line 20 was opened or shut by an access of this thread; `a20Open` tells how it was found. */
  onGateA20?(open: boolean): void;
  /** RAM is about to be written by a device, within an access that a processor makes on this thread. */
  onDeviceWrites?(bytes: Uint8Array): void;
}

/** What the guest has asked its board for. */
export interface BoardRequests {
  readonly powerOff: boolean;
  readonly reset: boolean;
  /** The value written to isa-debug-exit. */
  readonly debugExit: number | undefined;
}

/** One processor's way to the board. */
export interface BoardProcessor {
  readonly bus: Bus;
  /** Absent where the engine has the interrupt controllers. */
  readonly interrupts: ProcessorInterrupts | undefined;
}

/** State by device name; the consoles' rings, of bytes on their way between guest and host, count as devices. */
export type SavedBoard = Record<string, SavedDevice>;

/** Of the board as a guest sees it: which parts there are, and where. A state goes to a board of the same version. */
export const BOARD_VERSION = 1;

const BOARD_BYTES = 512 * 1024;
const OUTPUT_RING_BYTES = 64 * 1024;
const INPUT_RING_BYTES = 16 * 1024;
const KEY_RING_BYTES = 256;
/** How long the vCPU's thread may be held, in ms, where the guest polls a transmitter that the host holds up. */
const HOST_PATIENCE_MS = 5;

const NS_PER_MS = 1e6;
/** Some timers lie beyond what a host's timer can wait for. */
const LONGEST_WAIT_MS = 60_000;

/** Header words. */
const MAGIC = 0;
const LAYOUT = 1;
const LOCK = 2;
const WAKE = 3;
const POWER_OFF = 4;
const RESET = 5;
const DEBUG_EXIT = 6;
const DEBUG_EXIT_VALUE = 7;
/** Two words, aligned to eight bytes. */
const AWAITED = 8;
const HEADER_WORDS = 16;
const MAGIC_VALUE = 0x69736f6c;

export class Board {
  readonly shared: SharedArrayBuffer;
  readonly processors: readonly BoardProcessor[];
  readonly serial: SerialHost;
  readonly keyboard: KeyboardHost;
  readonly lock: SharedLock;
  /** Claims and traces of the shared bus; accesses go through a processor's bus. */
  readonly deviceBus = new DeviceBus();
  readonly fabric: Interrupts;
  readonly virtio: VirtioSlots;
  readonly codeNotices: CodeNotices;
  readonly #header: Int32Array;
  /** Guest ns of the timer for which `untilDeadline` waits. */
  readonly #awaited: Float64Array;
  readonly #devices: readonly Device[];
  readonly #rings: Readonly<Record<string, ByteRing>>;
  readonly #pm;
  readonly #vga;
  readonly #keyboard;
  /** What the engine has in its own place: after loading, the board's parts beside it are told anew. */
  readonly #settleOutside: () => void;

  constructor(options: BoardOptions) {
    const { clock, vcpus, ramBytes } = options;
    this.shared = options.shared ?? new SharedArrayBuffer(BOARD_BYTES);
    this.#header = new Int32Array(this.shared, 0, HEADER_WORDS);
    this.#awaited = new Float64Array(this.shared, AWAITED * 4, 1);
    this.lock = new SharedLock(this.shared, LOCK * 4);
    const arena = new StateArena(this.shared, HEADER_WORDS * 4);
    const output = new ByteRing(arena, OUTPUT_RING_BYTES);
    const input = new ByteRing(arena, INPUT_RING_BYTES);
    const keys = new ByteRing(arena, KEY_RING_BYTES);

    const { outside } = options;
    const fabric: Interrupts =
      outside === undefined
        ? new InterruptFabric({ arena, clock, vcpus, lock: this.lock, wake: () => this.wake() })
        : new OutsideFabric({ arena, clock, outside });
    this.#rings = { "serial-output": output, "serial-input": input, "keyboard-input": keys };
    this.fabric = fabric;
    const requestReset = (): void => this.#request(RESET, options.onReset);
    const place = { arena, clock };
    const com1 = uart.instantiate({
      ...place,
      irq: fabric.isaLine(COM1_IRQ),
      port: {
        send: (byte) => output.push(byte),
        receive: () => input.shift(),
        yieldToHost: () => output.waitForRoom(HOST_PATIENCE_MS),
      },
    });
    const timerLine = fabric.isaLine(0);
    const clockLine = fabric.isaLine(8);
    const timers = hpet.instantiate({
      ...place,
      port: {
        legacy: [fabric.isaLine(0), fabric.isaLine(8)],
        routes: Array.from({ length: 8 }, (_, i) => fabric.line(16 + i)),
        legacyChanged() {
          timerLine.lower();
          clockLine.lower();
          outside?.replaceTimer(legacyReplacement(timers.context));
        },
      },
    });
    this.#settleOutside = () => {
      if (outside === undefined) return;
      // The interval timer is the engine's: no other source stands for it on its line.
      timerLine.lower();
      outside.replaceTimer(legacyReplacement(timers.context));
    };
    const unlessReplaced = (line: IrqLine): IrqLine => gate(line, () => !legacyReplacement(timers.context));
    const functions = new PciFunctions();
    const bridge = hostBridge.instantiate({ ...place, port: null });
    functions.attach(0, 0, 0, bridge);
    this.#pm = acpiPm.instantiate({
      ...place,
      irq: fabric.isaLine(SCI_IRQ),
      port: { powerOff: () => this.#request(POWER_OFF, options.onPowerOff) },
    });
    const keyboard = i8042.instantiate({
      ...place,
      irq: fabric.isaLine(1),
      port: { reset: requestReset, gateA20: (open) => options.onGateA20?.(open), key: () => keys.shift() },
    });
    this.#keyboard = keyboard;
    this.keyboard = new KeyboardHost(keys, () => {
      this.enter(() => takeKeys(keyboard.context));
      this.wake();
    });
    this.#vga = vga.instantiate({ ...place, port: null });
    const onBus: Device[] = [
      ...fabric.onBus,
      ...(outside === undefined ? [pit.instantiate({ ...place, irq: unlessReplaced(timerLine), port: null })] : []),
      rtc.instantiate({
        ...place,
        irq: unlessReplaced(clockLine),
        port: { lowRamBytes: Math.min(ramBytes, LOW_RAM_LIMIT), highRamBytes: Math.max(ramBytes - LOW_RAM_LIMIT, 0) },
      }),
      com1,
      keyboard,
      this.#vga,
      this.#pm,
      timers,
      bridge,
      pciHost.instantiate({ ...place, port: { functions, reset: requestReset } }),
      pciWindows.instantiate({ ...place, port: functions }),
      postPort.instantiate({ ...place, port: null }),
      fwCfg.instantiate({ ...place, port: fwCfgPort(options) }),
      ...this.#debugExits(arena, options),
    ];
    for (const device of onBus) this.deviceBus.attach(device);
    this.codeNotices = new CodeNotices(arena);
    this.virtio = new VirtioSlots({ ...place, fabric, functions, ...options });
    this.#devices = [
      ...fabric.devices,
      ...onBus.filter((device) => !fabric.onBus.includes(device)),
      ...this.virtio.devices,
    ];
    this.processors = Array.from({ length: vcpus }, (_, index) => {
      const interrupts = fabric.processors[index];
      return { interrupts, bus: new ProcessorBus(this.deviceBus, this.lock, interrupts) };
    });
    this.serial = new SerialHost(output, input, {
      drain: () => this.enter(() => drainUart(com1.context)),
      receive: () => {
        this.enter(() => receiveUart(com1.context));
        // The receiver's time-out may now be the next deadline: a sleeper must look again.
        this.wake();
      },
    });
    this.#settle(arena.used, options.shared !== undefined);
  }

  #debugExits(arena: StateArena, { clock, debugExit: at, onDebugExit }: BoardOptions): Device[] {
    if (at === undefined) return [];
    const exit = (value: number): void => {
      Atomics.store(this.#header, DEBUG_EXIT_VALUE, value | 0);
      this.#request(DEBUG_EXIT, onDebugExit);
    };
    return [debugExit.instantiate({ arena, clock, ranges: [pio(at.base, at.size)], port: { exit } })];
  }

  /** Resets a new board; checks that a given one was laid out alike. */
  #settle(used: number, attached: boolean): void {
    if (!attached) {
      this.reset();
      this.#header[LAYOUT] = used;
      Atomics.store(this.#header, MAGIC, MAGIC_VALUE);
    } else if (Atomics.load(this.#header, MAGIC) !== MAGIC_VALUE || this.#header[LAYOUT] !== used) {
      throw new IsolaError({
        code: "board-mismatch",
        message: `attaching to a board: its layout takes ${this.#header[LAYOUT]} bytes, this thread's ${used}; give both threads the same options`,
      });
    }
  }

  /** The first processor's bus and interrupts. */
  get bus(): Bus {
    return this.#first.bus;
  }

  get interrupts(): ProcessorInterrupts {
    const { interrupts } = this.#first;
    if (interrupts === undefined) throw new RangeError("this board's interrupt controllers are the engine's");
    return interrupts;
  }

  get #first(): BoardProcessor {
    const [first] = this.processors;
    if (first === undefined) throw new RangeError("a board has at least one processor");
    return first;
  }

  /** Runs `body` with the board's lock held: the way in for every thread that is not inside a bus access. */
  enter<T>(body: () => T): T {
    return this.lock.enter(body);
  }

  /** Guest ns of the earliest timer of any device; Infinity if none runs. */
  nextDeadline(): number {
    return this.enter(() => {
      let earliest = Infinity;
      for (const device of this.#devices) {
        const deadline = device.deadline();
        if (deadline < earliest) earliest = deadline;
      }
      return earliest;
    });
  }

  /** Serves every timer that is due. */
  runTimers(now: number): void {
    this.enter(() => {
      for (const device of this.#devices) if (device.deadline() <= now) device.expire(now);
    });
  }

  /** Changes the wake word and wakes whoever sleeps on it. */
  wake(): void {
    Atomics.add(this.#header, WAKE, 1);
    Atomics.notify(this.#header, WAKE);
  }

  /**
   * For the thread that serves timers by waiting: resolves when a timer is due, at `wake`, or when `announceDeadline`
   * has found an earlier timer than this wait was for. It does not keep Node's event loop alive.
   */
  async untilDeadline(now: () => number): Promise<void> {
    const ticket = this.wakeTicket();
    const deadline = this.enter(() => {
      const next = this.nextDeadline();
      this.#awaited[0] = next;
      return next;
    });
    const ms = Math.min((deadline - now()) / NS_PER_MS, LONGEST_WAIT_MS);
    if (ms <= 0) return;
    const wait = Atomics.waitAsync(this.#header, WAKE, ticket, ms);
    if (wait.async) await wait.value;
  }

  /**
   * After an access to the bus: wakes the thread in `untilDeadline` if the device that was accessed has a timer which is
   * due earlier than that thread knows.
   */
  announceDeadline(): void {
    const device = this.deviceBus.touched;
    if (device === undefined) return;
    this.enter(() => {
      const deadline = device.deadline();
      if (deadline >= (this.#awaited[0] ?? 0)) return;
      this.#awaited[0] = deadline;
      this.wake();
    });
  }

  /** The wake word's value: take it before looking whether there is something to do, then `sleep` with it. */
  wakeTicket(): number {
    return Atomics.load(this.#header, WAKE);
  }

  /** Blocks until something happened since `ticket` was taken, at most `ms`. */
  sleep(ticket: number, ms: number): void {
    if (mayBlock) Atomics.wait(this.#header, WAKE, ticket, ms);
  }

  /** What the guest has asked for; readable from every thread, until `reset`. */
  get requests(): BoardRequests {
    const exited = Atomics.load(this.#header, DEBUG_EXIT) !== 0;
    return {
      powerOff: Atomics.load(this.#header, POWER_OFF) !== 0,
      reset: Atomics.load(this.#header, RESET) !== 0,
      debugExit: exited ? Atomics.load(this.#header, DEBUG_EXIT_VALUE) >>> 0 : undefined,
    };
  }

  /** Whether address line 20 reaches the memory. */
  get a20Open(): boolean {
    return this.enter(() => a20Open(this.#keyboard.context));
  }

  /** What the VGA shows; undefined in a graphics mode. */
  screen(): TextScreen | undefined {
    return this.enter(() => readScreen(this.#vga.context));
  }

  #request(word: number, notify: (() => void) | undefined): void {
    Atomics.store(this.#header, word, 1);
    notify?.();
    this.wake();
  }

  /** Presses the power button: the guest's system decides what follows. */
  pressPowerButton(): void {
    this.enter(() => pressPowerButton(this.#pm.context));
  }

  /** Every device as after power-on. */
  reset(): void {
    this.enter(() => {
      for (const device of this.#devices) device.reset();
      Atomics.store(this.#header, POWER_OFF, 0);
      Atomics.store(this.#header, RESET, 0);
      Atomics.store(this.#header, DEBUG_EXIT, 0);
      this.fabric.refreshAll();
    });
  }

  /** The whole state; to be taken while neither guest nor host is at work. */
  save(): SavedBoard {
    return this.enter(() =>
      Object.fromEntries([
        ...this.#devices.map((device) => [device.name, device.save()]),
        ...Object.entries(this.#rings).map(([name, ring]) => [name, { version: 1, fields: { bytes: ring.save() } }]),
      ]),
    );
  }

  /**
   * Throws `state-invalid` or `state-version` where a device's state is missing, damaged, newer, or of a device that is
   * not here; the board must then be reset before it is used.
   */
  load(saved: SavedBoard): void {
    const invalid = (why: string): IsolaError =>
      new IsolaError({ code: "state-invalid", message: `loading the board: ${why}; the saved state is damaged` });
    this.enter(() => {
      const names = new Set(Object.keys(saved));
      const stateOf = (name: string): SavedDevice => {
        const state = names.delete(name) ? saved[name] : undefined;
        if (state === undefined) throw invalid(`no state of ${name} among ${Object.keys(saved).length} devices`);
        return state;
      };
      for (const device of this.#devices) device.load(stateOf(device.name));
      for (const [name, ring] of Object.entries(this.#rings)) {
        const { bytes } = stateOf(name).fields;
        if (!(bytes instanceof Uint8Array) || !ring.load(bytes)) throw invalid(`${name} holds no bytes, or too many`);
      }
      const [strange] = names;
      if (strange !== undefined) throw invalid(`a state of ${strange}, which this board lacks`);
      this.#settleOutside();
      this.fabric.refreshAll();
      this.serial.resume();
      this.virtio.resume();
    });
  }
}

export const createBoard = (options: BoardOptions): Board => new Board(options);

/** What fw_cfg tells, and how it reaches RAM. */
const fwCfgPort = ({ ramBytes, vcpus, fwCfg: files = [], memory, onDeviceWrites }: BoardOptions): FwCfgPort => ({
  items: fwCfgItems({ ramBytes, vcpus, ram: memory?.regions ?? [], files }),
  ram(address, length) {
    const view = memory?.slice(address, length);
    if (view !== undefined) onDeviceWrites?.(view);
    return view;
  },
});

/** A line that its source reaches only while `open` says so. */
const gate = (line: IrqLine, open: () => boolean): IrqLine => ({
  raise() {
    if (open()) line.raise();
  },
  lower: () => line.lower(),
  pulse() {
    if (open()) line.pulse();
  },
});

/** A processor's accesses: its own local APIC first, then the shared bus, each under the lock. */
class ProcessorBus implements Bus {
  readonly #bus: DeviceBus;
  readonly #lock: SharedLock;
  readonly #interrupts: ProcessorInterrupts | undefined;

  constructor(bus: DeviceBus, lock: SharedLock, interrupts: ProcessorInterrupts | undefined) {
    this.#bus = bus;
    this.#lock = lock;
    this.#interrupts = interrupts;
  }

  readPort(port: number, size: AccessSize): number {
    this.#lock.acquire();
    try {
      return this.#bus.readPort(port, size);
    } finally {
      this.#lock.release();
    }
  }

  writePort(port: number, size: AccessSize, value: number): void {
    this.#lock.acquire();
    try {
      this.#bus.writePort(port, size, value);
    } finally {
      this.#lock.release();
    }
  }

  readMmio(address: number, size: AccessSize): number {
    this.#lock.acquire();
    try {
      const own = this.#interrupts;
      const offset = own === undefined ? -1 : own.offsetOf(address);
      return own !== undefined && offset >= 0 ? own.lapic.read(offset, size) : this.#bus.readMmio(address, size);
    } finally {
      this.#lock.release();
    }
  }

  writeMmio(address: number, size: AccessSize, value: number): void {
    this.#lock.acquire();
    try {
      const own = this.#interrupts;
      const offset = own === undefined ? -1 : own.offsetOf(address);
      if (own !== undefined && offset >= 0) own.lapic.write(offset, size, value);
      else this.#bus.writeMmio(address, size, value);
    } finally {
      this.#lock.release();
    }
  }
}

/** The host's end of the keyboard. */
export class KeyboardHost {
  readonly #keys: ByteRing;
  readonly #pressed: () => void;

  constructor(keys: ByteRing, pressed: () => void) {
    this.#keys = keys;
    this.#pressed = pressed;
  }

  /** Keys pressed and released, in scan code set 1; result: how many bytes there was room for. */
  write(codes: Uint8Array): number {
    const count = this.#keys.write(codes);
    if (count > 0) this.#pressed();
    return count;
  }

  /** Resolves once `write` has room. */
  writable(): Promise<void> {
    return this.#keys.writable();
  }
}

/** The host's end of the serial line. One thread reads it, one thread writes it. */
export class SerialHost {
  readonly #output: ByteRing;
  readonly #input: ByteRing;
  readonly #uart: { drain(): void; receive(): void };

  constructor(output: ByteRing, input: ByteRing, chip: { drain(): void; receive(): void }) {
    this.#output = output;
    this.#input = input;
    this.#uart = chip;
  }

  /** After loading a state: bytes held back go on their way. */
  resume(): void {
    this.#uart.drain();
    this.#uart.receive();
  }

  /** All that the guest has sent; may be empty. */
  read(): Uint8Array<ArrayBuffer> {
    const bytes = this.#output.read();
    // There is room again: the transmitter may hold bytes back.
    if (bytes.length > 0) this.#uart.drain();
    return bytes;
  }

  /** Resolves once `read` has something. */
  readable(): Promise<void> {
    return this.#output.readable();
  }

  /** Sends to the guest what there is room for; result: how many bytes. */
  write(bytes: Uint8Array): number {
    const count = this.#input.write(bytes);
    if (count > 0) this.#uart.receive();
    return count;
  }

  /** Resolves once `write` has room. */
  writable(): Promise<void> {
    return this.#input.writable();
  }
}
