/**
 * Differences from the processor that are meant: results that the manuals leave open, features of the recording
 * processor that isola does not offer, and what a paravirtual KVM shows instead of what the processor does. Each is as
 * narrow as its reason. A case is accepted when every one of its differences is explained.
 */

import { ARITHMETIC, IF, IOPL, NT, RF } from "../../src/isa/flags.ts";
import type { TestCase } from "./cases.ts";
import type { Difference } from "./compare.ts";
import { handlerAddress } from "./image.ts";
import { BASE, BLOCK, NO_EXCEPTION, PAGE, PHYSICAL } from "./layout.ts";

/** RCPPS and its kin: relative error at most 1.5 * 2^-12 each [SDM 2, RCPPS]. */
const APPROXIMATION = 2 * 1.5 * 2 ** -12;
/** Of single precision. */
const LEAST_NORMAL = 2 ** -126;
const PF_PRESENT = 1;
const PF_RESERVED = 8;
const VECTOR = { DB: 1, UD: 6, SS: 12, GP: 13, PF: 14, MF: 16, AC: 17 } as const;

/** The handlers' first instruction, a store of the vector. */
const FIRST_HANDLER_BYTES = 10n;
/** CS and SS. */
const HOST_SELECTORS: ReadonlySet<bigint> = new Set([0x33n, 0x23n, 0x2bn]);
const LOWER_HALF_END = 1n << 47n;
const X87_IMAGES = /^(FRSTOR|FLDENV|FNSAVE|FNSTENV|FXSAVE|FXRSTOR) /;
const STRING_READS = /^(SCAS|CMPS|LODS|MOVS)B? /;
const STRINGS = /^(SCAS|CMPS|LODS|MOVS|STOS)B? /;
const UNALIGNED_SSE = /^(MOVUPS|MOVUPD|MOVDQU|LDDQU|PCMP[EI]STR[IM]) /;
const MMX_STORES = /^(MOVD|MOVQ|MOVNTQ) /;
const ADDRESS_SIZE_PREFIX = 0x67;
const REP_PREFIXES: readonly number[] = [0xf2, 0xf3];
const MXCSR_OFFSET = BLOCK.fx + 24;
const FSW_DE = 0x2;
const FSW_UE = 0x10;
const FSW_ES = 0x80;
const FSW_C1 = 0x200;
const FSW_TOP = 0x3800;
const RCX = 1;
const RSI = 6;
const RDI = 7;

/** Both outcomes of a case. */
interface Outcomes {
  readonly test: TestCase;
  readonly expected: DataView;
  readonly actual: DataView;
  /** Exception vectors. */
  readonly vectors: readonly [expected: number, actual: number];
  readonly sameRip: boolean;
  readonly sameError: boolean;
}

interface KnownDifference {
  readonly reason: string;
  readonly explains: (difference: Difference, outcomes: Outcomes) => boolean;
}

const ripOf = (view: DataView): bigint => view.getBigUint64(BLOCK.rip, true);
/** Whether a trap came after the first instruction of an exception's handler, which runs with TF still set. */
const steppedInto = (view: DataView, vector: number): boolean =>
  view.getUint32(BLOCK.vector, true) === VECTOR.DB && ripOf(view) === handlerAddress(vector) + FIRST_HANDLER_BYTES;
const named = ({ test }: Outcomes, pattern: RegExp): boolean =>
  test.instructions.some(({ name }) => pattern.test(name));

const isFault = (vector: number): boolean =>
  vector === VECTOR.PF || vector === VECTOR.GP || vector === VECTOR.SS || vector === VECTOR.AC;
const repeated = ({ test }: Outcomes): boolean =>
  test.instructions.some(({ bytes }) => bytes.some((byte) => REP_PREFIXES.includes(byte)));

