/**
 * The processor's system behaviour, as the engine sees it: the helpers that instructions call by name
 * [isa/engine-helpers.ts], delivery of exceptions, reset.
 */

import { cpuid } from "../../../isa/cpuid.ts";
import type { EngineHelperName } from "../../../isa/engine-helpers.ts";
import { IOPL, RF, TF } from "../../../isa/flags.ts";
import { IA32_APIC_BASE, isCanonical } from "../../../isa/msrs.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { type EngineHost, GuestFault, type Helpers } from "../engine-host.ts";
import { CR4, StateView } from "../state-view.ts";
import type { Breakpoints } from "./breakpoints.ts";
import { ControlRegisters, deriveAvailability } from "./control-registers.ts";
import { ExceptionUnit } from "./exceptions.ts";
import { ExtendedState } from "./extended-state.ts";
import { sysenter, syscall, sysexit, sysret } from "./fast-calls.ts";
import { farCall, farJump, farReturn } from "./far-transfers.ts";
import { interruptReturn, type OperandBits } from "./interrupt-return.ts";
import { MsrAccess } from "./msr-access.ts";
import { enterNested } from "./nested-enter.ts";
import { type EventSource, type SystemParts, systemParts } from "./parts.ts";
import { checkPort, readPort, writePort } from "./ports.ts";
import { loadDirectoryPointers } from "./page-directory.ts";
import {
  accessRights,
  loadLocalDescriptorTable,
  loadTaskRegister,
  segmentLimit,
  verifyRead,
  verifyWrite,
} from "./selector-queries.ts";
import { TaskFault } from "./task-switch.ts";
import { Timestamp } from "./timestamp.ts";

const NMI_VECTOR = 2;
const APIC_BASE_ENABLE = 1n << 11n;
/** DR6: a single step caused the exception. */
const DR6_BS = 1 << 14;
/** Random bytes drawn at once. */
const RANDOM_POOL = 1024;

/** Where the processor stands among others. */
export interface ProcessorPlace {
  readonly apicId: number;
  readonly processors: number;
}

export class SystemUnit {
  readonly #parts: SystemParts;
  readonly #exceptions: ExceptionUnit;
  readonly #control: ControlRegisters;
  readonly #timestamp: Timestamp;
  readonly #extended: ExtendedState;
  readonly #place: ProcessorPlace;
  readonly msrs: MsrAccess;
  /** What instructions call; bulk string moves are the memory core's. */
  readonly helpers: Helpers;
  #trapsByNewFlags = false;
  readonly #random = new BigUint64Array(RANDOM_POOL / 8);
  #randomLeft = 0;
  #nmiBlocked = false;

  constructor(
    host: EngineHost,
    view = new StateView(host.memory, host.stateBase),
    place: ProcessorPlace = { apicId: 0, processors: 1 },
  ) {
    this.#parts = systemParts(host, view);
    this.#place = place;
    this.#exceptions = new ExceptionUnit(this.#parts);
    this.#control = new ControlRegisters(this.#parts);
    this.#timestamp = new Timestamp(this.#parts);
    this.#extended = new ExtendedState(this.#parts);
    this.msrs = new MsrAccess(this.#parts, this.#control, this.#timestamp);
    this.helpers = {
      ...this.#segmentHelpers(),
      ...this.#transferHelpers(),
      ...this.#registerHelpers(),
      ...this.#otherHelpers(),
    };
  }

  /** Delivers an event, with STATE.rip as the address to return to [exceptions.ts]. */
  deliver(
    vector: number,
    errorCode: number | undefined,
    origin: { software?: boolean; external?: boolean } = {},
  ): void {
    const source: EventSource =
      origin.external === true ? "external" : origin.software === true ? "software" : "exception";
    this.#exceptions.deliver(vector, errorCode, source);
  }

  /** Runs a transfer that may switch tasks. What then fails in the new task's context is raised there. */
  #transfer(transfer: () => void): void {
    try {
      transfer();
    } catch (fault) {
      if (!(fault instanceof TaskFault)) throw fault;
      this.#exceptions.deliver(fault.vector, fault.errorCode, "exception");
    }
    this.#exceptions.raiseTaskTrap();
  }

