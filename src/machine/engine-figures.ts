/** What the engine tells of itself when a guest has ended, and how a person reads it. */

export interface EngineFigures {
  /** Guest instructions retired, and those of them in compiled code. */
  readonly instructions: number;
  readonly compiledInstructions: number;
  /** Returns from WebAssembly by cause. */
  readonly exits: Readonly<Record<string, number>>;
  /** Seconds in which the vCPU's thread ran guest code. */
  readonly seconds: number;
  /** Absent where nothing is compiled. */
  readonly compiler?: {
    /** Regions compiled, those that live, and those forgotten because their code was written or for want of room. */
    readonly compiled: number;
    readonly live: number;
    readonly written: number;
    readonly evicted: number;
    /** Guest instructions compiled, bytes of WebAssembly made of them, milliseconds that the guest waited, and that were
     * spent beside it. */
    readonly instructions: number;
    readonly bytes: number;
    readonly milliseconds: number;
    readonly backgroundMilliseconds: number;
  };
}

function millions(value: number): string {
  return `${(value / 1e6).toFixed(1)} M`;
}

/** Lines for a person, without newline. */
export function describeFigures(figures: EngineFigures): string[] {
  const { instructions, compiledInstructions, exits, seconds, compiler } = figures;
  const share = instructions === 0 ? 0 : (100 * compiledInstructions) / instructions;
  const causes = Object.entries(exits).map(([cause, count]) => `${cause} ${count}`);
  const lines = [
    `${millions(instructions)} instructions in ${seconds.toFixed(2)} s of guest code, ${millions(instructions / Math.max(seconds, 1e-6))} a second`,
    `tiers: ${share.toFixed(1)} % compiled, ${(100 - share).toFixed(1)} % interpreted`,
    `exits by cause: ${causes.join(", ")}`,
  ];
  if (compiler !== undefined) {
    const { compiled, live, written, evicted, bytes, milliseconds } = compiler;
    lines.push(
      `compiled: ${compiled} regions of ${compiler.instructions} instructions to ${(bytes / 1024).toFixed(0)} KiB in ${milliseconds.toFixed(0)} ms and ${compiler.backgroundMilliseconds.toFixed(0)} ms beside the guest; ` +
        `${live} live, ${written} overwritten, ${evicted} evicted`,
    );
  }
  return lines;
}