const KNOWN: readonly KnownDifference[] = [
  {
    reason: "an approximation, within the bound of both",
    explains({ what }, { test, expected, actual }) {
      if (test.instructions.at(-1)?.approximate !== true || !what.startsWith("xmm")) return false;
      const at = BLOCK.fx + 160 + 16 * Number(what.slice(3));
      return [0, 4, 8, 12].every((lane) =>
        near(expected.getFloat32(at + lane, true), actual.getFloat32(at + lane, true)),
      );
    },
  },
  {
    // AMD's misaligned-SSE mode makes bit 17 of MXCSR writable [APM 2 §11.5.9]; isola's processor lacks it.
    reason: "MXCSR.MM is a reserved bit without the misaligned-SSE feature",
    explains(_difference, outcomes) {
      const { expected, vectors } = outcomes;
      const set = (expected.getUint32(MXCSR_OFFSET, true) & 0x20000) !== 0;
      return named(outcomes, /^LDMXCSR/) && vectors[1] === VECTOR.GP && set;
    },
  },
  {
    // After #GP such a KVM tries to emulate the instruction, and raises #UD where its emulator does not know it. The
    // portable engine's #GP is then right or hides a missing #UD; one that should not be at all would still show.
    reason: "a paravirtual KVM's #UD in place of #GP",
    explains({ what }, { vectors, sameRip, actual }) {
      const swapped = vectors[0] === VECTOR.UD && (vectors[1] === VECTOR.GP || vectors[1] === VECTOR.SS);
      return what === "exception" && swapped && sameRip && actual.getUint32(BLOCK.errorCode, true) === 0;
    },
  },
  {
    // The same where a trap follows in the handler, whose first instruction runs with TF still set.
    reason: "a paravirtual KVM's #UD in place of #GP, single-stepped",
    explains({ what }, outcomes) {
      const { vectors, expected, actual } = outcomes;
      const afterFirst = (vector: number): bigint => handlerAddress(vector) + FIRST_HANDLER_BYTES;
      const inGeneral = [VECTOR.GP, VECTOR.SS].some((vector) => ripOf(actual) === afterFirst(vector));
      const swapped = ripOf(expected) === afterFirst(VECTOR.UD) && inGeneral;
      return what === "exception" && vectors.every((vector) => vector === VECTOR.DB) && swapped;
    },
  },
  {
    // The last page of the lower half is beyond what such a KVM lets ring 3 map: there too it tries to emulate.
    reason: "a paravirtual KVM's #UD in place of #PF in the lower half's last page",
    explains({ what }, { vectors, sameRip, actual }) {
      const place = actual.getBigUint64(BLOCK.cr2, true);
      const last = place >= LOWER_HALF_END - BigInt(PAGE) && place < LOWER_HALF_END;
      return what === "exception" && vectors[0] === VECTOR.UD && vectors[1] === VECTOR.PF && sameRip && last;
    },
  },
  {
    // #GP comes before the page walk [SDM 3 §5.3.1], as the #UD shows which such a KVM raises there for what its emulator
    // does not know. What it does know it reads or writes by pages, and meets the unmapped one first.
    reason: "a paravirtual KVM's #PF in place of #GP where an operand leaves the lower half",
    explains({ what }, { vectors, sameRip, expected }) {
      const place = expected.getBigUint64(BLOCK.cr2, true);
      const last = place >= LOWER_HALF_END - BigInt(PAGE) && place < LOWER_HALF_END;
      const absent = (expected.getUint32(BLOCK.errorCode, true) & PF_PRESENT) === 0;
      const general = vectors[1] === VECTOR.GP || vectors[1] === VECTOR.SS;
      return what === "exception" && vectors[0] === VECTOR.PF && general && sameRip && last && absent;
    },
  },
  {
    // AMD's processors have no PREFETCHW of a register, and such a KVM emulates it; after some stack pointers it goes on
    // emulating, and does not know what follows.
    reason: "a paravirtual KVM after PREFETCHW of a register",
    explains(_difference, outcomes) {
      const undefinedThere = outcomes.vectors[0] === VECTOR.UD || steppedInto(outcomes.expected, VECTOR.UD);
      return named(outcomes, /^NOP 0F 0D/) && undefinedThere;
    },
  },
  {
    // What lies on the stack of ring 0 and in the harness's data follows from the differences of earlier cases.
    reason: "a string instruction that read the harness's own memory",
    explains(_difference, outcomes) {
      const { expected, actual } = outcomes;
      const own = (view: DataView, from: number): boolean =>
        [RSI, RDI].some((register) => {
          const distance = view.getBigUint64(BLOCK.gpr + 8 * register, true) - BASE;
          return distance > from && distance <= PHYSICAL.data + PAGE;
        });
      // Where it ended shows in the registers, unless an instruction after it has changed them; then where it began.
      const last = outcomes.test.instructions.at(-1)?.name ?? "";
      const changed = !STRING_READS.test(last) && own(viewOf(outcomes.test.input), 0);
      return named(outcomes, STRING_READS) && (own(expected, PHYSICAL.stack) || own(actual, PHYSICAL.stack) || changed);
    },
  },
  {
    // AMD's processors leave the x87 state alone if the store faults, as isola's; Intel's set TOP to 0 first, and the
    // emulator of a paravirtual KVM all tags to valid as well.
    reason: "MMX entered though its store faulted",
    explains({ what }, outcomes) {
      const { vectors, expected } = outcomes;
      const faulted = (isFault(vectors[0]) || vectors[0] === VECTOR.UD) && isFault(vectors[1]);
      const stepped = vectors.every((vector) => vector === VECTOR.DB);
      const entered = (expected.getUint16(BLOCK.fx + 2, true) & FSW_TOP) === 0;
      return named(outcomes, MMX_STORES) && (faulted || stepped) && entered && /^(fsw|ftw|st)/.test(what);
    },
  },
  {
    // The same emulator heeds the segment prefixes that 64-bit mode ignores when it chooses between #SS and #GP.
    reason: "#SS or #GP by an ignored segment prefix",
    explains({ what }, { test, vectors, sameRip, sameError, expected, actual }) {
      const either: readonly number[] = [VECTOR.SS, VECTOR.GP];
      const swapped = vectors.every((vector) => either.includes(vector)) && sameRip && sameError;
      const stepped = [expected, actual].every((view) => either.some((vector) => steppedInto(view, vector)));
      const prefixed = test.instructions.some(({ bytes }) => bytes.some((byte) => (byte & 0xe7) === 0x26));
      return what === "exception" && (swapped || stepped) && prefixed;
    },
  },
  {
    // A misaligned operand is #GP even where it is not canonical by the stack pointer, as the native oracle shows; the
    // emulator, which knows these instructions, looks at the address first.
    reason: "a paravirtual KVM's #SS in place of #GP for a misaligned operand",
    explains({ what }, outcomes) {
      const { vectors, sameRip, sameError, expected, actual } = outcomes;
      const swapped = vectors[0] === VECTOR.SS && vectors[1] === VECTOR.GP && sameRip && sameError;
      const stepped = steppedInto(expected, VECTOR.SS) && steppedInto(actual, VECTOR.GP);
      const knows = named(outcomes, /^(MOVNT(PS|PD|DQ)|MOVAP[SD]|MOVDQA|CMPXCHG8B) /);
      return knows && what === "exception" && (swapped || stepped);
    },
  },
  {
    // The kernel's half belongs to the host there: its pages are present, though not for ring 3, and entries of its
    // page tables may have bits set that are reserved. The native oracle has no supervisor's pages at all.
    reason: "whether a page of the kernel's is present",
    explains({ what }, { vectors, sameRip, expected, actual }) {
      // In the handler's second instruction CR2 is in RAX.
      const stepped = [expected, actual].every((view) => steppedInto(view, VECTOR.PF));
      const pageFaults = stepped || vectors.every((vector) => vector === VECTOR.PF);
      const sameAddress = expected.getBigUint64(BLOCK.cr2, true) === actual.getBigUint64(BLOCK.cr2, true);
      // Linux keeps the lower half's last page too, and says so of all that a process may not touch.
      const place = expected.getBigUint64(stepped ? BLOCK.gpr : BLOCK.cr2, true);
      const upper = place >= LOWER_HALF_END - BigInt(PAGE);
      const bits = expected.getUint32(BLOCK.errorCode, true) ^ actual.getUint32(BLOCK.errorCode, true);
      const presence = (bits & ~(PF_PRESENT | PF_RESERVED)) === 0;
      const supervisor = place >= BASE && place < BASE + BigInt(PHYSICAL.runtime);
      return what === "exception" && pageFaults && sameAddress && sameRip && (upper || supervisor) && presence;
    },
  },
  {
    // The stores that clear FOP, FIP, FDP and MXCSR_MASK in the image come after it: TF stops the case before them.
    reason: "the vendor's fields of an FXSAVE image under TF",
    explains({ what }, outcomes) {
      const stopped = outcomes.vectors.every((vector) => vector === VECTOR.DB) && outcomes.sameRip;
      return named(outcomes, /^FXSAVE /) && stopped && what.startsWith("window");
    },
  },
  {
    // The AND that hides IF and IOPL in the image of RFLAGS comes after it: TF stops the case between the two.
    reason: "IF and IOPL as PUSHF stored them under TF",
    explains({ what, expected, actual }, outcomes) {
      const { vectors } = outcomes;
      const stopped = vectors.every((vector) => vector === VECTOR.DB) && named(outcomes, /^PUSHF/);
      if (!what.startsWith("window") || !stopped) return false;
      const bits = BigInt(expected) ^ BigInt(actual);
      // The image may lie across two words of the window, by bytes.
      return [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n].some((byte) => (bits & ~(BigInt(IF | IOPL) << (8n * byte))) === 0n);
    },
  },
  {
    // The stack of ring 0 lies within reach of the address that cases end at: what is read there holds the host's IF.
    reason: "IF and IOPL in the harness's own frame, read by chance",
    explains({ what, expected, actual }, { test }) {
      if (!/^(r..?$|xmm|st\/|window[-+])/.test(what)) return false;
      const view = viewOf(test.input);
      const near = Array.from({ length: 16 }, (_, i) => view.getBigUint64(BLOCK.gpr + 8 * i, true) - BASE);
      if (!near.some((distance) => distance >= 0 && distance <= PHYSICAL.data + PAGE)) return false;
      const number = (text: string): bigint => BigInt(`0x${text.replaceAll(/^0x|_/g, "")}`);
      const bits = number(expected) ^ number(actual);
      return Array.from({ length: 16 }, (_, byte) => BigInt(IF | IOPL) << BigInt(8 * byte)).some(
        (hidden) => (bits & ~hidden) === 0n,
      );
    },
  },
  {
    // NT stays set until the host is entered, which clears it.
    reason: "NT after POPF, until the host is interrupted",
    explains({ what, expected, actual }, outcomes) {
      return named(outcomes, /^POPF/) && what === "rflags" && (Number(expected) ^ Number(actual)) === NT;
    },
  },
  {
    // [SDM 2, SHLD]: if the count is greater than the operand size, the result is undefined.
    reason: "SHLD and SHRD of 16 bits by more than 16",
    explains(_difference, { test }) {
      return test.instructions.some(({ name, bytes }) => /^SH[LR]D /.test(name) && bytes.includes(0x66));
    },
  },
  {
    // [SDM 2, MASKMOVDQU]: with a mask of zeros, whether faults are raised is up to the processor; so is CR2's place
    // within the 16 bytes.
    reason: "MASKMOVDQU: a fault with a mask of zeros, and CR2's place",
    explains(_difference, outcomes) {
      const { vectors } = outcomes;
      const unfounded = vectors[1] === VECTOR.AC && vectors[0] === NO_EXCEPTION;
      const faulted = vectors[0] === VECTOR.PF || steppedInto(outcomes.expected, VECTOR.PF);
      return named(outcomes, /^MASKMOV/) && (faulted || unfounded);
    },
  },
  {
    // The order in which the parts of a long operand are reached is the processor's own, and so is which of two pages
    // that fault is told of.
    reason: "CR2's place within an image of the x87 state",
    explains({ what }, outcomes) {
      const { expected, actual, vectors, sameRip } = outcomes;
      const pageFaults = vectors.every((vector) => vector === VECTOR.PF);
      const environment = named(outcomes, X87_IMAGES);
      // The handler has CR2 in RAX, until its own second instruction.
      const stepped = [expected, actual].every((view) => steppedInto(view, VECTOR.PF));
      return environment && (stepped ? what === "rax" : what === "exception" && sameRip && pageFaults);
    },
  },
  {
    // [SDM 3 §5.3]: whether a flat segment's limit is looked at there is up to the processor. Newer ones of Intel's let
    // the operand wrap, and meet its page; in a long operand, which part comes first is the processor's own.
    reason: "an operand that runs over the end of 4 GiB",
    explains({ what }, outcomes) {
      const { test, expected, vectors, sameRip } = outcomes;
      const general = vectors[1] === VECTOR.GP || vectors[1] === VECTOR.SS;
      const last = expected.getBigUint64(BLOCK.cr2, true) >= 0xffff_fe00n;
      const swapped = vectors[0] === VECTOR.PF && general && sameRip && last;
      return test.bits === 32 && what === "exception" && swapped;
    },
  },
  {
    // A flat segment's limit is looked at with the pages, after alignment.
    reason: "#AC before the limit where a misaligned operand runs over the end of 4 GiB",
    explains({ what }, { test, vectors, sameRip }) {
      const limited = vectors[0] === VECTOR.SS || vectors[0] === VECTOR.GP;
      return test.bits === 32 && what === "exception" && limited && vectors[1] === VECTOR.AC && sameRip;
    },
  },
  {
    // isola's processor stores no selectors of the last x87 instruction, as CPUID says; this one stores the host's,
    // or what was loaded.
    reason: "selectors of the last x87 instruction",
    explains({ what, expected, actual }, outcomes) {
      if (!named(outcomes, /^(FNSAVE|FNSTENV) /) || !what.startsWith("window")) return false;
      if (what === "window beside the hot bytes" || what === "window's checksum") return true;
      const loaded = named(outcomes, /^(FRSTOR|FLDENV|FXRSTOR) /);
      for (let shift = 0n; shift < 64n; shift += 8n) {
        const host = (BigInt(expected) >> shift) & 0xffn;
        const own = (BigInt(actual) >> shift) & 0xffn;
        if (host !== own && (own !== 0n || !(loaded || HOST_SELECTORS.has(host)))) return false;
      }
      return true;
    },
  },
  {
    // [SDM 2, FXSAVE]: #GP(0) for an operand that is no multiple of 16; AMD's processors take it.
    reason: "FXSAVE and FXRSTOR of a misaligned operand",
    explains(_difference, outcomes) {
      const refused = outcomes.vectors[1] === VECTOR.GP || steppedInto(outcomes.actual, VECTOR.GP);
      return named(outcomes, /^FX(SAVE|RSTOR) /) && refused;
    },
  },
  {
    // [SDM 2, SHA1RNDS4]: #GP(0) for an operand that is no multiple of 16; AMD's processors take it.
    reason: "SHA of a misaligned operand",
    explains(_difference, outcomes) {
      const refused = outcomes.vectors[1] === VECTOR.GP || steppedInto(outcomes.actual, VECTOR.GP);
      return named(outcomes, /^SHA(1|256)/) && refused;
    },
  },
  {
    // [SDM 2, REP]: after a fault RFLAGS is what it was before the instruction; AMD's processors show the last element's,
    // after a trap between elements as well.
    reason: "RFLAGS of a repeated comparison that was stopped",
    explains({ what, expected, actual }, outcomes) {
      if (!named(outcomes, /^(SCAS|CMPS)B? /) || !repeated(outcomes) || what !== "rflags") return false;
      const stopped = outcomes.vectors.every((vector) => isFault(vector) || vector === VECTOR.DB) && outcomes.sameRip;
      return stopped && ((Number(expected) ^ Number(actual)) & ~(ARITHMETIC | RF)) === 0;
    },
  },
  {
    // [SDM 3 §7.15, interrupt 17]: whether these look at alignment is up to the processor. isola's and AMD's do, Intel's
    // with 16 bytes do not.
    reason: "#AC for an unaligned SSE operand",
    explains(_difference, outcomes) {
      const { vectors, actual, expected, sameRip } = outcomes;
      const checked = vectors[1] === VECTOR.AC && (vectors[0] !== VECTOR.AC || !sameRip);
      const stepped = steppedInto(actual, VECTOR.AC) && !steppedInto(expected, VECTOR.AC);
      return named(outcomes, UNALIGNED_SSE) && (checked || stepped);
    },
  },
  {
    // Which comes first, the operand's page or the number's exception, is not laid down: Intel's processors do not look
    // at a place where nothing will be stored.
    reason: "the operand of an x87 store that an unmasked exception holds back",
    explains(_difference, outcomes) {
      const { vectors, actual, expected } = outcomes;
      const cleared = named(outcomes, /^(FNINIT|FNCLEX|FNSAVE|FNSTENV|FLDENV|FRSTOR|FXRSTOR) ?/);
      const held = (expected.getUint16(BLOCK.fx + 2, true) & FSW_ES) !== 0 || vectors[0] === VECTOR.MF || cleared;
      const reached =
        isFault(vectors[1]) || [VECTOR.PF, VECTOR.GP, VECTOR.SS, VECTOR.AC].some((v) => steppedInto(actual, v));
      return named(outcomes, /^(FSTP?|FISTT?P?|FBSTP) /) && held && reached;
    },
  },
  {
    // [SDM 1 §8.1.8, §8.1.9]: newer processors of Intel's note the opcode and the operand only of an instruction that
    // raised an unmasked exception, as a feature flag says; isola's, without that flag, note each.
    reason: "opcode and operand of the last x87 instruction",
    explains({ what, expected, actual }, outcomes) {
      if (!named(outcomes, /^(FNSAVE|FNSTENV) /) || !what.startsWith("window")) return false;
      if (what === "window beside the hot bytes" || what === "window's checksum") return true;
      // What was loaded stays there until the next such exception.
      if (named(outcomes, /^(FRSTOR|FLDENV|FXRSTOR) /)) return true;
      for (let shift = 0n; shift < 64n; shift += 8n) {
        const host = (BigInt(expected) >> shift) & 0xffn;
        const own = (BigInt(actual) >> shift) & 0xffn;
        if (host !== own && host !== 0n) return false;
      }
      return true;
    },
  },
  {
    // Intel's processors store the address of return, then look at the target; a KVM that emulates after #GP reads the
    // operand again, which may lie just there.
    reason: "what CALL stored before the #GP of its target",
    explains(_difference, outcomes) {
      const refused = outcomes.vectors[1] === VECTOR.GP || steppedInto(outcomes.actual, VECTOR.GP);
      return named(outcomes, /^CALL indirect/) && refused;
    },
  },
  {
    // Fast string operations move many bytes at once, in an order that is not laid down [SDM 1 §7.3.9.3]; that source
    // and destination overlap is seen by linear addresses, and the window lies at two.
    reason: "REP MOVS between two places of the same memory",
    explains({ what }, outcomes) {
      const high = (view: DataView, register: number): number => view.getUint32(BLOCK.gpr + 8 * register + 4, true);
      const apart = [outcomes.expected, viewOf(outcomes.test.input)].some(
        (view) => high(view, RSI) !== high(view, RDI),
      );
      // What follows may have read it.
      const followed = !STRINGS.test(outcomes.test.instructions.at(-1)?.name ?? "");
      return named(outcomes, /^MOVSB? /) && repeated(outcomes) && apart && (followed || what.startsWith("window"));
    },
  },
  {
    // [SDM 1 §3.4.1.1]: 32-bit results are zero-extended; Intel's processors write those of a string instruction even
    // where no element was done.
    reason: "the upper halves of registers after no element by 32-bit addresses",
    explains({ what }, outcomes) {
      const { test, expected, actual } = outcomes;
      const short = test.instructions.some(({ bytes }) => bytes.includes(ADDRESS_SIZE_PREFIX));
      if (!named(outcomes, STRINGS) || !repeated(outcomes) || !short) return false;
      const cut = [RCX, RSI, RDI].filter((register) => {
        const [a, b] = [expected, actual].map((view) => view.getBigUint64(BLOCK.gpr + 8 * register, true));
        return a !== b && a === BigInt.asUintN(32, b ?? 0n);
      });
      // What follows may have used it.
      if (test.instructions.length === 1) return cut.length > 0 && /^r(cx|si|di)$/.test(what);
      const wide = (register: number): boolean =>
        viewOf(test.input).getUint32(BLOCK.gpr + 8 * register + 4, true) !== 0;
      return cut.length > 0 || [RCX, RSI, RDI].some(wide);
    },
  },
  {
    // [SDM 2, DPPS]: the order in which the products are summed, and with it the NaN that is kept, is the processor's own.
    reason: "which NaN a dot product keeps",
    explains({ what }, outcomes) {
      const dots = /^DPP[SD] /;
      if (!named(outcomes, dots)) return false;
      // What follows may have used it.
      if (!dots.test(outcomes.test.instructions.at(-1)?.name ?? "")) return /^(xmm|mxcsr|rflags|window)/.test(what);
      if (!what.startsWith("xmm")) return false;
      const at = BLOCK.fx + 160 + 16 * Number(what.slice(3));
      const bytes = named(outcomes, /^DPPD /) ? 8 : 4;
      const lane = (view: DataView, index: number): number =>
        bytes === 8 ? view.getFloat64(at + 8 * index, true) : view.getFloat32(at + 4 * index, true);
      return Array.from({ length: 16 / bytes }, (_, i) => [lane(outcomes.expected, i), lane(outcomes.actual, i)]).every(
        ([a, b]) => Object.is(a, b),
      );
    },
  },
  {
    // [SDM 3 §19.3.1.1] wants RF set in the image, as Intel's processors do; AMD's and isola's do not. It matters to
    // instruction breakpoints alone, which the handler's return would meet again.
    reason: "RF in a trap between the elements of a repeated string instruction",
    explains({ what, expected, actual }, outcomes) {
      const trapped = outcomes.vectors.every((vector) => vector === VECTOR.DB) && outcomes.sameRip;
      const within = named(outcomes, STRINGS) && repeated(outcomes);
      return trapped && within && what === "rflags" && (Number(expected) ^ Number(actual)) === RF;
    },
  },
  {
    // [SDM 1 §8.3.10]: within one unit in the last place; C1 tells how the result was rounded.
    reason: "a transcendental x87 function, within the last place",
    explains({ what }, outcomes) {
      const { expected, actual } = outcomes;
      if (!named(outcomes, /^(F2XM1|FYL2X|FYL2XP1|FPTAN|FPATAN|FSIN|FCOS|FSINCOS) /)) return false;
      if (what === "fsw") {
        const bits = expected.getUint16(BLOCK.fx + 2, true) ^ actual.getUint16(BLOCK.fx + 2, true);
        // Of a denormal operand some of Intel's processors do not say that the result is one too.
        const denormal = (actual.getUint16(BLOCK.fx + 2, true) & FSW_DE) !== 0;
        return (bits & ~(FSW_C1 | (denormal ? FSW_UE : 0))) === 0;
      }
      if (!what.startsWith("st/mm")) return false;
      const at = BLOCK.fx + 32 + 16 * Number(what.slice(5));
      const distance = orderOf(expected, at) - orderOf(actual, at);
      return distance >= -1n && distance <= 1n;
    },
  },
  {
    // Both operands are read at once; which of two faults is raised is not laid down.
    reason: "CMPS with two operands that fault",
    explains({ what }, outcomes) {
      const faults = outcomes.vectors.every((vector) => vector === VECTOR.PF || vector === VECTOR.GP);
      return named(outcomes, /^CMPSB? A/) && what === "exception" && faults && outcomes.sameRip;
    },
  },
  {
    // ENTER has pushed RBP when it finds that the frame's end cannot be written, Intel's stores of 80 bits what lies on
    // the first of two pages; all are restarted as a whole.
    reason: "what ENTER or a store of 80 bits wrote before its fault",
    explains({ what }, outcomes) {
      const pageFaults = outcomes.vectors.every((vector) => vector === VECTOR.PF);
      return named(outcomes, /^(ENTER|FBSTP|FSTP M80)/) && what.startsWith("window") && pageFaults;
    },
  },
  {
    // [SDM 2, MOVSXD]: a word of memory; AMD's processors and isola's read a doubleword.
    reason: "a fault of MOVSXD to a register of 16 bits",
    explains(_difference, outcomes) {
      const short = outcomes.test.instructions.some(
        ({ name, bytes }) => name.startsWith("MOVSXD ") && bytes.includes(0x66),
      );
      return short && (isFault(outcomes.vectors[1]) || outcomes.vectors[1] === VECTOR.DB);
    },
  },
];

