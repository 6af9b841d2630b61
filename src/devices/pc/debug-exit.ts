/**
 * isa-debug-exit: a program ends its virtual machine by writing a value to a port, and so reports how its tests went.
 * [QEMU hw/misc/debugexit.c: the device's properties and the status (value << 1) | 1]
 */

import { defineDevice, pio } from "../device.ts";

export interface DebugExitPort {
  /** `value` as written, up to 32 bits. */
  exit(value: number): void;
}

/** Where the device lies: its first port, and how many ports. */
export interface DebugExitConfig {
  readonly base: number;
  readonly size: number;
}
export const DEFAULT_DEBUG_EXIT: DebugExitConfig = { base: 0x501, size: 2 };

export const debugExit = defineDevice<DebugExitPort>()({
  name: "debug-exit",
  version: 1,
  ranges: [pio(DEFAULT_DEBUG_EXIT.base, DEFAULT_DEBUG_EXIT.size)],
  widths: { min: 1, max: 4 },
  state: {},
  read: () => 0,
  write({ port }, _offset, _size, value) {
    port.exit(value);
  },
});
