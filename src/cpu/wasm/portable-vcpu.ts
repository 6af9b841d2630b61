/**
 * The portable engine's vCPU: interpreter, decoded code, memory core and system helpers under the contract of vcpu.ts.
 */

import { DEFAULT_CPU_MODEL } from "../../isa/cpu-models.ts";
import type { FeatureName } from "../../isa/cpuid-features.ts";
import { DECODE, Decoder } from "../../isa/decode.ts";
import { ENGINE_HELPERS } from "../../isa/engine-helpers.ts";
import { AC, IF, RF, TF } from "../../isa/flags.ts";
import { EXCEPTION, RSP } from "../../isa/semantics.ts";
import { type Field, STATE } from "../../isa/state.ts";
import { INSTRUCTIONS } from "../../isa/table.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { AccessSize, CpuState, Vcpu, VcpuExit, VcpuHost } from "../vcpu.ts";
import { type CompilerOptions, type CompilerStats, RegionCompiler } from "./compiler/region-compiler.ts";
import { type EngineHost, GuestFault } from "./engine-host.ts";
import { buildHandler, handlerName, NO_FLAGS, type Sequence, sequenceName } from "./handlers.ts";
import { sseHelpers } from "./helpers/sse.ts";
import { x87Helpers } from "./helpers/x87.ts";
import { quickX87 } from "./x87/quick-x87.ts";
import { HOT_INSTRUCTIONS } from "./hot-instructions.ts";
import { HOT_INSTRUCTIONS_32 } from "./hot-instructions-32.ts";
import { Interpreter } from "./interpreter.ts";
import { JumpContexts } from "./jump-contexts.ts";
import { ARENA, EXIT, FETCH_RIGHTS, HINT, PROFILE, RECORD, STATE_BASE, TLB, TLB_LOGS } from "./layout.ts";
import { createMemoryCore, type MemoryCore, type MemoryCoreImports } from "./memory/memory-core.ts";
import { ACCESS, NON_CANONICAL_ERROR, PAGING } from "./memory/page-walk.ts";
import { ATTRIBUTE, CR0, CR4, StateView } from "./state-view.ts";
import { SystemUnit } from "./system/system-unit.ts";
import { type ProfiledTrace, TraceCache } from "./traces.ts";

/** Bounds of a slice in instructions; it is tuned towards SLICE_MS. */
const MIN_FUEL = 1000;
const MAX_FUEL = 2_000_000;
const SLICE_MS = 1;
const EFER_LMA = 1 << 10;
const PAGE_BYTES = 4096;
/** Instructions that the interpreter may run between two looks at the fuel, and one more. */
const LONGEST_TRACE = 65;
/** A push or pop reaches at most so many bytes from RSP: two fields of a far pointer. */
const STACK_REACH = 16n;

/** How far a paced slice goes. */
export interface Pace {
  /** Instructions that it has at least. */
  readonly instructions: number;
  /** Whether interrupts are taken at its start. */
  readonly looks: boolean;
  /** Whether it stops after exactly so many, with no instruction half done. */
  readonly exact: boolean;
}

export interface PortableOptions {
  /** What the processor has, by CPUID's names; absent: what the default model has. */
  readonly features?: ReadonlySet<FeatureName>;
  /** Told of each instruction that raised #UD because the table lacks it. */
  onUndefined?(bytes: Uint8Array, rip: bigint): void;
  /** Counts executions by record: `profile` then tells. */
  readonly counts?: boolean;
  /** Paces each slice by instructions instead of time: for runs that must repeat exactly, whatever the host does. */
  readonly pace?: () => Pace;
  /** Compiles what is hot; absent: everything is interpreted. */
  readonly compiler?: CompilerOptions;
}

