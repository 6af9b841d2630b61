/** Code and data at the ends of segments, under the compiler as under the interpreter. [SDM 3 §5.3] */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assembler, mem } from "../../../isa/assembler.ts";
import { FLAT_CODE32, FLAT_DATA, flatSegment, MSR } from "../../reset-state.ts";
import type { CpuState } from "../../vcpu.ts";
import { CODE, Guest } from "../guest-fixture.ts";

const MAX_BYTES = 4 << 20;
const GDT = 0x2_0000;
const IDT = 0x2_1000;
const DATA = 0x30_0000;
const STACK = 0x3f_0000n;
const GP = 13;
/** Selectors of the table below. */
const FLAT = 8;
const SHORT = 24;
/** Access bytes: present, of ring 0, readable code and writable data, accessed. */
const CODE_ACCESS = 0x9b;
const DATA_ACCESS = 0x93;

/** A segment descriptor of 32 bits; the flags are G, D, L and AVL. */
function descriptor(base: number, limit: number, access: number, flags: number): bigint {
  const high = (base & 0xff00_0000) | (flags << 20) | (limit & 0xf_0000) | (access << 8) | ((base >> 16) & 0xff);
  return (BigInt(high >>> 0) << 32n) | BigInt((((base & 0xffff) << 16) | (limit & 0xffff)) >>> 0);
}

interface Program {
  /** Ends by HLT, or by #GP, whose handler leaves error code, EIP and CS in EBP, EDI and EDX. */
  readonly build: (a: Assembler) => void;
  /** Base, limit in bytes and access byte of selector SHORT, by the labels' offsets from CODE. */
  readonly short: (offsetOf: (name: string) => number) => readonly [base: number, limit: number, access: number];
}

function run(
  { build, short }: Program,
  threshold: number,
): { state: CpuState; compiled: number; at: (name: string) => number } {
  const a = new Assembler({ bits: 32, origin: BigInt(CODE) });
  build(a);
  a.emit("HLT");
  a.label("fault");
  a.emit("POP", "ebp");
  a.emit("POP", "edi");
  a.emit("POP", "edx");
  a.emit("HLT");
  const code = a.finish();
  const at = (name: string) => Number(a.address(name)) - CODE;
  const guest = new Guest(threshold === 0 ? {} : { compiler: { threshold, maxBytes: MAX_BYTES } });
  const { memory } = guest;
  const put = (address: number, value: bigint) => memory.view.setBigUint64(memory.offsetOf(address, 8), value, true);
  const [base, limit, access] = short(at);
  put(GDT + FLAT, descriptor(0, 0xf_ffff, CODE_ACCESS, 0xc));
  put(GDT + SHORT, descriptor(base, limit, access, 0x4));
  const handler = CODE + at("fault");
  put(IDT + GP * 8, (BigInt((handler & 0xffff_0000) | 0x8e00) << 32n) | BigInt((FLAT << 16) | (handler & 0xffff)));
  const state = guest.run(code, (s) => {
    s.segments.cs = flatSegment(FLAT, FLAT_CODE32);
    for (const name of ["ss", "ds", "es"] as const) s.segments[name] = flatSegment(16, FLAT_DATA);
    s.gdtr = { base: BigInt(GDT), limit: 0xff };
    s.idtr = { base: BigInt(IDT), limit: 0x7ff };
    s.cr0 = 0x11n;
    s.cr4 = 0n;
    s.msrs.set(MSR.IA32_EFER, 0n);
    s.gpr.rsp = STACK;
  });
  return { state, compiled: guest.vcpu.compilerStats?.compiled ?? 0, at };
}

/** What the interpreter and the compiler make of a program, which must be the same. */
function bothWays(program: Program) {
  const expected = run(program, 0);
  for (const threshold of [1, 3, 40]) {
    const { state, compiled } = run(program, threshold);
    assert.ok(compiled > 0, "nothing was compiled");
    assert.deepEqual(state, expected.state, `compiled after ${threshold}`);
  }
  return expected;
}

/** Where the loop begins: behind one MOV. */
const LOOP_OFFSET = 5;
/** A loop of 100 turns, run in the flat segment until it is hot, and then from the short one. */
function twice(a: Assembler): void {
  a.mov("ebx", 2n);
  assert.equal(a.here, BigInt(CODE + LOOP_OFFSET));
  a.mov("ecx", 100n);
  a.label("again");
  a.emit("ADD", "eax", "ecx");
  a.label("middle");
  a.emit("ADD", "esi", 0x1234_5678n);
  a.label("behind");
  a.emit("DEC", "ecx");
  a.emit("JNE", { kind: "label", name: "again" });
  a.emit("DEC", "ebx");
  a.label("leave");
  a.emit("JE", { kind: "label", name: "end" });
  // JMP to the loop in the short segment, whose base is CODE.
  a.db(0xea);
  a.dd(LOOP_OFFSET);
  a.db(SHORT, 0);
  a.label("end");
}

for (const [what, label, before] of [
  ["before an instruction of a loop", "middle", 1],
  ["within an instruction of a loop", "behind", 2],
] as const) {
  test(`a code segment that ends ${what}, which is compiled for another segment`, () => {
    const { state, at } = bothWays({
      build: twice,
      short: (offsetOf) => [CODE, offsetOf(label) - before, CODE_ACCESS],
    });
    assert.equal(state.gpr.rdi, BigInt(at("middle")), "faults at the first instruction beyond the end");
    assert.equal(state.gpr.rcx, 100n, "in the first turn");
    assert.equal(state.gpr.rax, 5050n + 100n);
  });
}

test("a code segment that ends right behind a loop lets it run", () => {
  const { state, at } = bothWays({ build: twice, short: (offsetOf) => [CODE, offsetOf("end") - 1, CODE_ACCESS] });
  assert.equal(state.gpr.rax, 2n * 5050n);
  assert.equal(state.gpr.rdi, BigInt(at("leave")), "a jump beyond the end faults itself");
});

test("a data segment that ends in the middle of what a loop changes", () => {
  const { state, at } = bothWays({
    build: (a) => {
      a.mov("eax", BigInt(SHORT));
      a.db(0x8e, 0xd8); // MOV DS, EAX
      a.mov("ebx", 0n);
      a.mov("ecx", 50_000n);
      a.label("again");
      a.label("access");
      a.emit("ADD", mem({ base: "ebx", bits: 32 }), "ecx");
      // The check itself is interpreted; what it jumps to is compiled.
      a.emit("JMP", { kind: "label", name: "further" });
      a.label("further");
      a.emit("ADD", "eax", "ecx");
      a.emit("XOR", "eax", "ebx");
      a.emit("ADD", "ebx", 4n);
      a.emit("DEC", "ecx");
      a.emit("JNE", { kind: "label", name: "again" });
    },
    // The last byte of the next word is beyond it.
    short: () => [DATA, 40_000 * 4 + 2, DATA_ACCESS],
  });
  assert.equal(state.gpr.rdi, BigInt(CODE + at("access")));
  assert.equal(state.gpr.rcx, 10_000n);
});