  /** Whether the trap of RFLAGS.TF is due after an instruction that began with TF (`stepping`) or without. SYSCALL, SYSRET
   * and INT n are judged by the flags they leave. To be asked after every instruction that may be one of these. */
  trapDue(stepping: boolean): boolean {
    if (!this.#trapsByNewFlags) return stepping;
    this.#trapsByNewFlags = false;
    return (this.#parts.view.systemFlags & TF) !== 0;
  }

  /** The flags that an instruction left tell whether it traps. Where neither they nor those before hold TF, it will not
   * be asked. */
  #judgeByNewFlags(): void {
    const { view } = this.#parts;
    this.#trapsByNewFlags = view.low(STATE.attention) !== 0 || (view.systemFlags & TF) !== 0;
  }

  /** Whether a non-maskable interrupt is being handled: others wait for IRET. [SDM 3 §6.7.1] */
  get nmiBlocked(): boolean {
    return this.#nmiBlocked;
  }
  set nmiBlocked(blocked: boolean) {
    this.#nmiBlocked = blocked;
  }
  /** Delivers a non-maskable interrupt. */
  deliverNmi(): void {
    this.#nmiBlocked = true;
    this.#exceptions.deliver(NMI_VECTOR, undefined, "external");
  }

  /** Delivers the trap of RFLAGS.TF after an instruction [SDM 3 §18.3.1.4]; STATE.rip is the next one's. */
  singleStep(): void {
    const { view } = this.#parts;
    const { breakpoints } = this.#parts;
    breakpoints.take();
    // A breakpoint on the next instruction is met as well: the handler may set RF, and it would be told of no more.
    const next = breakpoints.armed ? breakpoints.atInstruction(this.#linearRip()) : 0;
    view.setLow(STATE.dr6, view.low(STATE.dr6) | DR6_BS | next);
    this.#exceptions.deliver(EXCEPTION.DB, undefined, "exception");
  }

  /** Where the instruction at RIP lies. */
  #linearRip(): bigint {
    const { view } = this.#parts;
    return (view.long(STATE.rip) + view.long(STATE.codeBase)) & view.long(STATE.ripMask);
  }
  get breakpoints(): Breakpoints {
    return this.#parts.breakpoints;
  }
  /** Delivers the trap of data and I/O breakpoints that the last instruction met, if it met any. [SDM 3 §18.3.1.2] */
  debugTrap(): boolean {
    if (!this.#parts.breakpoints.take()) return false;
    this.#exceptions.deliver(EXCEPTION.DB, undefined, "exception");
    return true;
  }
  /** Raises #DB before the instruction at a linear address where a breakpoint is set there and RF does not hold it back;
   * whether it did. The flags saved have RF as it was. [SDM 3 §18.3.1.1] */
  instructionBreakpoint(linear: bigint): boolean {
    const { breakpoints, view } = this.#parts;
    const bits = breakpoints.atInstruction(linear);
    if (bits === 0 || (view.systemFlags & RF) !== 0) return false;
    breakpoints.show(bits);
    this.#exceptions.deliver(EXCEPTION.DB, undefined, "exception");
    return true;
  }

  /** The state after RESET. The engine's derived state is the caller's. */
  reset(): void {
    this.#nmiBlocked = false;
    this.#parts.view.reset(this.#identify(1, 0).eax);
  }

  /** To be called when a whole state was loaded that came without PAE's directory pointers. */
  loadDirectoryPointers(): void {
    loadDirectoryPointers(this.#parts, this.#parts.view.low(STATE.cr3));
  }
  /** To be called when CR0, CR4 or the whole state changed. */
  deriveAvailability(): void {
    deriveAvailability(this.#parts.view);
  }

  /** Segment registers whose limit or rights must be looked at in the present mode, a bit each by number. */
  checkedSegments(): number {
    return this.#parts.segments.checkedSegments();
  }

  /** To be called when guest time was set anew: the guest's clock page is written again. */
  clockChanged(): void {
    this.#timestamp.publish();
  }

  #identify(leaf: number, subleaf: number): ReturnType<typeof cpuid> {
    const { host, view } = this.#parts;
    return cpuid(
      leaf >>> 0,
      subleaf >>> 0,
      {
        ...this.#place,
        tscHz: host.clock.tscHz,
        osxsave: (view.low(STATE.cr4) & CR4.OSXSAVE) !== 0,
        apicEnabled: ((host.interrupts.readMsr(IA32_APIC_BASE) ?? 0n) & APIC_BASE_ENABLE) !== 0n,
        xcr0: view.low(STATE.xcr0),
      },
      host.features,
    );
  }

  #segmentHelpers() {
    const parts = this.#parts;
    const { segments, view } = parts;
    const table = (
      base: bigint,
      limit: number,
      names: readonly ["gdtrBase", "gdtrLimit"] | readonly ["idtrBase", "idtrLimit"],
    ) => {
      if (!isCanonical(base)) throw new GuestFault(EXCEPTION.GP, 0);
      view.setLong(names[0], base);
      view.setLow(names[1], limit & 0xffff);
    };
    return {
      loadSegment: (segment: number, selector: number) => segments.load(segment, selector),
      checkSegment: (segment: number, offset: number, bytes: number, write: number) =>
        segments.checkAccess(segment, offset >>> 0, bytes, write !== 0),
      loadLocalDescriptorTable: (selector: number) => loadLocalDescriptorTable(parts, selector),
      loadTaskRegister: (selector: number) => loadTaskRegister(parts, selector),
      verifyRead: (selector: number) => verifyRead(parts, selector),
      verifyWrite: (selector: number) => verifyWrite(parts, selector),
      accessRights: (selector: number) => accessRights(parts, selector),
      segmentLimit: (selector: number) => segmentLimit(parts, selector),
      loadGdtr: (base: bigint, limit: number) => table(base, limit, ["gdtrBase", "gdtrLimit"]),
      loadIdtr: (base: bigint, limit: number) => table(base, limit, ["idtrBase", "idtrLimit"]),
    } satisfies Partial<Record<EngineHelperName, unknown>>;
  }

  #transferHelpers() {
    const parts = this.#parts;
    const { host } = parts;
    return {
      farJump: (selector: number, offset: bigint, bits: number) =>
        this.#transfer(() => farJump(parts, selector, offset, bits as OperandBits)),
      farCall: (selector: number, offset: bigint, bits: number) =>
        this.#transfer(() => farCall(parts, selector, offset, bits as OperandBits)),
      farReturn: (bits: number, release: number) => farReturn(parts, bits as OperandBits, release),
      interruptReturn: (bits: number) => {
        // Even one that faults lets the next non-maskable interrupt in.
        this.#nmiBlocked = false;
        this.#transfer(() => interruptReturn(parts, bits as OperandBits));
      },
      softwareInterrupt: (vector: number, source: number) => this.#softwareInterrupt(vector & 0xff, source),
      syscall: () => {
        syscall(parts);
        this.#judgeByNewFlags();
      },
      sysret: (bits: number) => {
        sysret(parts, bits as OperandBits);
        this.#judgeByNewFlags();
      },
      sysenter: () => sysenter(parts),
      sysexit: (bits: number) => sysexit(parts, bits as OperandBits),
      halt: () => host.requestExit("halt"),
      hypercall: () => {
        throw new GuestFault(EXCEPTION.UD);
      },
      enterNested: (level: number, operandBits: number, stackBits: number) =>
        enterNested(parts, level, operandBits, stackBits),
    } satisfies Partial<Record<EngineHelperName, unknown>>;
  }

  /** INT n (0), INT3 and INTO (1), INT1 (2). A fault on the way is the instruction's own. */
  #softwareInterrupt(vector: number, source: number): void {
    const { view } = this.#parts;
    if (source === 0 && view.virtual8086 && (view.systemFlags & IOPL) !== IOPL) throw new GuestFault(EXCEPTION.GP, 0);
    this.#transfer(() => this.#exceptions.enter(vector, undefined, source === 2 ? "trap" : "software"));
    this.#judgeByNewFlags();
  }

