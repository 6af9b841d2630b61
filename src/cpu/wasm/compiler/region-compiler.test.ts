/** The compiler against the interpreter: programs built to hurt it end in the same state, whatever is compiled when. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assembler, mem } from "../../../isa/assembler.ts";
import type { CpuState } from "../../vcpu.ts";
import { ALIAS, CODE, Guest } from "../guest-fixture.ts";
import { besideGuest } from "./beside-fixture.ts";

const MAX_BYTES = 4 << 20;
const STACK = 0x3f_0000n;
const DATA = 0x30_0000;

/** The end of a program under the interpreter, and compiled at once, soon and late; all must be alike. */
function everyWay(
  build: (a: Assembler) => void,
  thresholds: readonly number[] = [1, 3, 40],
): { state: CpuState; compiled: Guest } {
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  build(a);
  a.emit("HLT");
  return everyWayOf(a.finish(), thresholds);
}

function everyWayOf(code: Uint8Array, thresholds: readonly number[]): { state: CpuState; compiled: Guest } {
  const start = (state: CpuState) => {
    state.gpr.rsp = STACK;
  };
  const plain = new Guest();
  const expected = plain.run(code, start);
  let first: Guest | undefined;
  for (const threshold of thresholds) {
    const guest = new Guest({ compiler: { threshold, maxBytes: MAX_BYTES } });
    assert.deepEqual(guest.run(code, start), expected, `compiled after ${threshold}`);
    assert.deepEqual(guest.memory.slice(DATA, 0x1_0000), plain.memory.slice(DATA, 0x1_0000), `memory, ${threshold}`);
    first ??= guest;
    if (threshold < 3) continue;
    const service = besideGuest(2);
    const beside = new Guest({ compiler: { threshold, maxBytes: MAX_BYTES, service } });
    service.serve(beside.memory);
    assert.deepEqual(beside.run(code, start), expected, `compiled beside the guest after ${threshold}`);
    assert.deepEqual(beside.memory.slice(DATA, 0x1_0000), plain.memory.slice(DATA, 0x1_0000), `memory, ${threshold}`);
  }
  assert.ok(first !== undefined && (first.vcpu.compilerStats?.compiled ?? 0) > 0, "nothing was compiled");
  return { state: expected, compiled: first };
}

test("nested loops, carries across them, and every kind of flag", () => {
  const { state } = everyWay((a) => {
    a.mov("rbx", 0n);
    a.mov("rcx", 200n);
    a.label("outer");
    a.mov("rdx", 50n);
    a.label("inner");
    a.emit("ADD", "rax", "rdx");
    a.emit("ADC", "rbx", 0n);
    a.emit("ROL", "rax", 9n);
    a.emit("DEC", "rdx");
    a.emit("JNE", { kind: "label", name: "inner" });
    a.emit("SETB", "sil");
    a.emit("MOVZX", "esi", "sil");
    a.emit("ADD", "rdi", "rsi");
    a.emit("INC", "rdi");
    a.emit("SUB", "rcx", 1n);
    a.emit("JA", { kind: "label", name: "outer" });
  });
  assert.equal(state.gpr.rcx, 0n);
});

test("a loop that rewrites itself costs no storm of compilation", () => {
  const { state, compiled } = everyWay((a) => {
    a.mov("rcx", 3000n);
    a.label("again");
    // The low byte of the immediate of the ADD below becomes that of the counter.
    a.emit("MOV", mem({ label: "patch", disp: 3, bits: 8 }), "cl");
    a.label("patch");
    a.emit("ADD", "rax", 0x7fn);
    a.emit("SUB", "rcx", 1n);
    a.emit("JNE", { kind: "label", name: "again" });
  });
  let sum = 0n;
  for (let i = 3000n; i > 0n; i--) sum += BigInt.asIntN(8, i);
  assert.equal(state.gpr.rax, BigInt.asUintN(64, sum));
  assert.ok((compiled.vcpu.compilerStats?.compiled ?? 0) < 50);
});

