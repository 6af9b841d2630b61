/** The interpreter's own machinery: traces, sequences of handlers, self-modifying code, flags that are not computed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ARITHMETIC } from "../../isa/flags.ts";
import { Assembler, mem } from "../../isa/assembler.ts";
import { FLAT_CODE32, flatSegment, MSR } from "../reset-state.ts";
import type { CpuState } from "../vcpu.ts";
import { HOT_INSTRUCTIONS } from "./hot-instructions.ts";
import { HOT_INSTRUCTIONS_32 } from "./hot-instructions-32.ts";
import { ALIAS, CODE, Guest } from "./guest-fixture.ts";

/** 32-bit protected mode in flat segments, without paging. */
function protectedMode(state: CpuState): void {
  state.cr0 = 0x11n;
  state.cr4 = 0n;
  state.msrs.set(MSR.IA32_EFER, 0n);
  state.segments.cs = flatSegment(8, FLAT_CODE32);
}

function assemble(build: (a: Assembler) => void): Uint8Array {
  const a = new Assembler({ bits: 64, origin: BigInt(CODE) });
  build(a);
  a.emit("HLT");
  return a.finish();
}

test("a store into the next instruction is seen by it, in a sequence of handlers too", () => {
  const guest = new Guest();
  // MOV [m], r and the INC after it are neighbours that may run as one handler.
  const state = guest.run(
    assemble((a) => {
      a.mov("rbx", 0x90c3_ff48n); // what is written: INC RBX, NOP
      a.emit("MOV", mem({ label: "patch", bits: 32 }), "ebx");
      a.label("patch");
      a.emit("DEC", "rbx");
      a.db(0x90);
    }),
  );
  assert.equal(state.gpr.rbx, 0x90c3_ff49n);
});

test("flags are there when a store turns the instruction that would overwrite them into another", () => {
  const state = new Guest().run(
    assemble((a) => {
      a.emit("XOR", "eax", "eax"); // other flags than the ADD gives
      a.emit("ADD", mem({ label: "patch", bits: 8 }), 0x60); // SUB EAX, EAX (2B C0) becomes MOV EAX, EAX (8B C0)
      a.label("patch");
      a.db(0x2b, 0xc0);
      a.emit("PUSHF");
      a.emit("POP", "rdx");
    }),
  );
  // 2B + 60 = 8B: SF and OF, even parity, no carry.
  assert.equal(state.gpr.rdx & BigInt(ARITHMETIC), 0x884n);
});

test("code rewritten through another mapping of its page is decoded anew", () => {
  const guest = new Guest();
  const state = guest.run(
    assemble((a) => {
      a.mov("ecx", 2);
      a.label("again");
      a.mov("eax", 1); // B8 01 ...: its immediate is patched to 7 after the first round
      a.label("after");
      a.mov("rdx", BigInt(ALIAS));
      a.emit("ADD", "rbx", "rax");
      a.emit("LEA", "rsi", mem({ label: "after" }));
      a.emit("MOV", mem({ base: "rdx", index: "rsi", disp: -4, bits: 8 }), 7);
      a.emit("DEC", "ecx");
      a.emit("JNE", "again");
    }),
  );
  assert.equal(state.gpr.rbx, 8n);
});

test("an instruction across a page's end runs, and follows a change of either part", () => {
  const guest = new Guest();
  const state = guest.run(
    assemble((a) => {
      a.mov("ecx", 2);
      a.emit("JMP", "edge");
      while (a.here < BigInt(CODE + 0xffe)) a.db(0x90);
      a.label("edge");
      a.mov("eax", 0x100); // five bytes, two of them on this page
      a.emit("ADD", "ebx", "eax");
      a.emit("MOV", mem({ disp: CODE + 0x1000, bits: 8 }), 2); // 0x100 becomes 0x200
      a.emit("DEC", "ecx");
      a.emit("JNE", "edge");
    }),
  );
  assert.equal(state.gpr.rbx, 0x300n);
});

for (const [bits, lines] of [
  [64, HOT_INSTRUCTIONS],
  [32, HOT_INSTRUCTIONS_32],
] as const) {
  test(`a program of ${bits}-bit hot sequences computes what each instruction alone computes`, () => {
    // Every sequence of the hot list once, between POPF and PUSHF, with registers in which addresses are harmless.
    let checked = 0;
    for (const line of lines) {
      const words = line.split(" ").map((word) => word.replace("!", ""));
      if (words.length < 2 || words.some((word) => !SAFE.test(word))) continue;
      const body = words.map((word) => (word.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)));
      const run = (separator: number[]) => {
        const a = new Assembler({ bits, origin: BigInt(CODE) });
        for (const [i, name] of ["ax", "cx", "dx", "bx", "si", "di", "r8", "r9", "r12"].entries()) {
          const value = BigInt(i * 0x1111_2345 + 7) << BigInt(i * 3);
          if (bits === 64) a.mov(name.startsWith("r") ? name : `r${name}`, value);
          else if (!name.startsWith("r")) a.mov(`e${name}`, BigInt.asUintN(32, value));
        }
        for (const bytes of body) a.db(...bytes, ...separator);
        a.emit("HLT");
        return new Guest().run(a.finish(), bits === 64 ? undefined : protectedMode);
      };
      const together = run([]);
      // PUSHF and POPF between: each flag is seen, and no two handlers are neighbours.
      const apart = run([0x9c, 0x9d]);
      assert.deepEqual(together.gpr, apart.gpr, line);
      assert.equal(together.rflags & BigInt(ARITHMETIC), apart.rflags & BigInt(ARITHMETIC), line);
      checked++;
    }
    assert.ok(checked > 6, `only ${checked} sequences could be tried`);
  });
}
/** Register-to-register ALU, moves, shifts by an immediate and LEA: nothing that jumps or reaches memory. */
const SAFE =
  /^4?[0-9a-f]?(?:(?:01|03|09|0b|11|13|19|1b|21|23|29|2b|31|33|39|3b|85|89|8b|63)[c-f].|83[c-f]...|c1[c-f]...|0faf[c-f].|0fb6[c-f].|d1[c-f].)$/;