export class PortableVcpu implements Vcpu {
  readonly state: { load(state: CpuState): void; save(): CpuState };
  readonly #host: VcpuHost;
  readonly #core: MemoryCore;
  readonly #interpreter: Interpreter;
  readonly #traces: TraceCache;
  readonly #view: StateView;
  readonly #system: SystemUnit;
  readonly #words: Int32Array;
  readonly #memory: GuestMemory;
  readonly #compiler: RegionCompiler | undefined;
  readonly #pace: PortableOptions["pace"];
  readonly #jumps: JumpContexts;
  #fuel = 20_000;
  #exit: "halt" | "shutdown" | undefined;
  #shadowed = false;
  #passing = false;
  #halted = false;
  /** Instructions are run one by one, to stop a paced slice after exactly its number. */
  #counting = false;
  /** Returns from WebAssembly to here, by cause; for statistics. */
  readonly exits = { slice: 0, decode: 0, fault: 0, poll: 0, interrupt: 0, compile: 0 };

  constructor(memory: GuestMemory, host: VcpuHost, options: PortableOptions = {}) {
    this.#memory = memory;
    this.#jumps = new JumpContexts(memory);
    this.#pace = options.pace;
    this.#host = host;
    this.#words = new Int32Array(memory.memory.buffer);
    this.#view = new StateView(memory, STATE_BASE);
    const hint = () => this.#hint();
    const features = options.features ?? DEFAULT_CPU_MODEL.features;
    const imports: MemoryCoreImports = {
      mmioRead: (address, bytes) => host.bus.readMmio(Number(address), bytes as AccessSize) | 0,
      mmioWrite: (address, bytes, value) => {
        const unsigned = bytes === 4 ? value >>> 0 : value & ((1 << (bytes * 8)) - 1);
        host.bus.writeMmio(Number(address), bytes as AccessSize, unsigned);
        hint();
      },
      viewChanged: () => this.#viewChanged(),
      codeWrite: (place, bytes) => (this.#traces.written(place, bytes) ? 0 : 1),
      watched: (address, bytes, access) =>
        this.#system.breakpoints.accessed(address, bytes, (access & ACCESS.write) !== 0),
    };
    this.#core = createMemoryCore(memory, imports, { gigabytePages: features.has("pdpe1gb") });
    const engine = this.#engineHost(hint, features);
    this.#system = new SystemUnit(engine, this.#view);
    const unit = x87Helpers(engine);
    const helpers = {
      ...guarded({ ...this.#system.helpers, ...sseHelpers(engine) }, (fault) => this.#raise(fault)),
      x87: quickX87(memory, unit.x87),
    };

    const decoder = new Decoder(INSTRUCTIONS, features);
    const hot = hotSequences(decoder);
    this.#interpreter = new Interpreter(memory, this.#core, helpers, [...hot.values()], options.counts);
    if (options.compiler !== undefined) {
      this.#compiler = new RegionCompiler(
        memory,
        this.#core,
        helpers,
        this.#interpreter.regions,
        decoder,
        {
          fetch: (linear) => this.#fetchable(linear),
          claim: (page) => this.#traces.pages.claim(page),
          own: (page, from, to, owner) => this.#traces.pages.own(page, from, to, owner),
        },
        options.compiler,
      );
    }
    this.#traces = new TraceCache(
      memory,
      {
        fetch: (linear) => this.#translate(linear, ACCESS.fetch),
        addHandlers: (handlers) => this.#interpreter.add(handlers),
        forgetJumps: () => this.#forgetJumps(),
        forgetWritable: (place) => this.#core.forgetWritable(place),
        mayBreak: (offset) => this.#system.breakpoints.mayBreak(offset),
        onUndefined: (bytes) => options.onUndefined?.(bytes, this.#view.long(STATE.rip)),
        heads: this.#compiler,
      },
      decoder,
    );
    for (const [i, sequence] of [...hot.values()].entries()) {
      this.#traces.register(sequence, this.#interpreter.firstHot + i);
    }
    if (options.counts === true) this.#traces.profiled = [];
    this.state = {
      load: (state) => {
        this.#view.load(state);
        this.#stateReplaced(state.pdptes !== undefined);
        this.#system.clockChanged();
        this.#loadBetween(state);
      },
      save: () => ({ ...this.#view.save(), ...this.#saveBetween() }),
    };
  }

  /** What stands between two instructions besides the registers. */
  #loadBetween({ activity, interruptShadow, nmiBlocked, event }: CpuState): void {
    this.#halted = activity !== "running";
    this.#system.nmiBlocked = nmiBlocked;
    this.#view.setLong(STATE.shadowRip, interruptShadow ? this.#view.long(STATE.rip) : NO_SHADOW);
    if (event === undefined) return;
    const { kind, vector, errorCode } = event;
    if (kind === "nmi") this.#system.deliverNmi();
    else this.#system.deliver(vector, errorCode, { external: kind === "interrupt", software: kind === "software" });
  }

  #saveBetween(): Pick<CpuState, "activity" | "interruptShadow" | "nmiBlocked"> {
    return {
      activity: this.#halted ? "halted" : "running",
      interruptShadow: this.#shadowed || this.#view.long(STATE.shadowRip) === this.#view.long(STATE.rip),
      nmiBlocked: this.#system.nmiBlocked,
    };
  }

  reset(): void {
    this.#system.reset();
    this.#view.setLong(STATE.heldAddressBits, 0n);
    this.#stateReplaced();
  }

  /** The board's gate of address line 20, open after a reset: shut, every physical address has that bit 0. To be called
   * on this thread, between instructions or from a port's handler. */
  gateA20(open: boolean): void {
    this.#view.setLong(STATE.heldAddressBits, open ? 0n : 1n << 20n);
    this.#core.flushAll();
    this.#forgetJumps();
  }

  deviceWrote(place: number, bytes: number): void {
    const end = place + bytes;
    for (let at = place; at < end; at = at - (at % PAGE_BYTES) + PAGE_BYTES) this.#traces.written(at, end - at);
  }

  /** Gives back memory that only makes decoding faster, for a guest that rests. */
  trim(): void {
    this.#traces.trim();
  }

  /** Instructions retired so far. */
  get retired(): bigint {
    return this.#view.long(STATE.retired);
  }

  /** Those of them that ran in compiled code. */
  get compiled(): bigint {
    return this.#view.long(STATE.compiled);
  }

  /** How often each trace's instructions ran, where that is counted. */
  profile(): { trace: ProfiledTrace; counts: number[] }[] {
    return (this.#traces.profiled ?? []).map((trace) => ({
      trace,
      counts: trace.names.map((_, i) => {
        const record = trace.record + i * RECORD.bytes;
        return (this.#words[(PROFILE + (record - ARENA.base) / 8) >> 2] ?? 0) >>> 0;
      }),
    }));
  }

  /** What the compiler has done so far; undefined where there is none. */
  get compilerStats(): Readonly<CompilerStats> | undefined {
    return this.#compiler?.stats;
  }

  run(): VcpuExit {
    this.#compiler?.flush();
    if (this.#halted && !this.#wakes()) return this.#halt();
    this.#halted = false;
    const started = performance.now();
    let fuel = this.#fuel;
    const pace = this.#pace?.();
    const goal = pace === undefined ? 0n : this.retired + BigInt(pace.instructions);
    let looks = pace?.looks !== false;
    for (;;) {
      if (looks) this.#takeInterrupt();
      looks = true;
      if (pace !== undefined) {
        const left = Number(goal - this.retired);
        const counting = pace.exact && left > 0 && left <= LONGEST_TRACE;
        if (counting !== this.#counting) this.#setCounting(counting);
        if (pace.exact && left <= 0) return { kind: "slice" };
        fuel = Math.max(left - (pace.exact ? LONGEST_TRACE : 1), 0);
      }
      // With TF set, one instruction, and one iteration of those under REP: no fuel is left after it.
      const stepping = (this.#view.systemFlags & TF) !== 0;
      // RF holds breakpoints back for one instruction, which is run out of the debugging context.
      const resuming = this.#system.breakpoints.armed && (this.#view.systemFlags & RF) !== 0;
      if (resuming) this.#setPassing(true);
      const single = this.#shadowed || this.#passing || this.#counting || stepping;
      const limited = single || (this.#word(STATE.decodeContext) & DECODE.debug) !== 0;
      const began = resuming ? this.#view.long(STATE.rip) : 0n;
      this.#setWord(STATE.attention, limited ? 1 : 0);
      const reason = this.#exit === undefined ? this.#interpreter.run(single ? 0 : fuel) : EXIT.poll;
      const shadowed = this.#shadowed;
      if (shadowed && reason !== EXIT.decode) this.#setShadowed(false);
      if (this.#passing && reason !== EXIT.decode) this.#setPassing(false);
      if (resuming && (reason === EXIT.poll || reason === EXIT.slice) && this.#view.long(STATE.rip) !== began) {
        this.#view.systemFlags &= ~RF;
      }
      // Between two iterations of a repeated instruction the debugger is left to, too.
      const stepped = reason === EXIT.slice || (reason === EXIT.debug && this.#word(STATE.debugTrap) !== 0);
      const retired = reason === EXIT.poll || (stepping && stepped);
      if (retired && this.#system.trapDue(stepping)) {
        if (this.#exit === "halt") this.#exit = undefined;
        if (this.#exit === undefined) this.#system.singleStep();
      }
      if (this.#word(STATE.debugTrap) !== 0) {
        if (reason === EXIT.fault) this.#setWord(STATE.debugTrap, 0);
        else if (this.#system.debugTrap()) continue;
      }
      const exit = this.#exit;
      if (exit !== undefined) {
        this.#exit = undefined;
        if (exit === "shutdown") return { kind: "shutdown", rip: this.#view.long(STATE.rip) };
        if (!this.#wakes()) return this.#halt();
        continue;
      }
      switch (reason) {
        case EXIT.slice: {
          // Interrupts that had to wait for one instruction are taken now, paced or not.
          if (pace?.exact === true) looks = shadowed;
          if (single || pace?.exact === true) break;
          this.exits.slice++;
          if (pace === undefined) this.#tune(performance.now() - started);
          return { kind: "slice" };
        }
        case EXIT.decode:
          this.exits.decode++;
          this.#decode();
          looks = pace === undefined;
          break;
        case EXIT.fault:
          this.exits.fault++;
          this.#deliverFault();
          break;
        case EXIT.limit:
          // The trace reaches beyond CS's limit; which of its instructions does, shows one by one.
          if (limited) this.#system.deliver(EXCEPTION.GP, 0, {});
          else this.#setShadowed(true);
          break;
        case EXIT.debug:
          if (!this.#system.instructionBreakpoint(this.#linearRip())) this.#setPassing(true);
          break;
        case EXIT.compile:
          this.exits.compile++;
          this.#compile();
          looks = pace === undefined;
          break;
        default:
          this.exits.poll++;
      }
      // What came here often still has to leave once a slice is over.
      if (pace === undefined && performance.now() - started > 2 * SLICE_MS) return { kind: "slice" };
      fuel = this.#fuel;
    }
  }

  /** Holds the slice near a millisecond, whatever the guest does. */
  #tune(elapsed: number): void {
    const wanted = elapsed <= 0 ? this.#fuel * 2 : (this.#fuel * SLICE_MS) / elapsed;
    const next = Math.min(Math.max(wanted, this.#fuel / 2), this.#fuel * 2);
    this.#fuel = Math.round(Math.min(Math.max(next, MIN_FUEL), MAX_FUEL));
  }

  /** Tells the guest's code whether interrupts wait; whether maskable ones do. */
  #hint(): boolean {
    const { interrupts } = this.#host;
    const pending = interrupts.pending();
    const nmi = interrupts.nmiPending?.() === true ? HINT.unmaskable : 0;
    this.#setWord(STATE.interruptHint, nmi | (pending ? HINT.maskable : 0));
    return pending;
  }

  /** Delivers an interrupt that waits, unless it has to wait for one more instruction, after STI or a load of SS. */
  #takeInterrupt(): void {
    const { interrupts } = this.#host;
    const maskable = this.#hint() && !this.#masked;
    const nmi = interrupts.nmiPending?.() === true && !this.#system.nmiBlocked;
    if ((!maskable && !nmi) || this.#shadowed) return;
    if (this.#view.long(STATE.shadowRip) === this.#view.long(STATE.rip)) {
      this.#view.setLong(STATE.shadowRip, NO_SHADOW);
      this.#setShadowed(true);
      return;
    }
    this.exits.interrupt++;
    if (nmi && interrupts.takeNmi?.() === true) this.#system.deliverNmi();
    else if (maskable) this.#system.deliver(interrupts.acknowledge(), undefined, { external: true });
  }

  /** Whether the next run is of one instruction, after which interrupts are looked at again. */
  #setShadowed(shadowed: boolean): void {
    this.#shadowed = shadowed;
    this.#viewChanged();
  }

  /** Whether the next run is of one instruction, whatever breakpoint it has. */
  #setPassing(passing: boolean): void {
    this.#passing = passing;
    this.#viewChanged();
  }

  #setCounting(counting: boolean): void {
    this.#counting = counting;
    this.#viewChanged();
  }

  /** Whether something ends HLT: an interrupt that is let in, or a non-maskable one that is not held back. */
  #wakes(): boolean {
    const { interrupts } = this.#host;
    if (interrupts.pending() && !this.#masked) return true;
    return interrupts.nmiPending?.() === true && !this.#system.nmiBlocked;
  }
  get #masked(): boolean {
    return (this.#word(STATE.flagsSystem) & IF) === 0;
  }
  #halt(): VcpuExit {
    this.#halted = true;
    return { kind: "halt", masked: this.#masked };
  }

  #decode(): void {
    this.#setWord(STATE.fault, 0);
    try {
      this.#traces.decode(BigInt.asUintN(64, this.#linearRip()), this.#word(STATE.decodeContext));
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      this.#system.deliver(error.vector, error.errorCode, {});
    }
  }

  /** The trace at RIP has become hot. */
  #compile(): void {
    this.#setWord(STATE.fault, 0);
    const linear = BigInt.asUintN(64, this.#linearRip());
    const record = this.#core.lookup(BigInt.asIntN(64, linear));
    const physical = this.#fetchable(linear);
    if (record === 0 || physical === undefined) return;
    this.#compiler?.request(linear, record, physical, this.#word(STATE.decodeContext));
  }

  /** Physical address of code; undefined where the fetch would fault. The guest never sees that it was asked for. */
  #fetchable(linear: bigint): number | undefined {
    const cr2 = this.#view.long(STATE.cr2);
    try {
      return this.#translate(linear, ACCESS.fetch);
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      this.#view.setLong(STATE.cr2, cr2);
      return undefined;
    }
  }

  #deliverFault(): void {
    const vector = this.#word(STATE.fault) - 1;
    let error: number | undefined = this.#word(STATE.faultError);
    this.#setWord(STATE.fault, 0);
    if (error === NON_CANONICAL_ERROR) {
      error = 0;
      this.#system.deliver(this.#usesStack() ? EXCEPTION.SS : EXCEPTION.GP, error, {});
      return;
    }
    if (!HAS_ERROR_CODE.has(vector)) error = undefined;
    this.#system.deliver(vector, error, {});
  }

  /** Whether the instruction at RIP reached for a non-canonical address by SS: tells #SS from #GP. */
  #usesStack(): boolean {
    try {
      const physical = this.#translate(this.#linearRip(), ACCESS.fetch);
      const bytes = this.#memory.slice(physical, 15) ?? new Uint8Array(0);
      const decoded = this.#traces.decoder.decode(bytes, this.#word(STATE.decodeContext));
      if (typeof decoded === "string") return false;
      if (!decoded.usesStack) return decoded.stackSegment;
      // PUSH, POP and CALL may have a memory operand besides: the stack's own access is near RSP.
      const hasOperand = decoded.operands.some(({ kind }) => kind === "mem");
      const width = this.#view.mode64 ? 64 : 32;
      const distance = BigInt.asIntN(width, this.#view.long(STATE.faultAddress) - this.#view.gpr(RSP));
      return decoded.stackSegment || !hasOperand || (distance >= -STACK_REACH && distance < STACK_REACH);
    } catch (error) {
      if (error instanceof GuestFault) return false;
      throw error;
    }
  }

  /** Where the instruction at RIP lies; outside 64-bit mode the sum wraps at 4 GiB. */
  #linearRip(): bigint {
    const view = this.#view;
    return (view.long(STATE.rip) + view.long(STATE.codeBase)) & view.long(STATE.ripMask);
  }

  #translate(linear: bigint, access: number): number {
    const physical = this.#core.translate(BigInt.asIntN(64, linear), access);
    this.#throwFault(true);
    return Number(physical);
  }

  /** #AC for a helper's access, as effects check their own. */
  #checkAlignment(address: bigint, bytes: number): void {
    if ((this.#word(STATE.decodeContext) & DECODE.alignment) === 0) return;
    if ((Number(address & 7n) & (bytes - 1)) === 0) return;
    // An address that is not canonical is left to the access itself, which knows #SS from #GP.
    if (BigInt.asIntN(48, address) === BigInt.asIntN(64, address)) throw new GuestFault(EXCEPTION.AC, 0);
  }

  /** Throws the fault that the memory core left in the state. `implicit`: a non-canonical address is #GP whatever the
   * instruction, since it is not its operand's. */
  #throwFault(implicit: boolean): void {
    const fault = this.#word(STATE.fault);
    if (fault === 0) return;
    this.#setWord(STATE.fault, 0);
    const error = this.#word(STATE.faultError);
    throw new GuestFault(fault - 1, implicit && error === NON_CANONICAL_ERROR ? 0 : error);
  }

  /** Leaves a helper's fault where the interpreter looks for it. */
  #raise(fault: GuestFault): void {
    this.#setWord(STATE.fault, fault.vector + 1);
    this.#setWord(STATE.faultError, fault.errorCode ?? 0);
  }

  #engineHost(hint: () => void, features: ReadonlySet<FeatureName>): EngineHost {
    const { bus, clock } = this.#host;
    const interrupts = withHint(this.#host.interrupts, hint);
    return {
      memory: this.#memory,
      stateBase: STATE_BASE,
      features,
      clock,
      bus: {
        readPort: (port, size) => {
          const value = bus.readPort(port, size);
          hint();
          return value;
        },
        writePort: (port, size, value) => {
          bus.writePort(port, size, value);
          hint();
        },
        readMmio: (address, size) => bus.readMmio(address, size),
        writeMmio: (address, size, value) => bus.writeMmio(address, size, value),
      },
      interrupts,
      load: (address, bytes, system) => {
        const signed = BigInt.asIntN(64, address);
        if (system !== true) this.#checkAlignment(signed, bytes);
        const value = system === true ? this.#core.loadSystem(signed, bytes) : this.#core.load(signed, bytes);
        this.#throwFault(system === true);
        return BigInt.asUintN(64, value);
      },
      store: (address, bytes, value, system) => {
        const signed = BigInt.asIntN(64, address);
        if (system !== true) this.#checkAlignment(signed, bytes);
        if (system === true) this.#core.storeSystem(signed, bytes, value);
        else this.#core.store(signed, bytes, value);
        this.#throwFault(system === true);
      },
      flushTlb: (scope) => {
        if (typeof scope === "bigint") this.#forgetJumps(this.#core.flushPage(BigInt.asIntN(64, scope)));
        else if (scope === "non-global") this.#forgetJumps(this.#core.flushNonGlobal());
        else {
          this.#core.flushAll();
          this.#forgetJumps();
        }
      },
      forgetCode: () => this.#traces.clear(),
      viewChanged: () => this.#viewChanged(),
      privilegeChanged: () => this.#privilegeChanged(),
      requestExit: (reason) => {
        this.#exit = reason;
        this.#setWord(STATE.attention, 1);
      },
    };
  }

  /** `withPointers`: the state came with PAE's directory pointers. */
  #stateReplaced(withPointers = false): void {
    this.#halted = false;
    this.#shadowed = false;
    this.#memory.bytes.fill(1, TLB.base, TLB.end);
    this.#passing = false;
    this.#setWord(STATE.fault, 0);
    this.#setWord(STATE.debugTrap, 0);
    for (const { count } of Object.values(TLB_LOGS)) this.#words[count >> 2] = 0;
    this.#core.flushAll();
    this.#system.breakpoints.update();
    if (!withPointers) this.#system.loadDirectoryPointers();
    this.#viewChanged();
    this.#traces.clear();
  }

  /** Most ways into a kernel and out of it: where nothing is stepped, watched or checked, only rights change. */
  #privilegeChanged(): void {
    const flags = this.#word(STATE.flagsSystem);
    if (this.#word(STATE.decodeContext) !== DECODE.long || (flags & (TF | AC)) !== 0) {
      this.#viewChanged();
      return;
    }
    const user = this.#word(STATE.cpl) === 3;
    this.#setWord(STATE.tlbBase, TLB.base + (user ? 2 : 0) * TLB.viewBytes);
    this.#setJumpContext();
  }

  /** Recomputes what follows from CPL, CS, SS, control registers and flags. */
  #viewChanged(): void {
    const view = this.#view;
    const cr0 = view.low(STATE.cr0);
    const cr4 = view.low(STATE.cr4);
    const flags = this.#word(STATE.flagsSystem);
    const long = view.mode64;
    const user = this.#word(STATE.cpl) === 3;
    const alignment = user && (flags & AC) !== 0 && (cr0 & CR0.AM) !== 0;
    const lifted = (flags & AC) !== 0 && (cr4 & CR4.SMAP) !== 0;
    this.#setWord(STATE.tlbBase, TLB.base + (user ? 2 : lifted ? 1 : 0) * TLB.viewBytes);
    let mode: number = PAGING.none;
    if ((cr0 & CR0.PG) !== 0) {
      if ((view.low(STATE.efer) & EFER_LMA) !== 0) mode = PAGING.fourLevel;
      else mode = (cr4 & CR4.PAE) !== 0 ? PAGING.pae : PAGING.twoLevel;
    }
    if (mode === PAGING.none) {
      this.#setWord(STATE.walkShift, 12);
      this.#setWord(STATE.walkWritable, 1);
    }
    this.#setWord(STATE.pagingMode, mode);
    let decode = (flags & TF) !== 0 || this.#shadowed || this.#passing || this.#counting ? DECODE.singleStep : 0;
    if (alignment) decode |= DECODE.alignment;
    if (this.#system.breakpoints.armed) this.#setWord(STATE.attention, 1);
    if (this.#system.breakpoints.armed && !this.#passing) decode |= DECODE.debug;
    if (long) decode |= DECODE.long;
    else {
      if ((view.attributes(CS_REGISTER) & ATTRIBUTE.big) !== 0) decode |= DECODE.code32;
      if (view.stackBits === 32) decode |= DECODE.stack32;
      if (view.usesDescriptors) decode |= DECODE.protected;
      decode |= this.#system.checkedSegments() << DECODE.checked;
      if (view.limit(CS_REGISTER) !== 0xffff_ffff) decode |= DECODE.limited;
    }
    this.#setWord(STATE.decodeContext, decode);
    view.setHalves(STATE.codeBase, long ? 0 : view.baseLow(CS_REGISTER), 0);
    view.setHalves(STATE.ripMask, -1, long ? -1 : 0);
    this.#setJumpContext();
    this.#system.deriveAvailability();
  }

  #setJumpContext(): void {
    const user = this.#word(STATE.cpl) === 3;
    this.#setWord(STATE.jumpContext, this.#jumps.of(this.#word(STATE.decodeContext), user));
  }

  #forgetJumps(rights: number = FETCH_RIGHTS.all): void {
    if (rights === 0) return;
    this.#jumps.forget(rights);
    this.#setJumpContext();
  }

  #word(field: Field): number {
    return this.#words[(STATE_BASE + field.offset) >> 2] ?? 0;
  }
  #setWord(field: Field, value: number): void {
    this.#words[(STATE_BASE + field.offset) >> 2] = value;
  }
}