test("a way that was never taken is not compiled, and right when it is taken after all", () => {
  const build = (a: Assembler) => {
    a.mov("rcx", 400n);
    a.label("again");
    a.emit("ADD", "rax", "rcx");
    a.emit("CMP", "rcx", 2n);
    a.emit("JE", { kind: "label", name: "seldom" });
    a.label("on");
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
    a.emit("JMP", { kind: "label", name: "end" });
    a.label("seldom");
    for (let i = 0; i < 200; i++) a.emit("ADD", "rbx", "rcx");
    a.emit("JMP", { kind: "label", name: "on" });
    a.label("end");
  };
  const { state } = everyWay(build);
  assert.equal(state.gpr.rbx, 400n);
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  build(a);
  a.emit("HLT");
  const guest = new Guest({ compiler: { threshold: 40, maxBytes: MAX_BYTES } });
  guest.run(a.finish());
  const { compiled = 0, instructions = 0 } = guest.vcpu.compilerStats ?? {};
  assert.ok(compiled > 0 && instructions < 50, `${instructions} instructions in ${compiled} regions`);
});

/** Runs `body` three times, counted in RBX, and what follows it as code that it may call. */
function repeated(body: Uint8Array, after = new Uint8Array(0)): Uint8Array {
  const jump = -(body.length + 9);
  const tail = [0x48, 0xff, 0xcb, 0x0f, 0x85, jump, jump >> 8, jump >> 16, jump >> 24, 0xf4];
  return Uint8Array.from([0xbb, 3, 0, 0, 0, ...body, ...tail, ...after]);
}

test("ten thousand tiny functions", () => {
  const count = 10_000;
  const calls = new Uint8Array(count * 5);
  const functions = new Uint8Array(count * 4);
  for (let i = 0; i < count; i++) {
    calls[i * 5] = 0xe8;
    new DataView(calls.buffer).setInt32(i * 5 + 1, (count - i - 1) * 5 + 10 + i * 4, true);
    functions.set([0x48, 0xff, 0xc0, 0xc3], i * 4); // INC RAX; RET
  }
  const { state } = everyWayOf(repeated(calls, functions), [2]);
  assert.equal(state.gpr.rax, 30_000n);
});

test("one basic block of a MiB", () => {
  const body = new Uint8Array(1 << 20);
  // ADD RAX, 1 with prefixes that do nothing.
  for (let i = 0; i < body.length; i += 8) body.set([0x66, 0x66, 0x48, 0x05, 1, 0, 0, 0], i);
  const { state } = everyWayOf(repeated(body), [2]);
  assert.equal(state.gpr.rax, BigInt((3 * (1 << 20)) / 8));
});

test("overlapping instructions, and jumps into the middle of one", () => {
  const { state } = everyWay((a) => {
    a.mov("rcx", 100n);
    a.label("again");
    a.db(0xb8); // MOV EAX, whose immediate is INC RDI; NOP
    a.label("middle");
    a.db(0x48, 0xff, 0xc7, 0x90);
    a.emit("DEC", "rcx");
    a.emit("TEST", "cl", 1n);
    a.emit("JNE", { kind: "label", name: "middle" });
    a.emit("CMP", "rcx", 0n);
    a.emit("JNE", { kind: "label", name: "again" });
  });
  assert.equal(state.gpr.rdi, 50n);
});

test("a loop across three pages, one instruction on each edge", () => {
  const pad = new Uint8Array(4084).fill(0x90);
  const store = [0x48, 0x89, 0x1c, 0x25, 0x08, 0x00, 0x30, 0x00]; // MOV [DATA + 8], RBX
  const add = [0x48, 0x03, 0x04, 0x25, 0x08, 0x00, 0x30, 0x00]; // ADD RAX, [DATA + 8]
  const body = Uint8Array.from([...pad, ...store, ...pad, ...add]);
  const { state } = everyWayOf(repeated(body), [1, 2]);
  assert.equal(state.gpr.rax, 6n);
});

