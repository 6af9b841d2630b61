/** Runs a test guest on isola's board and portable engine, on this thread. */

import type { VcpuExit, VcpuHost } from "../../src/cpu/vcpu.ts";
import { PortableVcpu } from "../../src/cpu/wasm/portable-vcpu.ts";
import { Board } from "../../src/machine/board.ts";
import { readElf } from "../../src/machine/boot/elf.ts";
import { placeElf } from "../../src/machine/boot/placement.ts";
import { preparePvh, pvhEntry } from "../../src/machine/boot/pvh.ts";
import { clockOrigin, HostClock } from "../../src/machine/clock.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { EXIT_PORT } from "./guest/layout.ts";
import { RAM_BYTES } from "./machine.ts";

const NS_PER_MS = 1e6;
/** Executions after which code is compiled: ISOLA_TEST_COMPILER; unset, all is interpreted. */
const COMPILE_AFTER = Number(process.env["ISOLA_TEST_COMPILER"] ?? 0);
const COMPILED_BYTES = 16 << 20;

/**
 * What the guest writes to its serial port until it ends: by the exit port, a triple fault, a reset or power-off, or
 * when `limitMs` of host time have passed; the last line then says which of the latter.
 */
export function runIsola(image: Uint8Array, limitMs: number): string {
  const memory = GuestMemory.create(RAM_BYTES);
  const clock = new HostClock(clockOrigin());
  const board = new Board({ clock, ramBytes: RAM_BYTES, vcpus: 1, onGateA20: (open) => vcpu.gateA20(open) });
  let ended = false;
  const { bus } = board;
  const host: VcpuHost = {
    bus: {
      readPort: (port, size) => bus.readPort(port, size),
      writePort(port, size, value) {
        if (port === EXIT_PORT) ended = true;
        else bus.writePort(port, size, value);
      },
      readMmio: (address, size) => bus.readMmio(address, size),
      writeMmio: (address, size, value) => bus.writeMmio(address, size, value),
    },
    interrupts: board.interrupts,
    clock,
  };
  const compiler = { threshold: COMPILE_AFTER, maxBytes: COMPILED_BYTES };
  const vcpu: PortableVcpu = new PortableVcpu(memory, host, COMPILE_AFTER > 0 ? { compiler } : {});
  const elf = readElf(image);
  placeElf(memory, elf);
  vcpu.state.load(preparePvh({ memory, entry: pvhEntry(elf) ?? 0, map: [] }));
  let output = "";
  const started = performance.now();
  while (!ended) {
    const exit = vcpu.run();
    output += new TextDecoder().decode(board.serial.read());
    const end = endOf(exit, board) ?? (performance.now() - started > limitMs ? "timeout" : undefined);
    if (end !== undefined) return `${output}\n!${end}\n`;
    if (board.nextDeadline() <= clock.now()) board.runTimers(clock.now());
    if (exit.kind !== "halt") continue;
    if ((board.interrupts.pending() && !exit.masked) || board.interrupts.nmiPending()) continue;
    const ms = Math.min((board.nextDeadline() - clock.now()) / NS_PER_MS, 100);
    if (ms > 0) board.sleep(board.wakeTicket(), ms);
    if (board.nextDeadline() <= clock.now()) board.runTimers(clock.now());
  }
  return output + new TextDecoder().decode(board.serial.read());
}

function endOf(exit: VcpuExit, board: Board): string | undefined {
  if (exit.kind === "shutdown") return "shutdown";
  if (exit.kind === "internal-error") return exit.message;
  if (board.requests.reset) return "reset";
  return board.requests.powerOff ? "power-off" : undefined;
}