const CS_REGISTER = 1;

/** No address of an instruction: not canonical. */
const NO_SHADOW = -(1n << 63n);
/** Exceptions that push an error code [SDM 3 table 6-1]. */
const HAS_ERROR_CODE: ReadonlySet<number> = new Set([
  EXCEPTION.DF,
  EXCEPTION.TS,
  EXCEPTION.NP,
  EXCEPTION.SS,
  EXCEPTION.GP,
  EXCEPTION.PF,
  EXCEPTION.AC,
]);

/** An interrupt controller that tells of what is pending after each change by the processor's own registers. */
function withHint(interrupts: VcpuHost["interrupts"], hint: () => void): VcpuHost["interrupts"] {
  return {
    pending: () => interrupts.pending(),
    nmiPending: () => interrupts.nmiPending?.() === true,
    takeNmi: () => interrupts.takeNmi?.() === true,
    acknowledge: () => interrupts.acknowledge(),
    readMsr: (index) => interrupts.readMsr(index),
    writeMsr: (index, value) => {
      const written = interrupts.writeMsr(index, value);
      hint();
      return written;
    },
    get taskPriority() {
      return interrupts.taskPriority;
    },
    set taskPriority(priority) {
      interrupts.taskPriority = priority;
      hint();
    },
  };
}

