/** A Node worker that runs one vCPU on the host's KVM. */

import { flushCompileCache } from "node:module";
import { parentPort } from "node:worker_threads";
import { kickable } from "../cpu/kvm/kick.ts";
import { KvmInterrupts } from "../cpu/kvm/kvm-interrupts.ts";
import { KvmVcpu } from "../cpu/kvm/kvm-vcpu.ts";
import { VcpuFile } from "../cpu/kvm/vcpu-file.ts";
import type { Bus } from "../cpu/vcpu.ts";
import { Board } from "../machine/board.ts";
import { HostClock } from "../machine/clock.ts";
import { CONTROL, type VcpuThreadMessage } from "../machine/vcpu-messages.ts";
import { VcpuGovernor } from "../machine/vcpu-governor.ts";
import type { VmResult } from "../machine/vm-contract.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { linuxSys } from "../sys/linux.ts";
import type { KvmThreadStart } from "./kvm-engine.ts";
import { processMicros } from "./worker-thread.ts";

// A worker that is terminated keeps nothing, so what it compiled is stored at its start.
flushCompileCache();

/** The processor's bus; the VM's thread, which serves timers, hears of those that an access has set. */
function announcing(bus: Bus, board: Board): Bus {
  return {
    readPort(port, size) {
      const value = bus.readPort(port, size);
      board.announceDeadline();
      return value;
    },
    writePort(port, size, value) {
      bus.writePort(port, size, value);
      board.announceDeadline();
    },
    readMmio(address, size) {
      const value = bus.readMmio(address, size);
      board.announceDeadline();
      return value;
    },
    writeMmio(address, size, value) {
      bus.writeMmio(address, size, value);
      board.announceDeadline();
    },
  };
}

function run(start: KvmThreadStart, post: (message: VcpuThreadMessage) => void): VmResult {
  const { cpu, config } = start;
  const sys = linuxSys();
  const control = new Int32Array(start.control);
  const memory = GuestMemory.attach(start.memory, config.ramBytes);
  const running: { vcpu?: KvmVcpu } = {};
  const leave = (): void => running.vcpu?.leave();
  const board = new Board({
    ...config,
    clock: new HostClock(start.clock),
    memory,
    shared: start.board,
    outside: new KvmInterrupts(sys, start.vm),
    onPowerOff: leave,
    onReset: leave,
    onDebugExit: leave,
  });
  const processor = board.processors[cpu];
  if (processor === undefined) throw new RangeError(`processor ${cpu} of ${config.vcpus}`);
  using file = VcpuFile.attach(sys, start.place);
  const vcpu = new KvmVcpu(file, memory, announcing(processor.bus, board));
  running.vcpu = vcpu;
  if (start.state !== undefined) vcpu.state.load(start.state);
  const report = (): void => post({ kind: "state", cpu, state: vcpu.state.save() });
  const governor = new VcpuGovernor(start, { board, usedMicros: processMicros, report });
  governor.begin();
  for (;;) {
    const exit = vcpu.run();
    Atomics.add(control, CONTROL.exits, 1);
    const result = governor.settle(exit);
    if (result !== undefined) return result;
  }
}

const port = parentPort;
if (port === null) throw new Error("kvm-vcpu-worker.ts runs as a worker");
port.once("message", (start: KvmThreadStart) => {
  const post = (message: VcpuThreadMessage): void => port.postMessage(message);
  post({ kind: "ended", result: kickable(linuxSys(), start.kick, () => run(start, post)) });
});
