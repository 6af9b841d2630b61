/**
 * The one shape of a virtio device: what it offers, its own state, and what it does with its queues. The transport,
 * feature negotiation, the checks of rings and the interrupts are the framework's.
 *
 * A device has two sides. Its registers are a PCI function like any other device: synchronous, entered by any thread
 * under the board's lock; `info` is what every thread knows of it. Its queues are walked by `notified` on the I/O
 * thread alone, which has the `port`: the host's files, sockets and random numbers.
 */

import { IsolaError } from "../../base/errors.ts";
import type { GuestClock } from "../../cpu/vcpu.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type Device, defineDevice, type DeviceSpec, type IrqLine, type Range } from "../device.ts";
import type { SharedLock } from "../lock.ts";
import type { StateArena, StateOf, StateSpec } from "../state.ts";
import type { Work } from "./doorbells.ts";
import { type Chain, type Dma, VirtioQueues } from "./service.ts";
import {
  type DeviceRegisters,
  Transport,
  type TransportContext,
  type TransportPort,
  type TransportSpec,
  transportState,
} from "./transport.ts";

/** What a device's registers see. */
export interface RegisterContext<S extends StateSpec, Info> {
  readonly state: StateOf<S>;
  readonly info: Info;
}

/** One of the device's queues, as `notified` sees it. */
export interface QueueHandle {
  /** The chains that are available, each checked. Ends at once while the device is paused or reset. */
  take(): Iterable<Chain>;
}

export interface QueueContext<S extends StateSpec, Info, Port, Q extends string> extends RegisterContext<S, Info> {
  readonly port: Port;
  readonly queues: Readonly<Record<Q, QueueHandle>>;
  /** Whether the driver took a feature: a bit of the first word. */
  negotiated(feature: number): boolean;
}

export interface VirtioSpec<S extends StateSpec, Info, Port, Q extends string> {
  readonly name: string;
  /** Of the device's own state: raise it with every change of `state`. */
  readonly version: number;
  /** As in [virtio 1.2 §5]. */
  readonly type: number;
  readonly pciClass: number;
  /** Largest sizes, in the order of their numbers: powers of two, MAX_QUEUE_SIZE at most. */
  readonly queues: Readonly<Record<Q, number>>;
  readonly state: S;
  readonly configBytes?: number;
  /** The device's own features, bits 0 to 23. */
  features?(info: Info): number;
  /** A byte of the device's configuration. */
  readConfig?(context: RegisterContext<S, Info>, offset: number): number;
  writeConfig?(context: RegisterContext<S, Info>, offset: number, value: number): void;
  /** Power-on and every reset by the driver. */
  reset?(context: RegisterContext<S, Info>): void;
  /**
   * Something was made available. On the I/O thread, never entered twice at once; it may leave chains in flight and
   * complete them later. An error here is the host's: the device then asks its driver for a reset.
   */
  notified(context: QueueContext<S, Info, Port, Q>): void | Promise<void>;
}

export interface VirtioWiring<Info> {
  readonly arena: StateArena;
  readonly clock: GuestClock;
  readonly irq: IrqLine;
  readonly port: TransportPort;
  readonly info: Info;
  /** Of this instance: `virtio-blk0`. */
  readonly name: string;
  /** For tests without a PCI host: where the function's offsets are claimed. */
  readonly ranges?: readonly Range[];
}

/** What the I/O thread brings. */
export interface ServiceWiring<Port> {
  readonly port: Port;
  readonly memory: GuestMemory;
  readonly lock: SharedLock;
  readonly dma: Dma;
  /** Told, in one line, why the device stopped: the guest's fault or the host's. */
  onTrouble(message: string): void;
}

/** An instance: its registers, and the way to its queues. */
export interface VirtioDevice<Port> {
  readonly device: Device;
  readonly work: Work;
  readonly transport: Transport;
  /** Begins to serve the queues: once, on the I/O thread. */
  serve(wiring: ServiceWiring<Port>): VirtioQueues;
}

export interface VirtioDefinition<S extends StateSpec, Info, Port, Q extends string>
  extends VirtioSpec<S, Info, Port, Q> {
  instantiate(wiring: VirtioWiring<Info>): VirtioDevice<Port>;
}

export const defineVirtio =
  <Info, Port>() =>
  <const S extends StateSpec, const Q extends string>(
    spec: VirtioSpec<S, Info, Port, Q>,
  ): VirtioDefinition<S, Info, Port, Q> => {
    const queueNames = Object.keys(spec.queues) as Q[];
    const transportSpec: TransportSpec = {
      type: spec.type,
      pciClass: spec.pciClass,
      queueSizes: queueNames.map((name) => spec.queues[name]),
      configBytes: spec.configBytes ?? 0,
    };
    const layout = Transport.layout(transportSpec);
    const common = transportState(queueNames.length);
    for (const name of Object.keys(spec.state)) {
      if (Object.hasOwn(common, name)) {
        throw new IsolaError({
          code: "device-definition",
          message: `defining ${spec.name}: field ${name} is the transport's; give it another name`,
        });
      }
    }
    return {
      ...spec,
      instantiate({ info, ...wiring }) {
        const registers = new WeakMap<object, Transport>();
        // The device's fields come after the transport's, in one state: what is saved is one record.
        const state = { ...common, ...spec.state };
        const transportOf = (context: TransportContext): Transport => {
          const known = registers.get(context);
          if (known !== undefined) return known;
          const own = { state: context.state as unknown as StateOf<S>, info };
          const device: DeviceRegisters = {
            features: () => spec.features?.(info) ?? 0,
            readConfig: (offset) => spec.readConfig?.(own, offset) ?? 0,
            writeConfig: (offset, value) => spec.writeConfig?.(own, offset, value),
            reset: () => spec.reset?.(own),
          };
          const made = new Transport(transportSpec, layout, context, device);
          registers.set(context, made);
          return made;
        };
        const deviceSpec: DeviceSpec<typeof common, TransportPort> = {
          name: spec.name,
          version: spec.version,
          // Offsets are those of configuration space and the BAR: the PCI host finds them.
          ranges: [],
          widths: { min: 1, max: 4 },
          state,
          reset: (context) => transportOf(context).powerOn(),
          read: (context, offset, size) => transportOf(context).read(offset, size),
          write: (context, offset, size, value) => transportOf(context).write(offset, size, value),
        };
        const instance = defineDevice<TransportPort>()(deviceSpec).instantiate(wiring);
        const transport = transportOf(instance.context);
        return {
          device: instance,
          transport,
          work: wiring.port.work,
          serve: ({ port, ...service }) =>
            new VirtioQueues({
              ...service,
              name: wiring.name,
              transport,
              work: wiring.port.work,
              state: instance.context.state,
              queueNames,
              notified: (queues) =>
                spec.notified({
                  state: instance.context.state as unknown as StateOf<S>,
                  info,
                  port,
                  queues,
                  negotiated: (feature) => transport.negotiated(feature),
                }),
            }),
        };
      },
    };
  };
