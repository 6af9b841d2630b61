/**
 * Cases where QEMU 7.2's TCG does not do as the manual says, by program: the results that are wanted instead, with the
 * manual's place. "Processors" means that it was tried on one in ring 3.
 */

interface FaultGroup {
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
          "v=e e=2 cr2=60001000 low=800ff8 high=801000 far=803000 pte0=800067 pte1=0",
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
        "IRETQ to code with L and D": "v=d e=80 ip=3e cs=8 fl=6 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "RETFQ to code with L and D": "v=d e=80 ip=40 cs=8 fl=2 sp=287fe0 ss=10 h=287fe0 rsp=287fb0",
      },
    },
    {
      why: "a return's target is checked before anything changes [SDM 2 IRET, RET]",
      cases: {
        "IRETQ to a non-canonical RIP": "v=d e=0 ip=24 cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "IRETQ to a non-canonical RIP in ring 3": "v=d e=0 ip=24 cs=8 fl=2 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
        "IRETQ to 32-bit code with a RIP above 4 GiB": "v=d e=0 ip=1c cs=8 fl=2 sp=287fd8 ss=10 h=287fd0",
        "RETFQ to a non-canonical RIP": "v=d e=0 ip=18 cs=8 fl=2 sp=287ff0 ss=10 h=287ff0 rsp=287fc0",
      },
    },
    {
      why: "a null SS must have the new CPL as RPL [SDM 2 IRET]",
      cases: {
        "IRETQ in ring 0 with a null SS of RPL 1": "v=d e=0 ip=25 cs=8 fl=6 sp=287fd8 ss=10 h=287fd0 rsp=287fa0",
      },
    },
    {
      why: "an absent stack segment raises #SS(selector) [SDM 2 IRET, RET]",
      cases: {
        "IRETQ to an SS not present": "v=c e=80 ip=3e cs=8 fl=2 sp=287fd8 ss=10 h=296000 rsp=295fd0",
        "RETFQ to ring 3 with an SS not present": "v=c e=80 ip=42 cs=8 fl=6 sp=287fe0 ss=10 h=296000 rsp=295fd0",
      },
    },
    {
      why: "a non-canonical stack raises #SS [SDM 2 IRET]",
      cases: {
        "IRETQ from a non-canonical RSP": "v=c e=0 ip=15 cs=8 fl=2 sp=800000000000 ss=10 h=296000 rsp=295fd0",
      },
    },
  ],
};
