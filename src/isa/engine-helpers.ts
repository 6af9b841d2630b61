/**
 * The functions that effects call by name in the engine: what the instruction table expects, and the engine provides.
 * Both sides check themselves against this table. An `i64` is a bigint on the TypeScript side; `i32` a signed number.
 *
 * Rules for all of them:
 * - A guest fault is raised (GuestFault) before anything is changed, and is reported at the calling instruction's RIP.
 * - Helpers of kind `system` run with STATE.rip already at the next instruction; one that transfers control sets it
 *   anew. The trace ends after them, so they may change modes, translations and code.
 * - Helpers of kind `call` return into the trace: they must not change RIP, CPL or how code is decoded, except where the
 *   effect ends the trace by itself.
 * - Checks named "by the effect" are done before the call and need not be repeated. CPL 0 is always checked by the
 *   effect for privileged instructions.
 */

import type { ValueType } from "../wasm/opcodes.ts";

export interface EngineHelper {
  /** `quiet`: a call that cannot fault. */
  readonly kind: "system" | "call" | "quiet";
  readonly args: readonly ValueType[];
  readonly result: ValueType | undefined;
  readonly meaning: string;
}

function helper(
  kind: EngineHelper["kind"],
  args: string,
  result: ValueType | undefined,
  meaning: string,
): EngineHelper {
  return { kind, args: args === "" ? [] : (args.split(" ") as ValueType[]), result, meaning };
}

