/** Ports that systems write to pass the time or to show their progress: 0x80 and 0xed (POST, delay). */

import { defineDevice, pio } from "../device.ts";
import { u8 } from "../state.ts";

export const postPort = defineDevice<null>()({
  name: "post",
  version: 1,
  ranges: [pio(0x80, 1), pio(0xed, 1)],
  state: { code: u8 },
  read: ({ state }) => state.code,
  write({ state }, offset, _size, value) {
    if (offset === 0) state.code = value;
  },
});