test("code at two linear addresses, which finds its data and its return by each", () => {
  const { state } = everyWay((a) => {
    a.mov("rbx", BigInt(ALIAS));
    a.emit("LEA", "rdi", mem({ label: "f", bits: 64 }));
    a.emit("ADD", "rdi", "rbx");
    a.mov("rcx", 100n);
    a.label("again");
    a.emit("CALL", { kind: "label", name: "f" });
    a.emit("CALL indirect", "rdi");
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
    a.emit("HLT");
    a.label("f");
    a.emit("LEA", "rdx", mem({ label: "f", bits: 64 }));
    a.emit("ADD", "rax", "rdx");
    a.mov("rsi", 20n);
    a.label("g");
    a.emit("ADD", "r8", "rdx");
    a.emit("DEC", "rsi");
    a.emit("JNE", { kind: "label", name: "g" });
    a.emit("RET");
  });
  assert.equal(state.gpr.rcx, 0n);
});

test("compiled code is dropped when there is too much of it, and compiled again", () => {
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  a.mov("rbx", 3n);
  a.label("again");
  for (let i = 0; i < 200; i++) {
    a.mov("rcx", 20n);
    a.label(`l${i}`);
    a.emit("ADD", "rax", "rcx");
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: `l${i}` });
    a.emit("JMP indirect", mem({ label: `t${i}`, bits: 64 }));
    a.label(`u${i}`);
  }
  a.emit("DEC", "rbx");
  a.emit("JNE", { kind: "label", name: "again" });
  a.emit("HLT");
  for (let i = 0; i < 200; i++) {
    a.label(`t${i}`);
    a.dq({ kind: "label", name: `u${i}` });
  }
  const guest = new Guest({ compiler: { threshold: 2, maxBytes: 16 << 10 } });
  const state = guest.run(a.finish(), (s) => {
    s.gpr.rsp = STACK;
  });
  assert.equal(state.gpr.rax, 3n * 200n * 210n);
  assert.ok((guest.vcpu.compilerStats?.evicted ?? 0) > 0);
});

test("a helper reads a general register as it is, not as it was when the region began", () => {
  const { state } = everyWay(
    (a) => {
      a.mov("rcx", 40n);
      a.label("again");
      a.mov("rax", 0x3f52_e665n);
      a.emit("ADD", "rax", "rcx");
      // Inexact for the first time, so that the exact way is taken.
      a.emit("CVTSI2SS", "xmm6", "eax");
      a.emit("DEC", "rcx");
      a.emit("JNE", { kind: "label", name: "again" });
    },
    [1],
  );
  assert.equal(state.gpr.rcx, 0n);
});

test("calls within a region return where they came from, and elsewhere where the guest says so", () => {
  const { state } = everyWay((a) => {
    const call = (name: string) => a.emit("CALL", { kind: "label", name });
    const jump = (name: string, by = "JMP") => a.emit(by, { kind: "label", name });
    a.mov("rbx", 60n);
    a.label("again");
    a.mov("rdi", 9n);
    call("fibonacci");
    a.emit("ADD", "r12", "rax");
    call("leaf");
    call("elsewhere");
    a.emit("INC", "r13"); // Never reached.
    a.label("other");
    a.emit("DEC", "rbx");
    jump("again", "JNE");
    jump("end");
    a.label("leaf");
    a.emit("INC", "r14");
    a.emit("RET");
    a.label("elsewhere");
    a.emit("POP", "rdx");
    a.emit("LEA", "rdx", mem({ label: "other", bits: 64 }));
    a.emit("PUSH", "rdx");
    a.emit("RET");
    a.label("fibonacci");
    a.emit("MOV", "rax", "rdi");
    a.emit("CMP", "rdi", 2n);
    jump("done", "JB");
    a.emit("PUSH", "rdi");
    a.emit("SUB", "rdi", 1n);
    call("fibonacci");
    a.emit("POP", "rdi");
    a.emit("PUSH", "rax");
    a.emit("SUB", "rdi", 2n);
    call("fibonacci");
    a.emit("POP", "rdx");
    a.emit("ADD", "rax", "rdx");
    a.label("done");
    a.emit("RET");
    a.label("end");
  });
  assert.deepEqual([state.gpr.r12, state.gpr.r13, state.gpr.r14, state.gpr.rsp], [60n * 34n, 0n, 60n, STACK]);
});

