/** Control, debug and model-specific registers, CPUID, in 64-bit mode. [SDM 3 §2.5, §2.6, §17.2; SDM 4] */

import { by, type CaseCode } from "../guest/case-code.ts";
import { CR0_BASE, CR4_BASE, EFER_BASE, PML4 } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";

const NON_CANONICAL = 0x8000_0000_0000n;
const EFER = 0xc000_0080;
const CR4 = { TSD: 4, DE: 8, OSXSAVE: 1 << 18 } as const;
const bit = (n: number): bigint => 1n << BigInt(n);

/** Writes values one after the other, each from the same start, and logs what can be read back. */
function writes(
  register: string,
  base: bigint,
  values: readonly (readonly [string, bigint])[],
  spec: string,
): SystemCase[] {
  return values.map(([name, value]) => ({
    name: `${register.toUpperCase()}: ${name}`,
    spec,
    code: (c: CaseCode) =>
      c
        .terse()
        .mov("rax", base)
        .mov(register, "rax")
        .attempt(() => c.mov("rax", value).mov(register, "rax").logSystem("in", register))
        .logSystem("after", register),
  }));
}

const CR0 = BigInt(CR0_BASE);
const CR4_VALUE = BigInt(CR4_BASE);
const CR0_WRITES = writes(
  "cr0",
  CR0,
  [
    ["the same", CR0],
    ["NW without CD", CR0 | bit(29)],
    ["CD", CR0 | bit(30)],
    ["CD and NW", CR0 | bit(30) | bit(29)],
    ["ET cleared", CR0 & ~bit(4)],
    ["NE cleared", CR0 & ~bit(5)],
    ["MP, EM and TS", CR0 | 0xen],
    ["AM", CR0 | bit(18)],
    ["WP cleared", CR0 & ~bit(16)],
    ["bit 6", CR0 | bit(6)],
    ["bit 17", CR0 | bit(17)],
    ["bit 28", CR0 | bit(28)],
    ["bit 32", CR0 | bit(32)],
    ["bit 63", CR0 | bit(63)],
  ],
  "SDM 3 §2.5; SDM 2 MOV CR",
);
/** QEMU leaves long mode half-way, and ends; or hangs on a reserved bit of CR4. */
export const CONTROL_MANUAL: readonly SystemCase[] = [
  ...writes(
    "cr0",
    CR0,
    [
      ["PG cleared", CR0 & ~bit(31)],
      ["PE cleared", CR0 & ~1n],
      ["PG and PE cleared", CR0 & ~bit(31) & ~1n],
    ],
    "SDM 3 §9.8.5.4; SDM 2 MOV CR",
  ),
  ...writes(
    "cr4",
    CR4_VALUE,
    [
      ["PAE cleared", CR4_VALUE & ~0x20n],
      ["VMXE", CR4_VALUE | bit(13)],
      ["bit 15", CR4_VALUE | bit(15)],
      ["PCIDE", CR4_VALUE | bit(17)],
      ["bit 19", CR4_VALUE | bit(19)],
      ["PKE", CR4_VALUE | bit(22)],
      ["CET", CR4_VALUE | bit(23)],
      ["bit 31", CR4_VALUE | bit(31)],
      ["bit 32", CR4_VALUE | bit(32)],
      ["bit 63", CR4_VALUE | bit(63)],
    ],
    "SDM 3 §2.5; SDM 2 MOV CR",
  ),
  ...writes(
    "cr3",
    BigInt(PML4),
    [
      ["bit 40", BigInt(PML4) | bit(40)],
      ["bit 51", BigInt(PML4) | bit(51)],
      ["bit 52", BigInt(PML4) | bit(52)],
      ["bit 63", BigInt(PML4) | bit(63)],
    ],
    "SDM 2 MOV CR; SDM 3 table 4-12",
  ),
];
const CR4_WRITES = writes(
  "cr4",
  CR4_VALUE,
  [
    ["the same", CR4_VALUE],
    ["TSD, DE, PSE, MCE, PGE, PCE", CR4_VALUE | 0x1dcn],
    ["OSXSAVE", CR4_VALUE | bit(18)],
    ["FSGSBASE", CR4_VALUE | bit(16)],
    ["SMEP and SMAP", CR4_VALUE | bit(20) | bit(21)],
    ["all taken away but PAE", 0x20n],
  ],
  "SDM 3 §2.5; SDM 2 MOV CR",
);
const CR3_WRITES = writes(
  "cr3",
  BigInt(PML4),
  [
    ["the same", BigInt(PML4)],
    ["PWT and PCD", BigInt(PML4) | 0x18n],
  ],
  "SDM 2 MOV CR; SDM 3 table 4-12",
);
const CR8_WRITES = writes(
  "cr8",
  0n,
  [
    ["5", 5n],
    ["15", 15n],
    ["16", 16n],
    ["bit 63", bit(63)],
  ],
  "SDM 3 §10.8.6; SDM 2 MOV CR",
);
const CR2_WRITES = writes(
  "cr2",
  0n,
  [
    ["any number", 0x1234_5678_9abcn],
    ["a non-canonical number", 0x8123_0000_0000_0001n],
  ],
  "SDM 3 §2.5",
);