  #registerHelpers() {
    const { host, view } = this.#parts;
    const control = this.#control;
    return {
      readControlRegister: (number: number) => control.read(number),
      writeControlRegister: (number: number, value: bigint) => control.write(number, value),
      clearTaskSwitched: () => control.clearTaskSwitched(),
      readDebugRegister: (number: number) => control.readDebug(number),
      writeDebugRegister: (number: number, value: bigint) => control.writeDebug(number, value),
      readMsr: (index: number) => this.msrs.read(index),
      writeMsr: (index: number, value: bigint) => this.msrs.write(index, value),
      readTimestamp: () => this.#timestamp.read(),
      cpuid: (leaf: number, subleaf: number) => {
        const { eax, ebx, ecx, edx } = this.#identify(leaf, subleaf);
        for (const [i, value] of [eax, ecx, edx, ebx].entries()) view.setGprHalves(i, value, 0);
      },
      random: () => this.#nextRandom(),
      readExtendedControl: (index: number) => control.readExtended(index),
      writeExtendedControl: (index: number, value: bigint) => control.writeExtended(index, value),
      invalidatePage: (address: bigint) => host.flushTlb(BigInt.asUintN(64, address)),
      invalidatePcid: (type: bigint, pcid: bigint, address: bigint) => this.#invalidatePcid(type, pcid, address),
      viewChanged: () => host.viewChanged(),
    } satisfies Partial<Record<EngineHelperName, unknown>>;
  }

  #nextRandom(): bigint {
    if (this.#randomLeft === 0) {
      crypto.getRandomValues(this.#random);
      this.#randomLeft = this.#random.length;
    }
    this.#randomLeft--;
    return this.#random[this.#randomLeft] ?? 0n;
  }

  /** INVPCID; there is one PCID, 0. Types: one address, one context, all with globals, all but globals. */
  #invalidatePcid(type: bigint, pcid: bigint, address: bigint): void {
    const { host } = this.#parts;
    if (BigInt.asUintN(64, type) > 3n) throw new GuestFault(EXCEPTION.GP, 0);
    const named = type < 2n;
    if ((named && pcid !== 0n) || (type === 0n && !isCanonical(address))) throw new GuestFault(EXCEPTION.GP, 0);
    if (type === 0n) host.flushTlb(BigInt.asUintN(64, address));
    else host.flushTlb(type === 2n ? "all" : "non-global");
  }

  #otherHelpers() {
    const parts = this.#parts;
    const extended = this.#extended;
    return {
      checkPort: (port: number, bytes: number) => checkPort(parts, port, bytes),
      readPort: (port: number, bytes: number) => readPort(parts, port, bytes),
      writePort: (port: number, bytes: number, value: number) => writePort(parts, port, bytes, value),
      fxsave: (address: bigint, wide: number) => extended.fxsave(address, wide !== 0),
      fxrstor: (address: bigint, wide: number) => extended.fxrstor(address, wide !== 0),
      xsave: (address: bigint, mask: bigint, wide: number, form: number) =>
        extended.xsave(address, mask, wide !== 0, form),
      xrstor: (address: bigint, mask: bigint, wide: number, form: number) =>
        extended.xrstor(address, mask, wide !== 0, form),
    } satisfies Partial<Record<EngineHelperName, unknown>>;
  }
}