test("indirect jumps and returns go on where they were seen to lead, and anywhere else", () => {
  const places = 12;
  const jump = (a: Assembler, name: string, by = "JMP") => a.emit(by, { kind: "label", name });
  const { state, compiled } = everyWay(
    (a) => {
      for (let i = 0; i < places; i++) {
        a.emit("LEA", "rdx", mem({ label: `place ${i}`, bits: 64 }));
        a.emit("MOV", mem({ disp: DATA + i * 8, bits: 64 }), "rdx");
      }
      a.mov("rcx", 4000n);
      a.mov("rsi", 1n);
      a.label("dispatch");
      a.emit("CMP", "rcx", 0n); // Flags that each place sees.
      a.emit("IMUL", "rsi", "rsi", 75n);
      a.emit("ADD", "rsi", 74n);
      a.emit("MOVZX", "eax", "si");
      a.emit("IMUL", "rax", "rax", BigInt(places));
      a.emit("SHR", "rax", 16n);
      // The last places are met seldom at first, and the first ones seldom later.
      a.emit("CMP", "rcx", 2000n);
      jump(a, "as it is", "JA");
      a.emit("NEG", "rax");
      a.emit("ADD", "rax", BigInt(places - 1));
      a.label("as it is");
      a.emit("SUB", "rcx", 1n);
      jump(a, "end", "JE");
      a.emit("JMP indirect", mem({ index: "rax", scale: 8, disp: DATA, bits: 64 }));
      for (let i = 0; i < places; i++) {
        a.label(`place ${i}`);
        a.emit("ADC", "rdi", BigInt(i));
        a.emit("ROL", "rdi", BigInt(i + 1));
        if (i % 4 === 3) a.emit("CALL", { kind: "label", name: "function" });
        if (i !== 5) jump(a, "dispatch");
      }
      // The last place's own way: a return address that nobody called from.
      a.emit("LEA", "rdx", mem({ label: "dispatch", bits: 64 }));
      a.emit("PUSH", "rdx");
      a.emit("RET");
      a.label("function");
      // Too long to be part of the regions that call it.
      for (let i = 0; i < 60; i++) a.emit("LEA", "rdi", mem({ base: "rdi", disp: i, bits: 64 }));
      a.emit("RET");
      a.label("end");
    },
    [1, 3, 40, 400],
  );
  assert.equal(state.gpr.rcx, 0n);
  assert.ok((compiled.vcpu.compilerStats?.refined ?? 0) > 0, "no region was made again");
});

test("exceptions of a conversion from memory to an MMX register are in MXCSR for what follows", () => {
  const { state } = everyWay((a) => {
    a.mov("rbx", BigInt(DATA));
    a.mov("rax", new BigUint64Array(Float64Array.of(0.5).buffer)[0] ?? 0n);
    a.emit("MOV", mem({ base: "rbx", bits: 64 }), "rax");
    a.mov("rcx", 300n);
    a.label("again");
    a.mov("rdx", 0x1f80n);
    a.emit("MOV", mem({ base: "rbx", disp: 16, bits: 32 }), "edx");
    a.emit("LDMXCSR", mem({ base: "rbx", disp: 16, bits: 32 }));
    a.db(0x66, 0x0f, 0x2c, 0x33); // CVTTPD2PI MM6, [RBX]
    a.emit("STMXCSR", mem({ base: "rbx", disp: 16, bits: 32 }));
    a.emit("MOV", "edx", mem({ base: "rbx", disp: 16, bits: 32 }));
    a.emit("ADD", "r8", "rdx");
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
  });
  // 0.5 cut to a whole number is inexact: PE beside the masks.
  assert.equal(state.gpr.r8, 300n * 0x1fa0n);
});

