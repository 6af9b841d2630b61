/**
 * v86 as the bench starts it: its own library in a Node of its own, by its documented options, with the guest's first
 * serial port on stdin and stdout and without a screen.
 *
 *   node bench/v86-guest.ts FIRMWARE VGA-FIRMWARE KERNEL INITRAMFS MEMORY-MIB COMMAND-LINE
 */

import { fileURLToPath } from "node:url";
import { V86 } from "v86";

const MIB = 2 ** 20;

const [bios = "", vgaBios = "", kernel = "", initramfs = "", memoryMib = "", commandLine = ""] = process.argv.slice(2);
const emulator = new V86({
  wasm_path: fileURLToPath(new URL("v86.wasm", import.meta.resolve("v86"))),
  bios: { url: bios },
  vga_bios: { url: vgaBios },
  bzimage: { url: kernel },
  initrd: { url: initramfs },
  cmdline: commandLine,
  memory_size: Number(memoryMib) * MIB,
  autostart: true,
});

/** Bytes that one slice of the guest's time printed are written at once. */
let printed: number[] = [];
emulator.add_listener("serial0-output-byte", (byte) => {
  if (printed.length === 0) {
    setImmediate(() => {
      process.stdout.write(Uint8Array.from(printed));
      printed = [];
    });
  }
  printed.push(byte);
});
process.stdin.on("data", (bytes: Buffer) => emulator.serial0_send(bytes.toString("latin1")));