/** An x87 number's place among those of its sign: neighbours differ by one, across powers of two as well. */
function orderOf(view: DataView, at: number): bigint {
  return (BigInt(view.getUint16(at + 8, true)) << 63n) + BigInt.asUintN(63, view.getBigUint64(at, true));
}

function near(a: number, b: number): boolean {
  if (Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b))) return true;
  // Near the least normal number it is up to the processor whether the result counts as tiny and becomes zero.
  const flushed = (a === 0 || b === 0) && Math.abs(a + b) <= LEAST_NORMAL * (1 + APPROXIMATION);
  return flushed || Math.abs(a - b) <= APPROXIMATION * Math.abs(a);
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Why these differences are meant, or undefined where one is not. */
export function knownDifference(
  test: TestCase,
  found: readonly Difference[],
  expectedBlock: Uint8Array,
  actualBlock: Uint8Array,
): string | undefined {
  const expected = viewOf(expectedBlock);
  const actual = viewOf(actualBlock);
  const same = (at: number): boolean => expected.getBigUint64(at, true) === actual.getBigUint64(at, true);
  const outcomes: Outcomes = {
    test,
    expected,
    actual,
    vectors: [expected.getUint32(BLOCK.vector, true), actual.getUint32(BLOCK.vector, true)],
    sameRip: same(BLOCK.rip),
    sameError: same(BLOCK.errorCode),
  };
  const reasons = found.map((difference) => KNOWN.find((known) => known.explains(difference, outcomes))?.reason);
  return reasons.includes(undefined) ? undefined : [...new Set(reasons)].join("; ");
}
