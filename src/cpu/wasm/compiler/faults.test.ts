/** Faults inside compiled loops: each instruction of one meets a page that is not there, is told exactly, and goes on. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assembler, mem } from "../../../isa/assembler.ts";
import type { CpuState } from "../../vcpu.ts";
import { CODE, Guest } from "../guest-fixture.ts";

const WINDOW = 0x8000_0000n;
const PAGE = 0x1000;
const PAGES = 16;
const DIRECTORY = 0x3000;
const TABLE = 0x4000;
const IDT = 0x6000;
const GDT = 0x7000;
const HANDLER = CODE + 0x8000;
const FRAMES = 0x30_0000;

/** The page fault handler: mixes error code, RIP and CR2 into R15, makes the page present, returns to the instruction. */
function handler(): Uint8Array {
  const a = new Assembler({ bits: 64, origin: BigInt(HANDLER) });
  a.emit("IMUL", "r15", "r15", 31n);
  a.emit("ADD", "r15", mem({ base: "rsp", bits: 64 }));
  a.emit("ADD", "r15", mem({ base: "rsp", disp: 8, bits: 64 }));
  a.emit("ADD", "r15", mem({ base: "rsp", disp: 24, bits: 64 }));
  a.mov("r13", "cr2");
  a.emit("ADD", "r15", "r13");
  a.emit("SHR", "r13", 12n);
  a.emit("AND", "r13", 0x1ffn);
  a.emit("OR", mem({ index: "r13", scale: 8, disp: TABLE, bits: 64 }), 1n);
  a.emit("ADD", "rsp", 8n);
  a.emit("IRET", { size: 64 });
  return a.finish();
}

function loop(): Uint8Array {
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  const page = (number: number, bits: 8 | 16 | 32 | 64 | 128 = 64) =>
    mem({ base: "r8", disp: number * PAGE + 0x80, bits });
  a.mov("r8", WINDOW);
  a.mov("rcx", 400n);
  a.mov("rsi", 7n);
  a.label("again");
  a.emit("MOV", "r12", "rcx");
  a.emit("AND", "r12", BigInt(PAGES - 1));
  a.emit("AND", mem({ index: "r12", scale: 8, disp: TABLE, bits: 64 }), -2n);
  a.emit("SHL", "r12", 12n);
  a.emit("ADD", "r12", "r8");
  a.emit("INVLPG", mem({ base: "r12", bits: 8 }));
  a.emit("JMP", { kind: "label", name: "compiled" });
  a.label("compiled");
  a.emit("MOV", "rax", page(0));
  a.emit("ADD", page(1), "rcx");
  a.emit("ADC", "rax", page(2));
  a.emit("MOV", page(3), "rax");
  a.emit("XCHG", page(4), "rsi");
  a.emit("SBB", page(5), "rsi");
  a.emit("SETB", page(6, 8));
  a.emit("MOVZX", "edx", page(7, 16));
  a.emit("IMUL", "rdx", page(8));
  a.emit("CMP", page(9, 32), "edx");
  a.emit("RCL", page(10), 1n);
  a.emit("INC", page(11));
  a.emit("PUSH", page(12));
  a.emit("POP", page(13));
  a.emit("MOVUPS", "xmm1", page(14, 128));
  a.emit("NEG", page(15));
  a.emit("ADC", "rbx", "rax");
  a.emit("ADC", "rdi", "rdx");
  a.emit("DEC", "rcx");
  a.emit("JNE", { kind: "label", name: "again" });
  a.emit("HLT");
  return a.finish();
}

function run(threshold: number | undefined): { state: CpuState; data: Uint8Array; compiled: number } {
  const guest = new Guest(threshold === undefined ? {} : { compiler: { threshold, maxBytes: 4 << 20 } });
  const { memory } = guest;
  const { view } = memory;
  const put = (address: number, value: bigint) => view.setBigUint64(memory.offsetOf(address, 8), value, true);
  put(0x2000 + 2 * 8, BigInt(DIRECTORY) | 3n);
  put(DIRECTORY, BigInt(TABLE) | 3n);
  for (let i = 0; i < PAGES; i++) put(TABLE + i * 8, BigInt(FRAMES + i * PAGE) | 3n);
  put(GDT + 8, 0x00af_9b00_0000_ffffn);
  put(GDT + 16, 0x00cf_9300_0000_ffffn);
  // An interrupt gate for #PF, by the code segment at 8.
  put(IDT + 14 * 16, BigInt(HANDLER & 0xffff) | (8n << 16n) | (0x8en << 40n) | (BigInt(HANDLER >> 16) << 48n));
  memory.slice(HANDLER, 64)?.set(handler());
  for (let i = 0; i < PAGES; i++) put(FRAMES + i * PAGE + 0x80, BigInt(i) * 0x1234_5678_9abcn);
  const state = guest.run(loop(), (s) => {
    s.gdtr = { base: BigInt(GDT), limit: 0x17 };
    s.idtr = { base: BigInt(IDT), limit: 0xfff };
  });
  const data = memory.slice(FRAMES, PAGES * PAGE)?.slice() ?? new Uint8Array();
  return { state, data, compiled: Number(guest.vcpu.compiled) };
}

test("every instruction of a compiled loop faults in its turn, exactly as under the interpreter", () => {
  const expected = run(undefined);
  assert.equal(expected.state.gpr.rcx, 0n);
  assert.notEqual(expected.state.gpr.r15, 0n, "the handler was never entered");
  for (const threshold of [1, 20]) {
    const { state, data, compiled } = run(threshold);
    assert.deepEqual(state, expected.state, `compiled after ${threshold}`);
    assert.deepEqual(data, expected.data, `memory, compiled after ${threshold}`);
    assert.ok(compiled > 1000, "the loop ran in compiled code");
  }
});

test("a page that only the compiler asks for, and that is not there, does not show in CR2", () => {
  const a = new Assembler({ bits: 64, origin: WINDOW });
  a.mov("rcx", 50n);
  a.label("again");
  a.emit("ADD", "rax", "rcx");
  // Never taken: RCX is above 0 here.
  a.emit("TEST", "rcx", "rcx");
  a.emit("JE", { kind: "label", name: "elsewhere" });
  a.emit("DEC", "rcx");
  a.emit("JNE", { kind: "label", name: "again" });
  a.emit("HLT");
  for (let i = 0; i < PAGE; i++) a.emit("CLC");
  a.label("elsewhere");
  a.emit("HLT");
  const code = a.finish();
  const guest = new Guest({ compiler: { threshold: 1, maxBytes: 4 << 20 } });
  const { memory } = guest;
  const { view } = memory;
  const put = (address: number, value: bigint) => view.setBigUint64(memory.offsetOf(address, 8), value, true);
  put(0x2000 + 2 * 8, BigInt(DIRECTORY) | 3n);
  put(DIRECTORY, BigInt(TABLE) | 3n);
  put(TABLE, BigInt(FRAMES) | 3n);
  memory.slice(FRAMES, PAGE)?.set(code.subarray(0, PAGE));
  const state = guest.run(Uint8Array.of(0x90), (s) => {
    s.rip = WINDOW;
    s.cr2 = 0x1234_5678n;
  });
  assert.equal(state.gpr.rax, 1275n);
  assert.ok((guest.vcpu.compilerStats?.compiled ?? 0) > 0, "nothing was compiled");
  assert.equal(state.cr2, 0x1234_5678n);
});