test("doubles, vectors and MXCSR in a loop: whole, rounded, denormal and no numbers", () => {
  const values = [1, 0.1, 3e300, 5e-324, -0, Number.NaN, Number.POSITIVE_INFINITY, 7];
  const { state } = everyWay((a) => {
    a.mov("rbx", BigInt(DATA));
    for (const [i, value] of values.entries()) {
      a.mov("rax", new BigUint64Array(Float64Array.of(value).buffer)[0] ?? 0n);
      a.emit("MOV", mem({ base: "rbx", disp: i * 8, bits: 64 }), "rax");
    }
    a.mov("rcx", 300n);
    a.label("again");
    a.emit("MOV", "rdx", "rcx");
    a.emit("AND", "rdx", 7n);
    a.emit("MOVSD", "xmm0", mem({ base: "rbx", index: "rdx", scale: 8, bits: 64 }));
    a.emit("MOVAPD", "xmm1", "xmm0");
    a.emit("MULSD", "xmm1", "xmm0");
    a.emit("ADDSD", "xmm2", "xmm1");
    a.emit("CVTSI2SD", "xmm3", "rcx");
    a.emit("ADDSD", "xmm4", "xmm3");
    a.emit("DIVSD", "xmm3", "xmm0");
    a.emit("UNPCKLPD", "xmm3", "xmm4");
    a.emit("ADDPD", "xmm5", "xmm3");
    a.emit("PXOR", "xmm6", "xmm3");
    a.emit("UCOMISD", "xmm1", "xmm3");
    a.emit("ADC", "r8", 0n);
    a.emit("MOVSD", mem({ base: "rbx", index: "rcx", scale: 8, disp: 64, bits: 64 }), "xmm1");
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
  });
  assert.equal(state.gpr.rcx, 0n);
});

test("streams that go down over a page's start, where the page before lies elsewhere", () => {
  const [directory, table, linear] = [0x3000, 0x4000, 0x8000_0000];
  const entries = [
    [0x2010, directory],
    [directory, table],
    [table, DATA + 0x8000],
    [table + 8, DATA + 0x4000],
  ] as const;
  const { state } = everyWay((a) => {
    for (const [place, address] of entries) {
      a.mov("rbx", BigInt(place));
      a.mov("rax", BigInt(address | 3));
      a.emit("MOV", mem({ base: "rbx", bits: 64 }), "rax");
    }
    a.mov("rsi", 200n);
    a.label("pass");
    a.mov("rbx", BigInt(linear + 4096 + 500));
    a.mov("rcx", 100n);
    a.label("again");
    a.emit("MOV", mem({ base: "rbx", bits: 64 }), "rcx");
    a.emit("ADD", "rax", mem({ base: "rbx", disp: 3, bits: 64 }));
    a.emit("SUB", "rbx", 7n);
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
    a.emit("DEC", "rsi");
    a.emit("JNE", { kind: "label", name: "pass" });
  });
  assert.equal(state.gpr.rcx, 0n);
});

test("streams over page ends, and one that jumps about", () => {
  const { state } = everyWay((a) => {
    a.mov("rbx", BigInt(DATA + 4096 - 45));
    a.mov("rcx", 2500n);
    a.label("again");
    a.emit("MOV", mem({ base: "rbx", bits: 64 }), "rcx");
    a.emit("ADD", "rax", mem({ base: "rbx", disp: -3, bits: 64 }));
    a.emit("ADD", "rbx", 9n);
    a.emit("MOVZX", "edx", "al");
    a.emit("SHL", "rdx", 4n);
    a.emit("XOR", "rax", mem({ index: "rdx", scale: 8, base: "rbx", disp: -4000, bits: 64 }));
    a.emit("DEC", "rcx");
    a.emit("JNE", { kind: "label", name: "again" });
  });
  assert.equal(state.gpr.rcx, 0n);
});
