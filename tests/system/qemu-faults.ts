/**
 * Cases where QEMU 7.2's TCG does not do as the manual says, by program: the results that are wanted instead, with the
 * manual's place. "Processors" means that it was tried on one in ring 3.
 */

import { BREAKPOINT_QEMU_FAULTS } from "./qemu-faults-breakpoints.ts";
import { LEGACY_QEMU_FAULTS } from "./qemu-faults-legacy.ts";

export interface FaultGroup {
  readonly why: string;
  /** By the case's name: the right result. */
  readonly cases?: Readonly<Record<string, string>>;
  /** Cases whose right result follows from QEMU's; some of them may be right already. */
  readonly like?: { readonly names: RegExp; fix(qemu: string): string };
}

/** A page fault's error code with P set, in a result. */
const withPresent = (result: string): string =>
  result.replaceAll(/ e=([0-9a-f]+)/g, (_, code: string) => ` e=${(Number.parseInt(code, 16) | 1).toString(16)}`);

/** #GP as #SS, on that one's stack. */
const bySs = (result: string): string =>
  result
    .replace("v=d", "v=c")
    .replace(/ h=\w+/, " h=296000")
    .replace(/ rsp=\w+/, " rsp=295fd0");

/** An error code that names a gate of the IDT: vector * 16 + 2 as vector * 8 + 2. */
const gateCode = (code: number): number => ((code & 2) === 0 ? code : (code - 2) / 2 + 2);
const withCode = (result: string, fix: (code: number) => number): string =>
  result.replace(/ e=(\w+)/, (_, code: string) => ` e=${fix(Number.parseInt(code, 16)).toString(16)}`);

