/**
 * Cases where QEMU 7.2's TCG does not do as the manual says, by program: the results that are wanted instead, with the
 * manual's place. "Processors" means that it was tried on one in ring 3.
 */

interface FaultGroup {
  readonly why: string;
  /** By the case's name: the right result. */
  readonly cases?: Readonly<Record<string, string>>;
  /** Cases whose right result follows from QEMU's. */
  readonly like?: { readonly names: readonly string[]; fix(qemu: string): string };
}

/** A page fault's error code with P set, in a result. */
const withPresent = (result: string): string =>
  result.replaceAll(/ e=([0-9a-f]+)/g, (_, code: string) => ` e=${(Number.parseInt(code, 16) | 1).toString(16)}`);

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
        names: [
          ...["PML4E", "PDPTE", "PDE", "PTE"].flatMap((level) => [
            `${level} with address bit 40`,
            `${level} with address bit 51`,
            `${level} with bit 63 and no NXE`,
          ]),
          "PML4E with bit 7",
          "PDPTE of 1 GiB with bit 13",
          "PDPTE of 1 GiB with bit 29",
          "PDE of 2 MiB with bit 13",
          "PDE of 2 MiB with bit 20",
        ],
        fix: (qemu) => withPresent(qemu).replaceAll("20a7", "2087").replaceAll("200000a7", "20000087"),
      },
    },
  ],
  paging: [
    {
      why: "either is allowed: an entry whose translation ends in a fault may be marked as accessed or not [SDM 3 §4.8]",
      like: {
        names: [
          "crossing: an addition, the second page read-only",
          "crossing: a locked addition, the second page read-only",
        ],
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
};
