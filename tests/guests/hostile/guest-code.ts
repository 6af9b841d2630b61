/**
 * What a hostile guest runs: random bytes, and random instructions that reach for whatever lies outside of the guest's
 * own memory: ports, device windows, model-specific registers, page tables, descriptor tables. [SDM 2 for encodings]
 */

import type { Random } from "../../fuzz/random.ts";

/** Guest-physical places worth a blow; the low parts are random. */
const WINDOWS = [
  0xfee00000, 0xfec00000, 0xfed00000, 0xb0000000, 0xe0000000, 0xc0000000, 0xfd000000, 0xffff0000, 0xa0000, 0xb8000,
] as const;
const MSRS = [
  0x10, 0x1b, 0x3a, 0x3b, 0x8b, 0xfe, 0x174, 0x175, 0x176, 0x179, 0x1a0, 0x1d9, 0x200, 0x20f, 0x250, 0x277, 0x2ff,
  0x6e0, 0x800, 0x802, 0x808, 0x80b, 0x80d, 0x80f, 0x828, 0x830, 0x832, 0x838, 0x83e, 0x83f, 0xc0000080, 0xc0000081,
  0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0x4b564d00, 0x4b564d01,
  0x4b564d04, 0x11, 0x12,
] as const;
/** Ports with devices behind them; 0x604 is left to plain chance, since it switches the guest off. */
const PORTS = [
  0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0xa0, 0xa1, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd,
  0x4d0, 0xcf8, 0xcfc, 0xcfe, 0x600, 0x602, 0x608, 0x620,
] as const;

export interface Surroundings {
  readonly random: Random;
  /** Bytes of guest RAM from address 0. */
  readonly ramBytes: number;
  /** Where the code itself lies. */
  readonly codeStart: number;
  readonly codeBytes: number;
}