/** WRMSR, then RDMSR. */
function msr(name: string, index: number, value: bigint): SystemCase {
  return {
    name: `MSR ${name}`,
    spec: "SDM 4 table 2-2; SDM 2 WRMSR",
    code(c) {
      c.terse().attempt(() => {
        c.mov("ecx", index)
          .mov("eax", Number(value & 0xffff_ffffn))
          .mov("edx", Number(value >> 32n))
          .emit("WRMSR");
      });
      c.attempt(() =>
        c.mov("ecx", index).emit("RDMSR").emit("SHL", "rdx", 32).emit("OR", "rax", "rdx").log("is", "rax"),
      );
    },
  };
}
const MSRS: SystemCase[] = [
  msr("EFER: the same", EFER, BigInt(EFER_BASE | 0x400)),
  msr("EFER: LMA cleared is not heard", EFER, BigInt(EFER_BASE)),
  msr("EFER: SCE cleared", EFER, BigInt((EFER_BASE & ~1) | 0x400)),
  msr("EFER: NXE cleared", EFER, BigInt((EFER_BASE & ~0x800) | 0x400)),
  msr("EFER: LME cleared", EFER, BigInt((EFER_BASE & ~0x100) | 0x400)),
  msr("EFER: bit 1", EFER, BigInt(EFER_BASE | 0x402)),
  msr("EFER: bit 9", EFER, BigInt(EFER_BASE | 0x600)),
  msr("EFER: bit 16", EFER, BigInt(EFER_BASE | 0x1_0400)),
  msr("EFER: bit 63", EFER, BigInt(EFER_BASE | 0x400) | bit(63)),
  ...(
    [
      ["STAR", 0xc000_0081],
      ["LSTAR", 0xc000_0082],
      ["CSTAR", 0xc000_0083],
      ["FMASK", 0xc000_0084],
      ["FS_BASE", 0xc000_0100],
      ["GS_BASE", 0xc000_0101],
      ["KERNEL_GS_BASE", 0xc000_0102],
      ["TSC_AUX", 0xc000_0103],
      ["SYSENTER_ESP", 0x175],
      ["SYSENTER_EIP", 0x176],
    ] as const
  ).flatMap(([name, index]) => [
    msr(`${name}: a small number`, index, 0x1234_5678n),
    msr(`${name}: the upper half`, index, 0xffff_8000_0000_1000n),
    msr(`${name}: not canonical`, index, NON_CANONICAL),
  ]),
  msr("SYSENTER_CS", 0x174, 0x33n),
  msr("PAT: all types", 0x277, 0x0001_0405_0607_0001n),
  msr("PAT: type 2", 0x277, 0x0007_0406_0007_0402n),
  msr("PAT: type 3", 0x277, 0x0307_0406_0007_0406n),
  msr("PAT: type 8", 0x277, 0x0007_0406_0807_0406n),
  msr("MTRRCAP is read-only", 0xfe, 0n),
  msr("0x12345 does not exist", 0x1_2345, 1n),
  msr("0xc0001234 does not exist", 0xc000_1234, 1n),
];

const MACHINE_STATUS: SystemCase[] = [
  {
    name: "LMSW sets PE to TS alone, and cannot clear PE",
    spec: "SDM 2 LMSW",
    code(c) {
      c.mov("eax", 0xfffe).emit("LMSW", "ax").logSystem("set", "cr0").mov("eax", 0).emit("LMSW", "ax");
      c.logSystem("cleared", "cr0").emit("CLTS").logSystem("clts", "cr0");
    },
  },
  {
    name: "SMSW in its sizes",
    spec: "SDM 2 SMSW",
    code(c) {
      c.mov("rbx", -1).emit("SMSW", "bx").log("w", "rbx").mov("rbx", -1).emit("SMSW", "ebx").log("d", "rbx");
      c.emit("SMSW", "rbx").log("q", "rbx").mov("rdi", 0x80_0000).emit("SMSW", by("rdi", 16)).logMemory("m", by("rdi"));
    },
  },
  {
    name: "MOV CR ignores the operand size prefix",
    spec: "SDM 2 MOV CR",
    code: (c) =>
      c
        .mov("rax", -1)
        .db(0x66, 0x0f, 0x20, 0xc0)
        .log("rax", "rax")
        .mov("rax", -1)
        .db(0x0f, 0x20, 0x00)
        .log("mod0", "rax"),
  },
  {
    name: "LOCK MOV CR0 is CR8 on some processors, #UD on others",
    spec: "SDM 2 MOV CR",
    code: (c) => c.db(0xf0, 0x0f, 0x20, 0xc0),
  },
];