export const QEMU_FAULTS: Readonly<Record<string, readonly FaultGroup[]>> = {
  ...LEGACY_QEMU_FAULTS,
  ...BREAKPOINT_QEMU_FAULTS,
  exceptions: [
    {
      why: "opcodes that the manual leaves undefined, and LOCK where it is not allowed, raise #UD [SDM 2 appendix A, LOCK]",
      cases: {
        "undefined: LOCK MOV to memory": "v=6 ip=5 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "undefined: 8F /1": "v=6 ip=5 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "undefined: C6 /1": "v=6 ip=5 cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "INT1 is defined, and raises #DB as a trap, past the gate's DPL [SDM 2 INT n]",
      cases: {
        "INT1, ring 0": "v=1 ip=1 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "INT1, ring 3": "v=1 uip=1 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
      },
    },
    {
      why: "an error code that names a gate is vector * 8 + 2, not vector * 16 + 2 [SDM 3 §6.13]",
      cases: {
        "INT3 in ring 3 by a gate of DPL 0": "v=d e=1a uip=0 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "INT 0x80 in ring 3 by a gate of DPL 0": "v=d e=402 uip=0 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "INT 6 in ring 3 by a gate of DPL 0": "v=d e=32 uip=0 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
      },
    },
    {
      why: "EMMS raises #NM by CR0.TS and #UD by CR0.EM [SDM 2 EMMS, SDM 3 table 12-1]; EM comes before TS [table 13-1]",
      cases: {
        "MMX with TS": "v=7 ip=d cs=8 fl=2 sp=288000 ss=10 h=288000",
        "MMX with MP and TS": "v=7 ip=d cs=8 fl=2 sp=288000 ss=10 h=288000",
        "MMX with EM": "v=6 ip=d cs=8 fl=2 sp=288000 ss=10 h=288000",
        "MMX with EM and TS": "v=6 ip=d cs=8 fl=2 sp=288000 ss=10 h=288000",
        "SSE2 with EM and TS": "v=6 ip=d cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "unmasked x87 and SSE exceptions are raised, reserved bits of MXCSR refused [SDM 3 §6.15; SDM 2 LDMXCSR]",
      cases: {
        "#MF waits for the next x87 instruction": "v=10 ip=15 cs=8 fl=12 sp=287ff8 ss=10 h=287ff0",
        "#XM by a division by zero": "v=13 ip=1c cs=8 fl=12 sp=287ff8 ss=10 h=287ff0",
        "#UD in place of #XM without OSXMMEXCPT": "v=6 ip=24 cs=8 fl=12 sp=287ff8 ss=10 h=287ff0",
        "LDMXCSR with a reserved bit": "v=d e=0 ip=b cs=8 fl=12 sp=287ff8 ss=10 h=287ff0",
      },
    },
    {
      why: "a non-canonical address by SS raises #SS [SDM 3 §6.15, interrupt 12]; DS as a prefix says nothing; processors",
      like: {
        names: /^(POP by a non-canonical|a load by (a|DS and a) non-canonical RBP|LEAVE by)/,
        fix: (qemu) => bySs(qemu),
      },
      cases: {
        "POP by a non-canonical RSP, ring 0": "v=c e=0 ip=a cs=8 fl=2 sp=800000000000 ss=10 h=296000",
        "a load by a non-canonical RSP with an index, ring 0": "v=c e=0 ip=a cs=8 fl=2 sp=800000000000 ss=10 h=296000",
        "a load by a non-canonical RSP with an index, ring 3":
          "v=c e=0 uip=a cs=33 fl=2 sp=800000000000 ss=2b h=296000",
      },
    },
    {
      why: "a branch to a non-canonical address faults before it is taken [SDM 2 JMP, CALL, RET]; processors",
      cases: {
        "JMP to a non-canonical address, ring 0": "v=d e=0 ip=a cs=8 fl=2 sp=288000 ss=10 h=288000",
        "JMP to a non-canonical address, ring 3": "v=d e=0 uip=a cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "CALL of a non-canonical address, ring 0": "v=d e=0 ip=15 cs=8 fl=2 sp=288000 ss=10 h=288000 rsp=287fd0",
        "CALL of a non-canonical address, ring 3": "v=d e=0 uip=15 cs=33 fl=2 sp=40298000 ss=2b h=28a000 rsp=289fd0",
        "RET to a non-canonical address, ring 0": "v=d e=0 ip=16 cs=8 fl=2 sp=287ff8 ss=10 h=287ff0 rsp=287fc0",
        "RET to a non-canonical address, ring 3": "v=d e=0 uip=16 cs=33 fl=2 sp=40297ff8 ss=2b h=28a000 rsp=289fd0",
      },
    },
    {
      why: "CLFLUSH, LGDT and LIDT check for non-canonical addresses [SDM 2]",
      cases: {
        "CLFLUSH of a non-canonical address": "v=d e=0 ip=a cs=8 fl=2 sp=288000 ss=10 h=288000",
        "LGDT of a non-canonical base": "v=d e=0 ip=13 cs=8 fl=6 sp=287ff0 ss=10 h=287ff0",
        "LIDT of a non-canonical base": "v=d e=0 ip=13 cs=8 fl=6 sp=287ff0 ss=10 h=287ff0",
      },
    },
    {
      why: "an access that ends at a non-canonical address raises #GP before any page is looked at; processors",
      cases: {
        "a load that ends beyond the canonical ones, ring 0": "v=d e=0 ip=a cs=8 fl=2 sp=288000 ss=10 h=288000",
        "a load that ends beyond the canonical ones, ring 3": "v=d e=0 uip=a cs=33 fl=2 sp=40298000 ss=2b h=28a000",
      },
    },
  ],
  "page-levels": [
    {
      why: "a fault by a reserved bit has P set in its error code [SDM 3 §4.7], and the entry is not used, so not accessed",
      like: {
        names: /with address bit|with bit 63|PML4E with bit 7|of [12] [GM]iB with bit (13|20|29)/,
        fix: (qemu) => withPresent(qemu).replaceAll("20a7", "2087").replaceAll("200000a7", "20000087"),
      },
    },
  ],
  paging: [
    {
      why: "either is allowed: an entry whose translation ends in a fault may be marked as accessed or not [SDM 3 §4.8]",
      like: {
        names: /^crossing: .* addition, the second page read-only/,
        fix: (qemu) => qemu.replace("pte1=803025", "pte1=803005"),
      },
    },
    {
      why: "CMPXCHG8B always writes, so its fault is a write's [SDM 2 CMPXCHG8B]",
      cases: {
        "crossing: CMPXCHG8B, the second page missing":
          "v=e e=2 cr2=60001000 rax=1122334455667788 rcx=0 rsp=287fd0 rsi=0 rdi=0 low=800ff8 high=801000 far=803000 pte0=800067 pte1=0",
      },
    },
    {
      why: "reading a descriptor is an implicit supervisor access, which AC does not excuse [SDM 3 §4.6.1]",
      cases: {
        "SMAP: a descriptor in a user page is not read, even with AC":
          "read=0 v=e e=1 cr2=40205008 ip=a3 cs=8 fl=40002 sp=288000 ss=10 h=288000",
      },
    },
  ],
  delivery: [
    {
      why: "an error code that names a gate is vector * 8 + 2 [SDM 3 §6.13]",
      like: { names: /^INT by a gate/, fix: (qemu) => withCode(qemu, gateCode) },
    },
    {
      why: "the same; and EXT is set while an exception is delivered [SDM 3 §6.13]",
      like: { names: /^#UD by a gate/, fix: (qemu) => withCode(qemu, (code) => gateCode(code) | 1) },
    },
    {
      why: "a segment that is neither 64-bit code nor present: the manual gives no order of these checks",
      cases: {
        "INT by a gate to 32-bit code not present, ring 0": "v=d e=80 ip=42 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "INT by a gate to 32-bit code not present, ring 3": "v=d e=80 uip=65 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "#UD by a gate to 32-bit code not present, ring 0": "v=d e=81 ip=6e cs=8 fl=2 sp=288000 ss=10 h=290000",
        "#UD by a gate to 32-bit code not present, ring 3": "v=d e=81 uip=65 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
      },
    },
    {
      why: "a gate's offset is checked before the handler is entered [SDM 2 INT n, #GP(EXT)]",
      cases: {
        "INT by a gate to a non-canonical address, ring 0": "v=d e=0 ip=42 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "INT by a gate to a non-canonical address, ring 3": "v=d e=0 uip=65 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "#UD by a gate to a non-canonical address, ring 0": "v=d e=1 ip=6e cs=8 fl=2 sp=288000 ss=10 h=290000",
        "#UD by a gate to a non-canonical address, ring 3": "v=d e=1 uip=65 cs=33 fl=2 sp=40298000 ss=2b h=28a000",
      },
    },
    {
      why: "error codes: vector * 8 + 2; EXT while an exception is delivered [SDM 3 §6.13]",
      cases: {
        "INT in ring 3: DPL is checked before presence": "v=d e=202 uip=4f cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "INT in ring 3: the type is checked before DPL": "v=d e=202 uip=4f cs=33 fl=2 sp=40298000 ss=2b h=28a000",
        "RSP0 is not canonical: #SS with EXT, then its own stack":
          "v=c e=1 uip=65 cs=33 fl=2 sp=40298000 ss=2b h=290000",
        "IST1 is not canonical": "v=c e=1 ip=6e cs=8 fl=2 sp=288000 ss=10 h=292000",
        "the TSS is too short for IST1": "v=a e=41 ip=4a cs=8 fl=2 sp=288000 ss=10 h=288000",
        "#UD, its gate not present: #NP": "v=b e=33 ip=2c cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "SS becomes null where the privilege level changes, not by IST alone [SDM 3 §6.14.4]",
      cases: {
        "IST1 while on IST1 overwrites": "rsp=28ffd8 v=d e=0 ip=be cs=8 fl=3 sp=28ffd8 ss=10 h=290000",
      },
    },
    {
      why: "a fault's frame has RF set; the instruction after IRET clears RF [SDM 3 §17.3.1.1]",
      cases: {
        "a fault's frame has RF": "fl=10003",
        "a page fault's frame has RF": "fl=10003",
        "IRETQ sets RF; the next instruction clears it": "fl=2",
      },
    },
    {
      why: "a non-canonical address by RBP raises #SS, not #GP [SDM 3 §6.15, interrupt 12]",
      cases: {
        "#SS, its gate not present: #DF": "v=8 e=0 ip=36 cs=8 fl=2 sp=288000 ss=10 h=294000",
      },
    },
    {
      why: "INT1 raises #DB [SDM 2 INT n]; EXT is set for it [SDM 3 §6.13]",
      cases: {
        "#DB of INT1, its gate not present: #NP with EXT": "v=b e=b ip=2c cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
  ],
  returns: [
    {
      why: "code with both L and D set is refused [SDM 2 IRET, RET]",
      cases: {
        "IRETQ to code with L and D": "v=d e=80 ip=3d cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "RETFQ to code with L and D": "v=d e=80 ip=3f cs=8 fl=6 sp=287fe0 ss=10 h=287fe0 rsp=287fb0",
      },
    },
    {
      why: "a return's target is checked before anything changes [SDM 2 IRET, RET]",
      cases: {
        "IRETQ to a non-canonical RIP": "v=d e=0 ip=24 cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "IRETQ to a non-canonical RIP in ring 3": "v=d e=0 ip=24 cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "IRETQ to 32-bit code with a RIP above 4 GiB": "v=d e=0 ip=1d cs=8 fl=2 sp=287fd8 ss=10 h=287fd0",
        "RETFQ to a non-canonical RIP": "v=d e=0 ip=18 cs=8 fl=2 sp=287ff0 ss=10 h=287ff0 rsp=287fc0",
      },
    },
    {
      why: "a null SS must have the new CPL as RPL [SDM 2 IRET]",
      cases: {
        "IRETQ in ring 0 with a null SS of RPL 1": "v=d e=0 ip=24 cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
      },
    },
    {
      why: "an absent stack segment raises #SS(selector) [SDM 2 IRET, RET]",
      cases: {
        "IRETQ to an SS not present": "v=c e=80 ip=3d cs=8 fl=2 sp=287fd8 ss=10 h=296000 rsp=295fd0",
        "RETFQ to ring 3 with an SS not present": "v=c e=80 ip=43 cs=8 fl=6 sp=287fe0 ss=10 h=296000 rsp=295fd0",
      },
    },
    {
      why: "a non-canonical stack raises #SS [SDM 2 IRET]",
      cases: {
        "IRETQ from a non-canonical RSP": "v=c e=0 ip=15 cs=8 fl=2 sp=800000000000 ss=10 h=296000 rsp=295fd0",
      },
    },
  ],
  control: [
    {
      why: "reserved bits of CR0's lower half are ignored, those of its upper half and NW without CD refused [SDM 2 MOV CR]",
      cases: {
        "CR0: NW without CD": "v=d e=0 after=80010033",
        "CR0: bit 6": "in=80010033 v=6 after=80010033",
        "CR0: bit 17": "in=80010033 v=6 after=80010033",
        "CR0: bit 28": "in=80010033 v=6 after=80010033",
        "CR0: bit 32": "v=d e=0 after=80010033",
        "CR0: bit 63": "v=d e=0 after=80010033",
      },
    },
    {
      why: "reserved bits of CR8 are refused [SDM 2 MOV CR]",
      cases: {
        "CR8: 16": "v=d e=0 after=0",
        "CR8: bit 63": "v=d e=0 after=0",
      },
    },
    {
      why: "LME cannot change while paging is on, reserved bits are refused [SDM 2 WRMSR; SDM 3 §10.8.5]",
      cases: {
        "MSR EFER: LME cleared": "v=d e=0 is=d01 v=6",
        "MSR EFER: bit 1": "v=d e=0 is=d01 v=6",
        "MSR EFER: bit 9": "v=d e=0 is=d01 v=6",
        "MSR EFER: bit 16": "v=d e=0 is=d01 v=6",
        "MSR EFER: bit 63": "v=d e=0 is=d01 v=6",
      },
    },
    {
      why: "base addresses must be canonical, reserved bits and memory types are refused [SDM 2 WRMSR; SDM 4 table 2-2]",
      cases: {
        "MSR LSTAR: not canonical": "v=d e=0 is=0 v=6",
        "MSR CSTAR: not canonical": "v=d e=0 is=0 v=6",
        "MSR FMASK: the upper half": "v=d e=0 is=0 v=6",
        "MSR FMASK: not canonical": "v=d e=0 is=0 v=6",
        "MSR FS_BASE: not canonical": "v=d e=0 is=0 v=6",
        "MSR GS_BASE: not canonical": "v=d e=0 is=0 v=6",
        "MSR KERNEL_GS_BASE: not canonical": "v=d e=0 is=0 v=6",
        "MSR TSC_AUX: the upper half": "v=d e=0 is=12345678 v=6",
        "MSR TSC_AUX: not canonical": "v=d e=0 is=12345678 v=6",
        "MSR SYSENTER_ESP: not canonical": "v=d e=0 is=0 v=6",
        "MSR SYSENTER_EIP: not canonical": "v=d e=0 is=0 v=6",
        "MSR PAT: type 2": "v=d e=0 is=1040506070001 v=6",
        "MSR PAT: type 3": "v=d e=0 is=1040506070001 v=6",
        "MSR PAT: type 8": "v=d e=0 is=1040506070001 v=6",
      },
    },
    {
      why: "a register that is read-only or not there raises #GP [SDM 2 WRMSR, RDMSR]",
      cases: {
        "MSR MTRRCAP is read-only": "v=d e=0 is=508 v=6",
        "MSR 0x12345 does not exist": "v=d e=0 v=d e=0",
        "MSR 0xc0001234 does not exist": "v=d e=0 v=d e=0",
      },
    },
    {
      why: "LOCK is not allowed [SDM 2 LOCK]",
      cases: {
        "LOCK MOV CR0 is CR8 on some processors, #UD on others": "v=6 ip=0 cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "the APIC's flag returns with IA32_APIC_BASE's [SDM 3 §10.4.3]",
      cases: {
        "CPUID APIC follows IA32_APIC_BASE": "off=0 on=1",
      },
    },
    {
      why: "DR7 has bits that are always 0, DR6 one too [SDM 3 §17.2.3, §17.2.4]",
      cases: {
        "DR7: all bits but GD and the enabling ones": "in=ffff0700 v=6 after=ffff0700",
        "DR6: all bits": "in=ffffefff v=6 after=ffffefff",
      },
    },
    {
      why: "GD guards the debug registers [SDM 3 §17.2.4]",
      cases: {
        "GD: an access to a debug register raises #DB, its handler may use them": "before=4a dr6=ffff2ff0 dr7=400",
      },
    },
  ],
  "control-manual": [
    {
      why: "CR0 and CR4 cannot leave long mode by halves [SDM 2 MOV CR]",
      cases: {
        "CR0: PG cleared": "v=d e=0 after=80010033",
        "CR0: PE cleared": "v=d e=0 after=80010033",
        "CR0: PG and PE cleared": "v=d e=0 after=80010033",
        "CR4: PAE cleared": "v=d e=0 after=620",
      },
    },
    {
      why: "reserved bits of CR4 and CR3 are refused; QEMU hangs on them [SDM 2 MOV CR]",
      cases: {
        "CR4: VMXE": "v=d e=0 after=620",
        "CR4: bit 15": "v=d e=0 after=620",
        "CR4: PCIDE": "v=d e=0 after=620",
        "CR4: bit 19": "v=d e=0 after=620",
        "CR4: PKE": "v=d e=0 after=620",
        "CR4: CET": "v=d e=0 after=620",
        "CR4: bit 31": "v=d e=0 after=620",
        "CR4: bit 32": "v=d e=0 after=620",
        "CR4: bit 63": "v=d e=0 after=620",
        "CR3: bit 40": "v=d e=0 after=206000",
        "CR3: bit 51": "v=d e=0 after=206000",
        "CR3: bit 52": "v=d e=0 after=206000",
        "CR3: bit 63": "v=d e=0 after=206000",
      },
    },
  ],
  "segment-loads": [
    {
      why: "a null selector for SS must have CPL as its RPL [SDM 2 MOV]",
      cases: {
        "MOV SS: null selectors and those beyond, ring 0":
          "is=0 v=6 v=d e=0 v=d e=0 v=d e=0 v=d e=ff8 v=d e=1000 v=d e=1000 v=d e=fff8 v=d e=4 v=d e=c v=d e=4",
      },
    },
  ],
  segments: [
    {
      why: "there are no TSS of 16 bits in IA-32e mode [SDM 3 table 3-2; SDM 2 LAR, LTR]",
      cases: {
        "LAR, LSL, VERR, VERW: an available TSS of 16 bits":
          "lar=55 lsl=55 zf=0 lar=55 lsl=55 zf=0 lar=55 lsl=55 zf=0 lar=55 lsl=55 zf=0",
        "LTR: an available TSS of 16 bits": "v=d e=80 ldt=0 tr=40 high=a8112",
      },
    },
    {
      why: "bases of LDT and TSS must be canonical, the upper half has no type [AMD APM 3 LLDT, LTR]",
      cases: {
        "LLDT: a base that is not canonical": "v=d e=80 ldt=0 tr=40 high=a8220",
        "LLDT: an upper half with a type": "v=d e=80 ldt=0 tr=40 high=a8220",
        "LTR: a base that is not canonical": "v=d e=80 ldt=0 tr=40 high=a8920",
      },
    },
    {
      why: "LTR refuses null selectors [SDM 2 LTR]",
      cases: {
        "LTR: a null selector": "v=d e=0 ldt=0 tr=40 high=0",
        "LTR: a null selector of RPL 3": "v=d e=0 ldt=0 tr=40 high=0",
      },
    },
    {
      why: "DS, ES and SS have no base in 64-bit mode [SDM 3 §3.4.4]",
      cases: {
        "FS and GS have bases, DS, ES and SS none": "ds=800040 es=800040 cs=800040 ss=800040 fs=800140 gs=800140",
      },
    },
    {
      why: "WRFSBASE checks for a canonical address [SDM 2 WRFSBASE]",
      cases: {
        "RDFSBASE and its like need CR4.FSGSBASE": "v=6 fs=ffffff8000000000 fs32=0 gs=ffffffff v=d e=0 user=5 v=6",
      },
    },
    {
      why: "REX.W LSS, LFS and LGS read m16:64 [SDM 2 LDS]",
      cases: {
        "LFS, LGS and LSS":
          "offset=1234 fs=80 offset64=8000001234 gs=80 ss=80 rsp=288000 v=d e=1000 ip=21e cs=8 fl=2 sp=288000 ss=80 h=288000 rbx=7",
      },
    },
  ],
  transfers: [
    {
      why: "code with both L and D set is refused [SDM 2 JMP, CALL]",
      cases: {
        "JMP far: code with L and D": "v=d e=80 ip=33 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "CALL far: code with L and D": "v=d e=80 ip=33 cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "a far transfer's target is checked before anything changes [SDM 2 JMP, CALL]",
      cases: {
        "JMP far: m16:64 to a non-canonical address": "v=d e=0 ip=21 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "CALL far: m16:64 to a non-canonical address": "v=d e=0 ip=21 cs=8 fl=2 sp=288000 ss=10 h=288000",
        "JMP through a call gate to a non-canonical address, ring 0":
          "v=d e=0 ip=83 cs=8 fl=6 sp=287ff8 ss=10 h=287ff0",
        "CALL through a call gate to a non-canonical address, ring 0":
          "v=d e=0 ip=83 cs=8 fl=6 sp=287ff8 ss=10 h=287ff0",
        "CALL through a call gate to a non-canonical address, ring 3":
          "v=d e=0 uip=a6 cs=33 fl=2 sp=40297ff8 ss=2b h=28a000",
      },
    },
    {
      why: "a code segment that is entered is marked as accessed [SDM 3 §3.4.5.1]",
      cases: {
        "JMP far: 64-bit code": "cs=80 rsp=288000 top=0 high=af9b00",
        "JMP far: conforming code": "cs=80 rsp=288000 top=0 high=af9f00",
        "JMP far: execute-only code": "cs=80 rsp=288000 top=0 high=af9900",
        "CALL far: 64-bit code": "cs=80 rsp=287ff8 top=8 high=af9b00",
        "CALL far: conforming code": "cs=80 rsp=287ff8 top=8 high=af9f00",
        "CALL far: execute-only code": "cs=80 rsp=287ff8 top=8 high=af9900",
      },
    },
    {
      why: "code that is not present raises #NP [SDM 2 JMP]",
      cases: {
        "JMP through a call gate to code not present, ring 0": "v=b e=80 ip=96 cs=8 fl=46 sp=287ff8 ss=10 h=287ff0",
      },
    },
    {
      why: "the fault is the CALL's: RIP points at it [SDM 3 §6.5]",
      cases: {
        "a call gate's RSP0 is not canonical": "v=c e=0 uip=ac cs=33 fl=2 sp=40298000 ss=2b h=296000",
      },
    },
    {
      why: "CPL is 1 there, which CLI is not allowed to [SDM 3 §5.5; SDM 2 CLI]",
      cases: {
        "a call gate to ring 1 takes RSP1": "cs=81 ss=1 rsp=28bfe0 v=d e=0 ip=18f cs=81 fl=2 sp=28bfe0 ss=1 h=28a000",
      },
    },
  ],
  "system-calls": [
    {
      why: "SYSRET and SYSEXIT check their target in ring 0, as Intel's processors do [SDM 2 SYSRET, SYSEXIT]",
      cases: {
        "SYSRET to a non-canonical RCX faults in ring 0":
          "v=d e=0 ip=1c cs=8 fl=2 sp=288000 ss=10 h=288000 rcx=800000000000",
        "SYSEXIT to a non-canonical RIP": "v=d e=0 ip=20 cs=8 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "SYSRET loads all of 3C7FD7H [SDM 2 SYSRET]",
      cases: {
        "SYSRET takes flags from R11, but not RF and VM": "fl=3c7cd7 cs=33 ss=2b",
      },
    },
    {
      why: "SYSCALL is of 64-bit mode alone on Intel's processors [SDM 2 SYSCALL]",
      cases: {
        "SYSCALL in compatibility mode is undefined on Intel's processors":
          "v=6 ip=34 cs=18 fl=46 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "segments' limits and types count in compatibility mode [SDM 3 §5.3, §5.5]",
      cases: {
        "compatibility mode: a null DS faults": "v=d e=0 ip=26 cs=18 fl=2 sp=288000 ss=10 h=288000",
        "compatibility mode: a data segment has a limit": "inside=0 v=d e=0 ip=83 cs=18 fl=2 sp=288000 ss=10 h=288000",
        "compatibility mode: a read-only segment is not written":
          "eax=800010 v=d e=0 ip=7f cs=18 fl=2 sp=288000 ss=10 h=288000",
        "compatibility mode: an expand-down segment": "eax=800010 v=d e=0 ip=7f cs=18 fl=2 sp=288000 ss=10 h=288000",
        "compatibility mode: execute-only CS is not read": "v=d e=0 ip=3a cs=80 fl=2 sp=288000 ss=10 h=288000",
      },
    },
    {
      why: "LOCK is not allowed [SDM 2 LOCK]",
      cases: {
        "compatibility mode: CR8 cannot be named": "v=6 ip=1f cs=18 fl=2 sp=288000 ss=10 h=288000",
      },
    },
  ],
  debug: [
    {
      why: "alignment is checked in ring 3 with AM and AC, before any page fault [SDM 3 §6.15, interrupt 17]; processors",
      cases: {
        "alignment: a word": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: a doubleword": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: a quadword": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: a store": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: an addition": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: AC by POPF": "v=11 e=0 uip=38 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: PUSH": "v=11 e=0 uip=3b cs=33 fl=40002 sp=40297ffc ss=2b h=28a000",
        "alignment: CALL and RET": "v=11 e=0 uip=3b cs=33 fl=40002 sp=40297ffc ss=2b h=28a000",
        "alignment: MOVSD of SSE": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: FLD of 64 bits": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: MOVS": "v=11 e=0 uip=3a cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: a page fault comes after": "v=11 e=0 uip=38 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: XCHG": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
        "alignment: CMPXCHG8B": "v=11 e=0 uip=33 cs=33 fl=40002 sp=40298000 ss=2b h=28a000",
      },
    },
  ],
  "local-interrupts": [
    {
      why: "while SVR switches the APIC off, all entries stay masked [SDM 3 §10.4.7.2]",
      cases: {
        "the APIC switched off by SVR masks its entries": "timer=10051 timer2=10051",
      },
    },
  ],
  "protected-segments": [
    {
      why: "code is not fetched beyond CS's limit, and near branches check it [SDM 3 §5.3; SDM 2 JMP, CALL, RET]",
      cases: {
        "segment: CS ends before the next instruction": "v=d e=0 rip=4 cs=80 fl=2 h=288000 hss=10",
        "segment: CS ends in an instruction": "v=d e=0 rip=3 cs=80 fl=2 h=288000 hss=10",
        "segment: a jump beyond CS's limit": "v=d e=0 rip=0 cs=80 fl=2 h=288000 hss=10",
        "segment: a call beyond CS's limit": "v=d e=0 rip=0 cs=80 fl=2 h=288000 hss=10",
        "segment: a return beyond CS's limit": "v=d e=0 rip=2 cs=80 fl=2 h=287ffc hss=10",
        "segment: a jump by a register beyond CS's limit": "v=d e=0 rip=3 cs=80 fl=2 h=288000 hss=10",
      },
    },
    {
      why: "limits, types and null selectors count outside 64-bit mode [SDM 3 §5.3, §5.4.1, §5.5]",
      cases: {
        "segment: a byte beyond the limit": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: a doubleword across the limit": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: a write across the limit": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: an offset that wraps": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: limit 0": "in=0 v=d e=0 ip=ef cs=18 fl=2 h=288000 hss=10",
        "segment: the granularity bit": "in=0 v=d e=0 ip=ef cs=18 fl=2 h=288000 hss=10",
        "segment: expand-down below": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: expand-down of 64 KiB, above": "eax=807000 v=d e=0 ip=eb cs=18 fl=2 h=288000 hss=10",
        "segment: expand-down of 64 KiB, across its end": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: read-only, written": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: readable code, written": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: XADD of a read-only segment": "v=d e=0 ip=a6 cs=18 fl=2 h=288000 hss=10",
        "segment: REP MOVSB stops at the limit": "v=d e=0 ip=b5 cs=18 fl=2 h=288000 hss=10",
        "segment: XLAT and string sources go by the override": "eax=0 v=d e=0 ip=f0 cs=18 fl=2 h=288000 hss=10",
        "segment: BTS beyond the limit by its bit offset": "v=d e=0 ip=ab cs=18 fl=2 h=288000 hss=10",
        "segment: a null FS, used": "loaded=0 v=d e=0 ip=d5 cs=18 fl=2 h=288000 hss=10",
        "segment: ES by STOS, beyond the limit": "in=0 v=d e=0 ip=ef cs=18 fl=2 h=288000 hss=10",
        "segment: EBP goes by SS": "v=c e=0 ip=ab cs=18 fl=2 h=288000 hss=80",
      },
    },
  ],
  "protected-transfers": [
    {
      why: "IRET checks its target against CS's limit [SDM 2 IRET]",
      cases: {
        "IRETD beyond CS's limit": "v=d e=0 ip=b4 cs=18 fl=2 h=287ff4 hss=10",
      },
    },
    {
      why: "virtual-8086 mode has limits of 64 KiB [SDM 3 §20.1.1]",
      cases: {
        "virtual-8086: a word across 64 KiB":
          "v=d e=0 rip=3 cs=800 fl=20002 sp=100 ss=900 es=11 ds=22 fs=33 gs=44 h=28a000 hss=10",
      },
    },
    {
      why: "EXT is set while an exception is delivered [SDM 3 §6.13]",
      cases: {
        "virtual-8086: UD2 by a gate to conforming code":
          "v=d e=99 rip=0 cs=800 fl=20002 sp=100 ss=900 es=11 ds=22 fs=33 gs=44 h=28a000 hss=10",
      },
    },
  ],
};