function little(value: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function word(random: Random): bigint {
  return (BigInt(random.u32()) << 32n) | BigInt(random.u32());
}

/** An address: of devices, of RAM's edge, of tables, of the code, of nothing. */
function address({ random, ramBytes, codeStart, codeBytes }: Surroundings): bigint {
  switch (random.below(8)) {
    case 0:
    case 1:
      return BigInt(random.pick(WINDOWS) + random.below(0x1000));
    case 2:
      return BigInt(ramBytes - 8 + random.below(16));
    case 3:
      return BigInt(codeStart + random.below(codeBytes));
    case 4:
      return BigInt(random.below(0x10000));
    case 5:
      return BigInt(random.u32());
    case 6:
      return BigInt.asUintN(64, BigInt.asIntN(47, word(random)));
    default:
      return word(random);
  }
}

function value(random: Random): bigint {
  switch (random.below(4)) {
    case 0:
      return BigInt(random.below(256));
    case 1:
      return 1n << BigInt(random.below(64));
    case 2:
      return BigInt(random.u32());
    default:
      return word(random);
  }
}

/** `mov r64, imm64` (r32, imm32 without REX) by register number 0 to 7. */
function load(long: boolean, register: number, to: bigint): number[] {
  return long ? [0x48, 0xb8 + register, ...little(to, 8)] : [0xb8 + register, ...little(to, 4)];
}

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RSI = 6;
const RDI = 7;

type Maker = (around: Surroundings, long: boolean) => number[];

/** Loads RAX with a value and RDI with an address, then runs `code`. */
const withPointer =
  (...code: readonly (readonly number[])[]): Maker =>
  (around, long) => [
    ...load(long, RAX, value(around.random)),
    ...load(long, RDI, address(around)),
    ...around.random.pick(code),
  ];

const MAKERS: readonly Maker[] = [
  // OUT and IN, by all widths.
  ({ random }, long) => {
    const port = random.chance(0.7) ? random.pick(PORTS) : random.below(0x10000);
    const code = random.pick([[0xee], [0xef], [0x66, 0xef], [0xec], [0xed], [0x66, 0xed]]);
    return [...load(long, RAX, value(random)), ...load(long, RDX, BigInt(port)), ...code];
  },
  // Reads, writes and read-modify-writes of 1, 2, 4, 8 and 16 bytes.
  withPointer(
    [0x88, 0x07],
    [0x66, 0x89, 0x07],
    [0x89, 0x07],
    [0x48, 0x89, 0x07],
    [0x8a, 0x07],
    [0x8b, 0x07],
    [0x48, 0x8b, 0x07],
    [0xf0, 0x48, 0x0f, 0xc1, 0x07],
    [0xf0, 0x0f, 0xb1, 0x07],
    [0x0f, 0xc7, 0x0f],
    [0x48, 0x0f, 0xc7, 0x0f],
    [0x0f, 0x11, 0x07],
    [0x0f, 0x10, 0x07],
    [0x66, 0x0f, 0xe7, 0x07],
    [0xdb, 0x3f],
    [0xdf, 0x3f],
    [0x48, 0x87, 0x07],
  ),
  // FXSAVE, FXRSTOR, XSAVE, XRSTOR, LDMXCSR, FNSAVE, FRSTOR, CLFLUSH, INVLPG.
  withPointer(
    [0x0f, 0xae, 0x07],
    [0x0f, 0xae, 0x0f],
    [0x0f, 0xae, 0x27],
    [0x0f, 0xae, 0x2f],
    [0x0f, 0xae, 0x17],
    [0xdd, 0x37],
    [0xdd, 0x27],
    [0x0f, 0xae, 0x3f],
    [0x0f, 0x01, 0x3f],
    [0xd9, 0x27],
  ),
  // LGDT, LIDT, SGDT, SIDT, far jumps and calls, jumps into nothing.
  withPointer(
    [0x0f, 0x01, 0x17],
    [0x0f, 0x01, 0x1f],
    [0x0f, 0x01, 0x07],
    [0x0f, 0x01, 0x0f],
    [0xff, 0x2f],
    [0xff, 0x1f],
    [0xff, 0xe7],
    [0xff, 0xd7],
    [0xff, 0x27],
    [0x48, 0xff, 0x2f],
  ),
  // Selectors: MOV to each segment register, LLDT, LTR, LAR, LSL, VERR.
  ({ random }, long) => [
    ...load(long, RAX, BigInt(random.chance(0.7) ? random.below(0x100) : random.below(0x10000))),
    ...random.pick([
      [0x8e, 0xd8],
      [0x8e, 0xc0],
      [0x8e, 0xd0],
      [0x8e, 0xe0],
      [0x8e, 0xe8],
      [0x0f, 0x00, 0xd0],
      [0x0f, 0x00, 0xd8],
      [0x0f, 0x02, 0xc0],
      [0x0f, 0x03, 0xc0],
      [0x0f, 0x00, 0xe0],
    ]),
  ],
  // Control and debug registers.
  ({ random }, long) => {
    const register = random.pick([0, 2, 3, 3, 4, 8, 8]);
    const moves = register === 8 ? [0x44, 0x0f, 0x22, 0xc0] : [0x0f, 0x22, 0xc0 | (register << 3)];
    const debug = [0x0f, 0x23, 0xc0 | (random.below(8) << 3)];
    return [...load(long, RAX, value(random)), ...(random.chance(0.3) ? debug : moves)];
  },
  // WRMSR, RDMSR, XSETBV, RDPMC.
  ({ random }, long) => [
    ...load(long, RAX, value(random)),
    ...load(long, RDX, value(random)),
    ...load(long, RCX, BigInt(random.chance(0.8) ? random.pick(MSRS) : random.u32())),
    ...random.pick([
      [0x0f, 0x30],
      [0x0f, 0x30],
      [0x0f, 0x32],
      [0x0f, 0x01, 0xd1],
      [0x0f, 0x33],
    ]),
  ],
  // String instructions, with repeats, in both directions.
  (around, long) => {
    const { random } = around;
    return [
      ...load(long, RSI, address(around)),
      ...load(long, RDI, address(around)),
      // The longest would take minutes: a slice must end within them all the same.
      ...load(long, RCX, BigInt(random.pick([4, 4, 0x100, 0x100, 0x10000, 2 ** 40]) - random.below(4))),
      ...load(long, RDX, BigInt(random.pick(PORTS))),
      random.pick([0xfc, 0xfd]),
      ...random.pick([[0xf3], [0xf2], []]),
      ...(random.chance(0.3) ? [0x48] : []),
      random.pick([0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xae, 0xaf, 0xa6, 0xa7, 0x6c, 0x6d, 0x6e, 0x6f]),
    ];
  },
  // Interrupts, system calls and returns, HLT, flags.
  ({ random }) =>
    random.pick([
      [0xcd, random.below(256)],
      [0xcc],
      [0xf1],
      [0x0f, 0x0b],
      [0x0f, 0x05],
      [0x48, 0x0f, 0x07],
      [0x0f, 0x07],
      [0x0f, 0x34],
      [0x0f, 0x35],
      [0xcf],
      [0x48, 0xcf],
      [0xf4],
      [0xfb],
      [0xfa],
      [0x9d],
      [0x0f, 0x01, 0xf8],
      [0x0f, 0x09],
      [0x0f, 0x06],
      [0xcb],
      [0xc3],
      [0x0f, 0xa2],
      [0x0f, 0xc7, 0xf0],
      [0x0f, 0x01, 0xcb],
      [0x0f, 0x01, 0xca],
      [0xc8, 0xff, 0xff, 0x1f],
      [0x0f, 0x31],
      [0x0f, 0x01, 0xd0],
      [0xd7],
      [0x9b],
    ]),
  // The stack pointer goes astray.
  (around, long) => [
    ...load(long, 4, address(around)),
    ...around.random.pick([[0x50], [0x58], [0x9c], [0xe8, 0, 0, 0, 0]]),
  ],
  // The x87, at random.
  ({ random }) => [0xd8 + random.below(8), 0xc0 + random.below(64)],
];

/** `bytes` of code: of random bytes, of the instructions above, or of both. */
export function hostileCode(around: Surroundings, long: boolean): Uint8Array {
  const { random, codeBytes } = around;
  const code = new Uint8Array(codeBytes);
  const wild = random.pick([0, 0.2, 0.6, 1]);
  let at = 0;
  while (at < codeBytes) {
    const next = random.chance(wild)
      ? Array.from({ length: 1 + random.below(15) }, () => random.below(256))
      : random.pick(MAKERS)(around, long);
    code.set(next.slice(0, codeBytes - at), at);
    at += next.length;
  }
  return code;
}