/** Arguments are named in the meaning, in order. */
export const ENGINE_HELPERS = {
  // Segments and descriptors.
  loadSegment: helper(
    "call",
    "i32 i32",
    undefined,
    "(register 0-5, selector): loads ES, CS.. as MOV, POP and LDS do, base and address contexts included; not CS. " +
      "The effect ends the trace after it outside 64-bit mode, since SS.B may change.",
  ),
  checkSegment: helper(
    "call",
    "i32 i32 i32 i32",
    undefined,
    "(register, offset, bytes, write): limit and rights of a segment in 16- and 32-bit modes; #GP(0), or #SS(0) for SS",
  ),
  loadLocalDescriptorTable: helper("system", "i32", undefined, "(selector): LLDT"),
  loadTaskRegister: helper("system", "i32", undefined, "(selector): LTR; marks the TSS busy"),
  verifyRead: helper("call", "i32", "i32", "(selector): VERR's ZF, 1 or 0"),
  verifyWrite: helper("call", "i32", "i32", "(selector): VERW's ZF, 1 or 0"),
  accessRights: helper(
    "call",
    "i32",
    "i64",
    "(selector): LAR's value (bits 23:8 of the upper doubleword, in place), or -1 for ZF=0",
  ),
  segmentLimit: helper("call", "i32", "i64", "(selector): LSL's limit in bytes, or -1 for ZF=0"),
  loadGdtr: helper("system", "i64 i32", undefined, "(base, limit): LGDT; #GP(0) on a non-canonical base"),
  loadIdtr: helper("system", "i64 i32", undefined, "(base, limit): LIDT; #GP(0) on a non-canonical base"),

  // Far control transfers.
  farJump: helper("system", "i32 i64 i32", undefined, "(selector, offset, operand bits 16/32/64): JMP far, all gates"),
  farCall: helper(
    "system",
    "i32 i64 i32",
    undefined,
    "(selector, offset, operand bits): CALL far; pushes CS and STATE.rip",
  ),
  farReturn: helper("system", "i32 i32", undefined, "(operand bits, bytes to release): RET far"),
  interruptReturn: helper("system", "i32", undefined, "(operand bits): IRET, in every mode; unblocks NMI"),
  softwareInterrupt: helper(
    "system",
    "i32 i32",
    undefined,
    "(vector, source 0 INT n / 1 INT3, INTO / 2 INT1): delivers it with STATE.rip as the return address; checks the " +
      "gate's DPL except for source 2, and IOPL in virtual-8086 mode for source 0",
  ),
  syscall: helper("system", "", undefined, "SYSCALL; #UD unless EFER.SCE and 64-bit mode"),
  sysret: helper("system", "i32", undefined, "(operand bits 32/64): SYSRET; CPL by the effect"),
  sysenter: helper("system", "", undefined, "SYSENTER"),
  sysexit: helper("system", "i32", undefined, "(operand bits 32/64): SYSEXIT; CPL by the effect"),
  halt: helper("system", "", undefined, "HLT: the run loop returns to wait for an interrupt"),
  hypercall: helper("system", "i32", undefined, "(0 VMCALL / 1 VMMCALL): #UD while no hypercall is offered"),

  // Control, debug and model-specific registers.
  readControlRegister: helper("call", "i32", "i64", "(number): MOV from CRn; #UD for those that are not there"),
  writeControlRegister: helper("system", "i32 i64", undefined, "(number, value): MOV to CRn, LMSW, with all checks"),
  clearTaskSwitched: helper("system", "", undefined, "CLTS"),
  readDebugRegister: helper("call", "i32", "i64", "(number): MOV from DRn, CR4.DE and DR7.GD included"),
  writeDebugRegister: helper("system", "i32 i64", undefined, "(number, value): MOV to DRn"),
  readMsr: helper("call", "i32", "i64", "(ECX): RDMSR; #GP(0) for an unknown one"),
  writeMsr: helper("system", "i32 i64", undefined, "(ECX, EDX:EAX): WRMSR; #GP(0) for an unknown one or a bad value"),
  readTimestamp: helper("quiet", "", "i64", "the time-stamp counter; CR4.TSD by the effect"),
  cpuid: helper("quiet", "i32 i32", undefined, "(EAX, ECX): writes RAX, RBX, RCX and RDX, upper halves zero"),
  random: helper("quiet", "", "i64", "64 random bits of the host's generator"),
  readExtendedControl: helper(
    "call",
    "i32",
    "i64",
    "(ECX): XGETBV; #GP(0) for an unknown one. CR4.OSXSAVE by the effect",
  ),
  writeExtendedControl: helper("system", "i32 i64", undefined, "(ECX, EDX:EAX): XSETBV with all checks of the value"),

  // Translations and caches.
  invalidatePage: helper("system", "i64", undefined, "(linear address): INVLPG"),
  invalidatePcid: helper(
    "system",
    "i64 i64 i64",
    undefined,
    "(type, PCID word, linear address): INVPCID with its checks",
  ),
  viewChanged: helper("quiet", "", undefined, "CPL or RFLAGS.AC/TF changed: derived state is computed anew"),

  // Ports. `bytes` is 1, 2 or 4.
  checkPort: helper(
    "call",
    "i32 i32",
    undefined,
    "(port, bytes): the TSS's I/O bitmap; #GP(0) if it forbids. Called where CPL > IOPL or VM",
  ),
  readPort: helper("call", "i32 i32", "i32", "(port, bytes): the value read, zero-extended"),
  writePort: helper("call", "i32 i32 i32", undefined, "(port, bytes, value); the effect ends the trace with a poll"),

  // Processor state in memory. CR0.EM/TS, CR4.OSXSAVE and alignment by the effect. `wide`: REX.W.
  fxsave: helper("call", "i64 i32", undefined, "(linear address, wide): FXSAVE's 512 bytes"),
  fxrstor: helper("call", "i64 i32", undefined, "(linear address, wide): FXRSTOR; #GP(0) on reserved MXCSR bits"),
  xsave: helper(
    "call",
    "i64 i64 i32 i32",
    undefined,
    "(linear address, EDX:EAX, wide, form 0 XSAVE / 1 XSAVEOPT / 2 XSAVEC / 3 XSAVES)",
  ),
  xrstor: helper(
    "call",
    "i64 i64 i32 i32",
    undefined,
    "(linear address, EDX:EAX, wide, form 0 XRSTOR / 3 XRSTORS); #GP(0) on a bad header",
  ),

  // SSE and MMX. Operands are offsets in the state.
  sseExact: helper(
    "call",
    "i32 i32 i32",
    undefined,
    "(operation [float/sse-packed.ts], destination and first source, second source): floating point with MXCSR's " +
      "exceptions; #XM, or #UD without CR4.OSXMMEXCPT, on one that is not masked",
  ),
  sseCompare: helper(
    "call",
    "i32 i32 i32",
    "i32",
    "(operation, first, second): COMISS and the like; ZF, PF and CF at their places",
  ),
  sseMaskMove: helper(
    "call",
    "i64 i32 i32 i32",
    undefined,
    "(linear address, data, mask, bytes): MASKMOVDQU, MASKMOVQ",
  ),
  sseStrings: helper(
    "quiet",
    "i32 i32 i32 i64 i64",
    "i32",
    "(immediate and form [sse42.ts], first, second, RAX, RDX): PCMPESTRI and the like; index or mask in scratch slot 2, " +
      "gives the six flags at their places",
  ),
  crc32c: helper("quiet", "i32 i32 i32 i32", "i32", "(checksum, data's low and high half, its bytes): CRC32"),

  // Frames and strings.
  enterNested: helper(
    "call",
    "i32 i32 i32",
    undefined,
    "(level 1-31, operand bits, stack bits): ENTER's pushes with a nesting level; registers stay",
  ),
  repMovs: helper(
    "call",
    "i32 i64 i64 i64",
    "i64",
    "(element bytes, count, destination, source): copies elements upwards from linear addresses in bulk, within one page " +
      "of each, in the order of single steps (overlaps repeat). Gives how many were done; 0: do one the slow way",
  ),
  repStos: helper(
    "call",
    "i32 i64 i64 i64",
    "i64",
    "(element bytes, count, destination, value): fills elements upwards from a linear address; gives how many were done",
  ),
} as const satisfies Record<string, EngineHelper>;

export type EngineHelperName = keyof typeof ENGINE_HELPERS;