/** Helpers as WebAssembly calls them: a GuestFault goes into the state instead of through WebAssembly's frames. */
function guarded(
  helpers: Record<string, (...args: never[]) => unknown>,
  raise: (fault: GuestFault) => void,
): Record<string, (...args: never[]) => unknown> {
  const wrap = (name: string, helper: (...args: never[]) => unknown) => {
    const bigint = BIGINT_HELPERS.has(name);
    return (...args: never[]) => {
      try {
        return helper(...args);
      } catch (error) {
        if (!(error instanceof GuestFault)) throw error;
        raise(error);
        return bigint ? 0n : 0;
      }
    };
  };
  return Object.fromEntries(Object.entries(helpers).map(([name, helper]) => [name, wrap(name, helper)]));
}
const BIGINT_HELPERS: ReadonlySet<string> = new Set(
  Object.entries(ENGINE_HELPERS)
    .filter(([, helper]) => helper.result === "i64")
    .map(([name]) => name),
);

/** The hot sequences of handlers, by name, and each handler on its own. */
function hotSequences(decoder: Decoder): Map<string, Sequence> {
  const found = new Map<string, Sequence>();
  const lines = [
    ...HOT_INSTRUCTIONS.map((text) => ({ text, mode: DECODE.long })),
    ...HOT_INSTRUCTIONS_32.map((text) => ({ text, mode: DECODE.code32 | DECODE.stack32 })),
  ];
  for (const { text, mode } of lines) {
    const sequence = text.split(" ").map((word) => {
      const quiet = word.endsWith("!");
      const bytes = Uint8Array.from(word.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16));
      const decoded = decoder.decode(bytes, mode);
      // A CPU model without the feature has no such instruction.
      if (typeof decoded === "string") return undefined;
      const name = handlerName(decoded) + (quiet ? NO_FLAGS : "");
      return buildHandler(name, decoded);
    });
    const known = sequence.filter((handler) => handler !== undefined);
    if (known.length === sequence.length) found.set(sequenceName(known.map((h) => h.name)), known);
  }
  return found;
}