const TIME: SystemCase[] = [
  {
    name: "RDTSC in ring 3 by TSD",
    spec: "SDM 2 RDTSC",
    code(c) {
      c.terse()
        .mov("eax", CR4_BASE | CR4.TSD)
        .mov("cr4", "rax")
        .emit("RDTSC")
        .mark("ring0");
      c.attempt(() => c.toUser(".u1").ring(3).label(".u1").emit("RDTSC"));
      c.attempt(() => c.toUser(".u2").ring(3).label(".u2").db(0x0f, 0x01, 0xf9))
        .mov("eax", CR4_BASE)
        .mov("cr4", "rax");
      c.attempt(() => c.toUser(".u3").ring(3).label(".u3").emit("RDTSC").mark("user"));
    },
  },
  {
    name: "RDTSC goes on, and clears upper halves",
    spec: "SDM 2 RDTSC",
    code(c) {
      c.mov("rax", -1).mov("rdx", -1).emit("RDTSC").mov("rbx", "rax").mov("rcx", "rdx").emit("SHR", "rbx", 32);
      c.log("rax", "rbx").emit("SHR", "rcx", 32).log("rdx", "rcx").emit("SHL", "rdx", 32).emit("OR", "rax", "rdx");
      c.mov("rsi", "rax").emit("RDTSC").emit("SHL", "rdx", 32).emit("OR", "rax", "rdx").emit("CMP", "rsi", "rax");
      c.emit("SETB", "bl").emit("MOVZX", "ebx", "bl").log("later", "rbx");
    },
  },
  {
    name: "RDTSCP gives TSC_AUX",
    spec: "SDM 2 RDTSCP",
    code(c) {
      c.mov("ecx", 0xc000_0103).mov("eax", 0x1234_5678).mov("edx", 0).emit("WRMSR").mov("rcx", -1).db(0x0f, 0x01, 0xf9);
      c.log("rcx", "rcx");
    },
  },
];

/** CPUID's leaf, the bits of EAX, EBX, ECX and EDX that are to be alike. */
function identify(name: string, leaf: number, masks: readonly [number, number, number, number]): SystemCase {
  return {
    name: `CPUID ${name}`,
    spec: "SDM 2 CPUID",
    code(c) {
      for (const register of ["rax", "rbx", "rcx", "rdx"]) c.mov(register, -1);
      c.mov("eax", leaf).mov("ecx", 0).emit("CPUID");
      for (const [i, register] of ["eax", "ebx", "ecx", "edx"].entries()) {
        c.emit("AND", register, masks[i] ?? 0).log(register, `r${register.slice(1)}`);
      }
    },
  };
}
const IDENTITY: SystemCase[] = [
  identify("vendor", 0, [0, -1, -1, -1]),
  // FPU, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, PGE, CMOV, PAT, CLFLUSH, MMX, FXSR, SSE, SSE2; CX16, POPCNT.
  identify("leaf 1", 1, [0, 0, (1 << 13) | (1 << 23), 0x0708_ab79 & ~0x1000]),
  identify("leaf 7", 7, [0, 1 | (1 << 7) | (1 << 20), 0, 0]),
  identify("leaf 0x80000001", 0x8000_0001 | 0, [0, 0, 1, (1 << 11) | (1 << 20) | (1 << 26) | (1 << 27) | (1 << 29)]),
  identify("leaf 0x80000008", 0x8000_0008 | 0, [0xffff, 0, 0, 0]),
  {
    name: "CPUID OSXSAVE follows CR4",
    spec: "SDM 2 CPUID",
    code(c) {
      for (const value of [CR4_BASE, CR4_BASE | CR4.OSXSAVE, CR4_BASE]) {
        c.mov("eax", value).mov("cr4", "rax").mov("eax", 1).emit("CPUID").emit("SHR", "ecx", 27).emit("AND", "ecx", 1);
        c.log("osxsave", "rcx");
      }
    },
  },
  {
    name: "CPUID APIC follows IA32_APIC_BASE",
    spec: "SDM 3 §10.4.3",
    code(c) {
      c.mov("ecx", 0x1b).emit("RDMSR").mov("esi", "eax").mov("edi", "edx").emit("AND", "eax", ~0x800).emit("WRMSR");
      c.mov("eax", 1).emit("CPUID").emit("SHR", "edx", 9).emit("AND", "edx", 1).log("off", "rdx");
      c.mov("ecx", 0x1b).mov("eax", "esi").mov("edx", "edi").emit("WRMSR").mov("eax", 1).emit("CPUID");
      c.emit("SHR", "edx", 9).emit("AND", "edx", 1).log("on", "rdx");
    },
  },
];

