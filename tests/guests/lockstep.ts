/**
 * Interpreter and compiler in lockstep: two boards boot the same image with clocks that count instructions, slice by
 * slice, and their processors are compared after each. It stops at the first difference.
 *
 *     npm run lockstep -- [--slices N] [--instructions N] [--after N] [--fine-from N] [--image debian]
 *                         [--initrd FILE] [--memory 256M] [--type LINE]...
 *
 * Lines given by --type are typed at the prompt before "poweroff": programs find what a boot does not.
 *
 * Time stands still within a slice, interrupts are taken at the same instruction, and RDRAND is not offered, so that
 * both see the same world. The compiler's side leads; the interpreter's stops after exactly as many instructions.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { IsolaError } from "../../src/base/errors.ts";
import { parseMemory } from "../../src/cli/memory-size.ts";
import type { VcpuExit } from "../../src/cpu/vcpu.ts";
import { type Pace, PortableVcpu } from "../../src/cpu/wasm/portable-vcpu.ts";
import { STATE_BASE } from "../../src/cpu/wasm/layout.ts";
import { decompress } from "../../src/images/decompress/decompress.ts";
import { ImageStore } from "../../src/images/store.ts";
import { DEFAULT_CPU_MODEL } from "../../src/isa/cpu-models.ts";
import { gprOffset, STATE, X87_REGISTERS, XMM } from "../../src/isa/state.ts";
import { acpiTables, RESERVED_RANGES } from "../../src/machine/acpi.ts";
import { Board } from "../../src/machine/board.ts";
import { loadKernel } from "../../src/machine/boot/load-kernel.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";

const TSC_HZ = 1e9;
/** Nanoseconds that a slice takes in the guest. */
const SLICE_NS = 200_000;
/** Instructions between two comparisons where they are looked at closely. */
const FINE = 20;
/** The shell asks the terminal for its width after the prompt. */
const SHELL_PROMPT = new RegExp(`# (${String.fromCharCode(27)}\\[6n)?$`);
const REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");

/** Nanoseconds since power-on, moved by hand. */
class StepClock {
  ns = 0;
  readonly tscHz = TSC_HZ;
  readonly bootTime = 1_700_000_000_000_000_000n;
  now(): number {
    return this.ns;
  }
}

interface Side {
  readonly name: string;
  readonly vcpu: PortableVcpu;
  readonly board: Board;
  readonly clock: StepClock;
  readonly memory: GuestMemory;
  output: string;
  /** What is still to be typed. */
  input: Buffer;
  /** How far the next run goes. */
  pace: Pace;
}

async function createSide(
  name: string,
  { image, initrd, ramBytes }: Pick<LockstepOptions, "image" | "initrd" | "ramBytes">,
  compileAfter: number | undefined,
): Promise<Side> {
  const files = await new ImageStore().open(image, () => undefined);
  const memory = GuestMemory.create(ramBytes);
  const clock = new StepClock();
  const board = new Board({ clock, memory, ramBytes, vcpus: 1 });
  const tables = acpiTables({ vcpus: 1 });
  const state = await loadKernel({
    memory,
    ...files,
    ...(initrd === undefined ? {} : { initrd }),
    decompress,
    tables,
    rsdp: tables[0]?.address ?? 0,
    reserved: RESERVED_RANGES.map(({ start, end }) => ({ start, size: end - start })),
  });
  const features = new Set(DEFAULT_CPU_MODEL.features);
  features.delete("rdrand");
  features.delete("rdseed");
  const side: { pace: Pace } = { pace: { instructions: 0, looks: true, exact: false } };
  const vcpu = new PortableVcpu(
    memory,
    { bus: board.bus, interrupts: board.interrupts, clock },
    {
      features,
      pace: () => side.pace,
      ...(compileAfter === undefined ? {} : { compiler: { threshold: compileAfter, maxBytes: 16 << 20 } }),
    },
  );
  vcpu.state.load(state);
  return Object.assign(side, { name, vcpu, board, clock, memory, output: "", input: Buffer.alloc(0) });
}

/** The parts of the processor's state that both must agree in, by name. */
function* differences(a: Side, b: Side): Generator<string> {
  const long = (side: Side, offset: number) => side.memory.view.getBigUint64(STATE_BASE + offset, true).toString(16);
  const compare = function* (what: string, offset: number): Generator<string> {
    const [x, y] = [long(a, offset), long(b, offset)];
    if (x !== y) yield `${what}: ${a.name} ${x}, ${b.name} ${y}`;
  };
  yield* compare("rip", STATE.rip.offset);
  for (const [number, name] of REGISTERS.entries()) yield* compare(name, gprOffset(number));
  const [flagsA, flagsB] = [a, b].map(({ vcpu }) => vcpu.state.save().rflags);
  if (flagsA !== flagsB) yield `rflags: ${a.name} ${flagsA?.toString(16)}, ${b.name} ${flagsB?.toString(16)}`;
  for (let i = 0; i < 32; i++) yield* compare(`xmm${i >> 1}`, XMM + i * 8);
  for (let i = 0; i < 16; i++) yield* compare(`x87 register ${i >> 1}`, X87_REGISTERS + i * 8);
  for (const name of ["cr2", "cr3", "mxcsr", "cpl"] as const) yield* compare(name, STATE[name].offset);
  if (a.vcpu.retired !== b.vcpu.retired) yield `instructions: ${a.vcpu.retired} and ${b.vcpu.retired}`;
}

