/** Memtest86+ at its menu, by keys on the serial port: one pass of its tests 0 to 9 over a part of a 32 MiB guest. */

import assert from "node:assert/strict";
import { ImageStore } from "../../../src/images/store.ts";
import { Guest, MIB } from "../guest.ts";

export const MEMORY_MIB = 32;

/** Tests `first` to `end` (in MiB, not included) and reboots; fails where an error is found or `seconds` are over. */
export async function testMemory(first: number, end: number, seconds: number): Promise<void> {
  const image = await new ImageStore().open("memtest86+");
  await using guest = await Guest.start({ memoryBytes: MEMORY_MIB * MIB, ...image });
  /** Presses keys, each after the menu has shown what it is an answer to. */
  const answer = async (...steps: readonly (readonly [RegExp, string])[]) => {
    for (const [shown, keys] of steps) {
      await guest.expect(shown);
      guest.type(keys);
    }
  };
  await answer([/Memtest86\+ v/, "1"], [/Test selection/, "1"], [/Add test range/, "1"]);
  await answer([/Current selection/, "4"], [/first/i, "0\r"], [/last/i, "9\r"], [/\*{10}\./, "0"]);
  await answer([/Address range/, "2"], [/Set lower limit/, "1"], [/lower limit/, `${first}m\r`]);
  await answer([/Current range: \d+[KM]B - 32MB/, "2"], [/upper limit/, `${end}m\r`]);
  await answer([new RegExp(`Current range: \\d+[KM]B - ${end}MB`), "0"], [/Address range/, "0"]);
  await guest.expect(/Pass: {2}1 {8}Errors: 0 /, seconds);
  guest.type("\x1b");
  assert.deepEqual(await guest.end(), { kind: "reset" });
  assert.doesNotMatch(guest.text, /Errors: [1-9]/);
}