test("an instruction that the table lacks raises #UD and is told once a place", () => {
  const guest = new Guest();
  assert.throws(() => guest.run(Uint8Array.of(0x0f, 0x04)), /shutdown/); // no IDT: the #UD ends in a triple fault
  assert.equal(guest.undefined.length, 1);
  assert.match(guest.undefined[0] ?? "", /^0f04/);
});

test("an instruction of more than 15 bytes is #GP, not #UD", () => {
  const guest = new Guest();
  assert.throws(() => guest.run(Uint8Array.from([...new Array<number>(15).fill(0x66), 0x90])), /shutdown/);
  assert.deepEqual(guest.undefined, []);
});

test("a long loop leaves at every slice and goes on", () => {
  const state = new Guest().run(
    assemble((a) => {
      a.mov("ecx", 5_000_000);
      a.label("again");
      a.emit("ADD", "rax", "rcx");
      a.emit("DEC", "ecx");
      a.emit("JNE", "again");
    }),
  );
  assert.equal(state.gpr.rax, (5_000_000n * 5_000_001n) / 2n);
});

test("32-bit code in segments whose base makes addresses wrap at 4 GiB", () => {
  const guest = new Guest();
  const offset = 0xc000_0000 + CODE;
  const code = [
    [0xb9, 5, 0, 0, 0], // mov ecx, 5
    [0x01, 0xc8, 0x49, 0x75, 0xfb], // again: add eax, ecx; dec ecx; jnz again
    [0xe8, 1, 0, 0, 0], // call add
    [0xf4], // hlt
    [0x83, 0xc0, 100], // add: add eax, 100
    [0xa3, 0x00, 0x01, 0x10, 0xc0], // mov [offset + 0x100], eax
    [0xc3], // ret
  ].flat();
  const state = guest.run(Uint8Array.from(code), (start) => {
    protectedMode(start);
    start.segments.cs.base = 0x4000_0000n;
    for (const name of ["ss", "ds", "es"] as const) start.segments[name].base = 0x4000_0000n;
    start.rip = BigInt(offset);
    start.gpr.rsp = 0xc020_0000n;
  });
  assert.equal(state.gpr.rax, 115n);
  assert.equal(state.rip, BigInt(offset + 16));
  assert.deepEqual([...(guest.memory.slice(CODE + 0x100, 4) ?? [])], [115, 0, 0, 0]);
});

test("a loaded state that names a clock page finds it filled", () => {
  const guest = new Guest();
  const page = 0x5000;
  const view = new DataView(guest.memory.memory.buffer, guest.memory.offsetOf(page, 32), 32);
  guest.run(
    assemble(() => {}),
    (state) => state.msrs.set(0x4b56_4d01, BigInt(page) | 1n),
  );
  const version = view.getUint32(0, true);
  assert.ok(version !== 0 && version % 2 === 0, `version ${version}`);
  assert.notEqual(view.getUint32(24, true), 0, "the scale of ticks");
});

test("MOV SS holds the trap of TF back for one instruction, MOV DS does not", () => {
  for (const [segment, after] of [
    ["ss", 1],
    ["ds", 0],
  ] as const) {
    const guest = new Guest();
    // The handler of #DB halts; where it was raised lies on the stack.
    const handler = CODE + 0x800;
    guest.memory.slice(handler, 1)?.set([0xf4]);
    const idt = new DataView(guest.memory.memory.buffer, guest.memory.offsetOf(0x6000, 32), 32);
    idt.setBigUint64(
      16,
      (BigInt(handler) & 0xffffn) | (8n << 16n) | (0x8e00n << 32n) | ((BigInt(handler) >> 16n) << 48n),
      true,
    );
    const gdt = new DataView(guest.memory.memory.buffer, guest.memory.offsetOf(0x7000, 24), 24);
    gdt.setBigUint64(8, 0x00af_9b00_0000_ffffn, true);
    gdt.setBigUint64(16, 0x00cf_9300_0000_ffffn, true);
    const load = segment === "ss" ? [0x8e, 0xd0] : [0x8e, 0xd8];
    const state = guest.run(Uint8Array.from([...load, 0x90, 0x90, 0xf4]), (start) => {
      start.gpr.rax = 16n;
      start.gdtr = { base: 0x7000n, limit: 23 };
      start.idtr = { base: 0x6000n, limit: 31 };
      start.rflags = 0x102n;
    });
    assert.equal(state.rip, BigInt(handler + 1));
    const saved = new DataView(guest.memory.memory.buffer, guest.memory.offsetOf(Number(state.gpr.rsp), 8), 8);
    assert.equal(saved.getBigUint64(0, true), BigInt(CODE + load.length + after), segment);
    assert.equal(state.dr[4] & 0x4000n, 0x4000n, "DR6.BS");
  }
});