function xcr(name: string, index: number, value: bigint): SystemCase {
  return {
    name: `XSETBV ${name}`,
    spec: "SDM 2 XSETBV; SDM 3 §2.6",
    code(c) {
      c.terse()
        .mov("eax", CR4_BASE | CR4.OSXSAVE)
        .mov("cr4", "rax");
      c.mov("ecx", 0).mov("eax", 3).mov("edx", 0).emit("XSETBV");
      c.attempt(() => {
        c.mov("ecx", index)
          .mov("eax", Number(value & 0xffff_ffffn))
          .mov("edx", Number(value >> 32n))
          .emit("XSETBV");
      });
      c.mov("ecx", 0).emit("XGETBV").log("eax", "rax").log("edx", "rdx");
    },
  };
}
const EXTENDED: SystemCase[] = [
  xcr("of x87", 0, 1n),
  xcr("of x87 and SSE", 0, 3n),
  xcr("without x87", 0, 2n),
  xcr("of nothing", 0, 0n),
  xcr("of AVX without SSE", 0, 5n),
  xcr("of bit 63", 0, bit(63) | 3n),
  xcr("to XCR1", 1, 3n),
  {
    name: "XGETBV of an XCR that is not there",
    spec: "SDM 2 XGETBV",
    code: (c) =>
      c
        .mov("eax", CR4_BASE | CR4.OSXSAVE)
        .mov("cr4", "rax")
        .mov("ecx", 2)
        .emit("XGETBV"),
  },
  {
    name: "XSETBV in ring 3",
    spec: "SDM 2 XSETBV",
    code(c) {
      c.mov("eax", CR4_BASE | CR4.OSXSAVE)
        .mov("cr4", "rax")
        .toUser(".user")
        .ring(3)
        .label(".user");
      c.mov("ecx", 0).emit("XGETBV").log("xcr0", "rax").emit("XSETBV");
    },
  },
];

const DEBUG_WRITES: SystemCase[] = [
  ...writes(
    "dr7",
    0x400n,
    [
      ["0", 0n],
      ["all bits but GD and the enabling ones", 0xffff_d700n],
      ["bit 32", bit(32) | 0x400n],
    ],
    "SDM 3 §17.2.4, §17.2.6",
  ),
  ...writes(
    "dr6",
    0xffff_0ff0n,
    [
      ["0", 0n],
      ["all bits", 0xffff_ffffn],
      ["bit 32", bit(32)],
    ],
    "SDM 3 §17.2.3, §17.2.6",
  ),
  ...writes(
    "dr0",
    0n,
    [
      ["any number", 0x1234_5678_9abcn],
      ["a non-canonical number", 0x8123_0000_0000_0001n],
    ],
    "SDM 3 §17.2.1",
  ),
  {
    name: "DR4 and DR5 are DR6 and DR7 without DE",
    spec: "SDM 3 §17.2.2",
    code(c) {
      c.mov("eax", 0xffff_0ff1 | 0)
        .mov("dr4", "rax")
        .logSystem("dr6", "dr6")
        .mov("eax", 0x700)
        .mov("dr5", "rax");
      c.logSystem("dr7", "dr7").logSystem("dr4", "dr4").logSystem("dr5", "dr5");
    },
  },
  {
    name: "DR4 is undefined with DE",
    spec: "SDM 3 §17.2.2",
    code: (c) =>
      c
        .mov("eax", CR4_BASE | CR4.DE)
        .mov("cr4", "rax")
        .mov("rax", "dr4"),
  },
  {
    name: "GD: an access to a debug register raises #DB, its handler may use them",
    spec: "SDM 3 §17.2.4",
    code(c) {
      c.gate(1, { to: ".handler" }).mov("eax", 0x2400).mov("dr7", "rax").mov("rax", "dr0").mark("missed").end();
      c.label(".handler").mov("rbx", by("rsp")).lea("rcx", ".handler").emit("SUB", "rcx", "rbx").log("before", "rcx");
      c.logSystem("dr6", "dr6").logSystem("dr7", "dr7");
    },
  },
];

export const CONTROL: readonly SystemCase[] = [
  ...CR0_WRITES,
  ...CR4_WRITES,
  ...CR3_WRITES,
  ...CR8_WRITES,
  ...CR2_WRITES,
  ...MSRS,
  ...MACHINE_STATUS,
  ...TIME,
  ...IDENTITY,
  ...EXTENDED,
  ...DEBUG_WRITES,
];