interface LockstepOptions {
  readonly image: string;
  /** Instead of the image's. */
  readonly initrd: Uint8Array | undefined;
  readonly ramBytes: number;
  /** Typed at the prompt. */
  readonly lines: readonly string[];
  readonly slices: number;
  /** Instructions of a slice. */
  readonly instructions: number;
  readonly compileAfter: number;
  /** From this slice on the processors are compared every few instructions: to find where they part. */
  readonly fineFrom: number;
  readonly say: (line: string) => void;
}

/** Runs both for some instructions and compares them. @throws IsolaError `lockstep` at a difference */
function runPiece(
  compiler: Side,
  interpreter: Side,
  { instructions, looks, slice }: { instructions: number; looks: boolean; slice: number },
): VcpuExit["kind"] {
  const before = compiler.vcpu.retired;
  compiler.pace = { instructions, looks, exact: false };
  let first = compiler.vcpu.run();
  // On to the end of one more instruction: the slice may have ended within a repeated one.
  if (first.kind === "slice") {
    compiler.pace = { instructions: 1, looks: false, exact: true };
    first = compiler.vcpu.run();
  }
  interpreter.pace = { instructions: Number(compiler.vcpu.retired - before), looks, exact: true };
  const second = interpreter.vcpu.run();
  const found = [...differences(compiler, interpreter)];
  if (first.kind !== second.kind) found.push(`exit: ${first.kind} and ${second.kind}`);
  if (found.length > 0) {
    const since = `in slice ${slice}, after ${before} instructions`;
    throw new IsolaError({ code: "lockstep", message: `${since}: ${found.join("; ")}` });
  }
  return first.kind;
}

/** Boots both until the guest powers off or the slices are over. @throws IsolaError `lockstep` at a difference */
async function runLockstep(options: LockstepOptions): Promise<{ slices: number; output: string; compiled: number }> {
  const { lines, slices, instructions, compileAfter, fineFrom, say } = options;
  const compiler = await createSide("compiler", options, compileAfter);
  const interpreter = await createSide("interpreter", options, undefined);
  let typed = false;
  let shown = performance.now();
  for (let slice = 1; slice <= slices; slice++) {
    const before = compiler.vcpu.retired;
    const piece = slice >= fineFrom ? FINE : instructions;
    let ended: VcpuExit["kind"] = "slice";
    for (let done = 0; done < instructions && ended === "slice"; done += piece) {
      ended = runPiece(compiler, interpreter, { instructions: piece, looks: done === 0, slice });
    }
    for (const side of [compiler, interpreter]) {
      side.clock.ns += SLICE_NS;
      if (ended === "halt") side.clock.ns = Math.max(side.clock.ns, Math.min(side.board.nextDeadline(), 1e15));
      if (side.board.nextDeadline() <= side.clock.ns) side.board.runTimers(side.clock.ns);
      side.output += Buffer.from(side.board.serial.read()).toString("latin1");
    }
    if (compiler.output !== interpreter.output) {
      throw new IsolaError({ code: "lockstep", message: `in slice ${slice}: the consoles differ` });
    }
    if (!typed && SHELL_PROMPT.test(compiler.output)) {
      typed = true;
      for (const side of [compiler, interpreter]) side.input = Buffer.from([...lines, "poweroff", ""].join("\n"));
    }
    for (const side of [compiler, interpreter]) side.input = side.input.subarray(side.board.serial.write(side.input));
    if (performance.now() - shown > 5000) {
      shown = performance.now();
      say(`slice ${slice}: ${Number(before) / 1e6} M instructions, ${compiler.output.split("\n").at(-2) ?? ""}`);
    }
    if (compiler.board.requests.powerOff || ended === "shutdown") {
      return { slices: slice, output: compiler.output, compiled: Number(compiler.vcpu.compiled) };
    }
  }
  return { slices, output: compiler.output, compiled: Number(compiler.vcpu.compiled) };
}

const { values } = parseArgs({
  options: {
    image: { type: "string", default: "debian" },
    slices: { type: "string", default: "1000000" },
    instructions: { type: "string", default: "50000" },
    after: { type: "string", default: "100" },
    "fine-from": { type: "string", default: "1000000" },
    initrd: { type: "string" },
    memory: { type: "string", default: "256M" },
    type: { type: "string", multiple: true, default: [] },
  },
});
try {
  const result = await runLockstep({
    image: values.image,
    initrd: values.initrd === undefined ? undefined : readFileSync(values.initrd),
    ramBytes: parseMemory(values.memory),
    lines: values.type,
    slices: Number(values.slices),
    instructions: Number(values.instructions),
    compileAfter: Number(values.after),
    fineFrom: Number(values["fine-from"]),
    say: (line) => console.error(line),
  });
  console.log(`${result.slices} slices agree; ${(result.compiled / 1e6).toFixed(1)} M instructions ran compiled`);
  console.log(result.output.split("\n").slice(-3).join("\n"));
} catch (error) {
  if (!(error instanceof IsolaError)) throw error;
  console.error(`lockstep: ${error.message}`);
  process.exitCode = 1;
}
