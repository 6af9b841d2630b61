/**
 * Every form, in every mode, size and kind of operand: our encoding is given to iced-x86, which must see the same
 * instruction of the same length, and to our own decoder, which must find the same form again.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import * as iced from "iced-x86";
import { DECODE, Decoder } from "./decode.ts";
import { type Choice, defaultOperandSize, encode, encodeParts, type Mode, type Size } from "./encode.ts";
import { type Form, type OperandPattern, parseForm } from "./instruction.ts";
import { INSTRUCTIONS } from "./table.ts";

const decoder = new Decoder(INSTRUCTIONS);
const FORMS = INSTRUCTIONS.flatMap((i) => i.forms.map((text) => parseForm(i, text)));
const MODE_BITS: Record<Mode, number> = {
  64: DECODE.long,
  32: DECODE.protected | DECODE.code32 | DECODE.stack32,
  16: DECODE.protected,
};

/** Where iced names by size or otherwise what the manual has one mnemonic for. */
const ALIASES: Record<string, RegExp> = {
  SHL: /^(shl|sal)$/,
  CBW: /^(cbw|cwde|cdqe)$/,
  CWD: /^(cwd|cdq|cqo)$/,
  XLAT: /^xlatb$/,
  JRCXZ: /^j[er]?cxz$/,
  PUSHA: /^pushad?$/,
  POPA: /^popad?$/,
  PUSHF: /^pushf[dq]?$/,
  POPF: /^popf[dq]?$/,
  IRET: /^iret[dq]?$/,
  SYSRET: /^sysretq?$/,
  SYSEXIT: /^sysexitq?$/,
  RETF: /^retf$/,
  CMPXCHG8B: /^cmpxchg(8|16)b$/,
  XCHG: /^(xchg|nop)$/,
  MOVD: /^mov[dq]$/,
  PINSRD: /^pinsr[dq]$/,
  PEXTRD: /^pextr[dq]$/,
  FWAIT: /^f?wait$/,
  NOP: /^(nop|prefetch\w*|reservednop|bnd\w*|cldemote|endbr\w*)$/,
  MOVS: /^movs[wdq]$/,
  CMPS: /^cmps[wdq]$/,
  STOS: /^stos[wdq]$/,
  LODS: /^lods[wdq]$/,
  SCAS: /^scas[wdq]$/,
  INS: /^ins[wd]$/,
  OUTS: /^outs[wd]$/,
};

function expected(form: Form): RegExp {
  // With a register destination the processor's order of encodings and the manual's names cross [SDM 2, FSUB].
  if (form.text.startsWith("D") && form.operands[0]?.place === "T" && form.map === 0) {
    return new RegExp(
      `^${form.instruction.name
        .split(" ")[0]
        ?.toLowerCase()
        .replace(/r?(p?)$/, "r?$1")}$`,
    );
  }
  const mnemonic = form.instruction.name.split(" ")[0] ?? "";
  return ALIASES[mnemonic] ?? new RegExp(`^${mnemonic.toLowerCase()}(64)?$`);
}

/** Whether the operand size shows in the form at all. */
function sized(form: Form, mode: Mode): boolean {
  return form.operands.some((o) => ["v", "z", "bs", "rAX"].includes(o.size) || (o.size === "y" && mode === 64));
}

/** Choices for one operand: a low and a high register, memory of several shapes, a small and a large number. */
function choices(pattern: OperandPattern, mode: Mode, size: Size): Choice[] {
  const high = mode === 64 ? 13 : 6;
  switch (pattern.place) {
    case "E":
    case "W":
    case "Q":
    case "M":
    case "R":
    case "U":
    case "N":
    case "T": {
      const registers = pattern.place === "M" ? [] : registerChoices(pattern, mode, high);
      return "RUNT".includes(pattern.place) ? registers : [...registers, ...memoryChoices(mode)];
    }
    case "G":
    case "V":
    case "P":
    case "Z":
    case "B":
      return registerChoices(pattern, mode, high);
    case "S":
      return [{ kind: "reg", number: 3 }];
    case "C":
      return [{ kind: "reg", number: 3 }];
    case "D":
      return [{ kind: "reg", number: 7 }];
    case "I":
    case "J":
      if (pattern.size === "b" || pattern.size === "bs")
        return [
          { kind: "imm", value: 5n },
          { kind: "imm", value: -128n },
        ];
      return [
        { kind: "imm", value: 0x1234n },
        {
          kind: "imm",
          value:
            pattern.place === "J"
              ? -0x1234n
              : size === 16
                ? 0x7fffn
                : 0x7fff_ffffn & (pattern.size === "w" ? 0x7fffn : -1n),
        },
      ];
    case "O":
      return [{ kind: "mem", disp: 0x1234n }];
    default:
      return [{ kind: "fixed" }];
  }
}

function registerChoices(pattern: OperandPattern, mode: Mode, high: number): Choice[] {
  if ("PQNT".includes(pattern.place))
    return [
      { kind: "reg", number: 1 },
      { kind: "reg", number: 6 },
    ];
  if (pattern.size === "b") {
    return mode === 64
      ? [
          { kind: "reg", number: 1 },
          { kind: "reg", number: 6 },
          { kind: "reg", number: 2, high: true },
        ]
      : [
          { kind: "reg", number: 1 },
          { kind: "reg", number: 2, high: true },
        ];
  }
  return [
    { kind: "reg", number: 1 },
    { kind: "reg", number: high },
  ];
}

function memoryChoices(mode: Mode): Choice[] {
  if (mode === 16) {
    return [
      { kind: "mem", base: 3, index: 6, disp: 0n },
      { kind: "mem", base: 5, disp: 0n },
      { kind: "mem", base: 7, disp: -3n, segment: "es" },
      { kind: "mem", disp: 0x1234n },
    ];
  }
  const both: Choice[] = [
    { kind: "mem", base: 3, disp: 0n },
    { kind: "mem", base: 5, disp: 0n },
    { kind: "mem", base: 4, disp: 0x40n },
    { kind: "mem", base: 0, index: 1, scale: 4, disp: -0x1_2345n, segment: "fs" },
    { kind: "mem", index: 6, scale: 8, disp: 0x10n },
    { kind: "mem", disp: 0x1234n },
  ];
  if (mode === 64)
    both.push({ kind: "mem", base: 13, index: 12, scale: 2, disp: 0n }, { kind: "mem", base: "rip", disp: 0x100n });
  return both;
}

/** Every operand takes each of its choices, the others their first. */
function combinations(form: Form, mode: Mode, size: Size): Choice[][] {
  const all = form.operands.map((o) =>
    choices(o, mode, size).filter((c) => !(form.rm === "register" && c.kind === "mem")),
  );
  const first = all.map((list) => list[0] ?? { kind: "fixed" as const });
  const found: Choice[][] = [first];
  for (const [i, list] of all.entries()) for (const choice of list.slice(1)) found.push(first.with(i, choice));
  return found;
}

function isHighWithRex(form: Form, operands: readonly Choice[], size: Size): boolean {
  const high = operands.some((o) => o.kind === "reg" && o.high === true);
  const needs = operands.some(
    (o, i) => o.kind === "reg" && (o.number > 7 || (form.operands[i]?.size === "b" && o.number > 3 && o.high !== true)),
  );
  const memory = operands.some((o) => o.kind === "mem" && (o.base === 13 || o.index === 12));
  return high && (needs || memory || size === 64);
}

function show(bytes: Uint8Array): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");
}

test("every form is what iced-x86 and our decoder say it is", () => {
  const failures: string[] = [];
  let count = 0;
  for (const form of FORMS) {
    let reached = false;
    for (const mode of [64, 32, 16] as const) {
      if (mode === 64 ? form.not64 : form.only64) continue;
      const natural = defaultOperandSize(form, mode);
      const others: Size[] = mode === 64 ? [16, 32, 64] : [16, 32];
      const sizes = sized(form, mode) ? others.filter((s) => allowed(form, mode, natural, s)) : [natural];
      for (const operandSize of sizes) {
        for (const operands of combinations(form, mode, operandSize)) {
          if (isHighWithRex(form, operands, operandSize)) continue;
          count++;
          reached = true;
          const bytes = encode(form, { mode, operandSize, operands });
          const problem = check(form, mode, operandSize, bytes);
          if (problem !== undefined)
            failures.push(
              `${form.instruction.name} (${form.text}) /${operandSize} in ${mode}: ${show(bytes)}: ${problem}`,
            );
        }
      }
    }
    assert.ok(reached, `${form.instruction.name} (${form.text}) was encoded in no mode`);
  }
  assert.deepEqual(failures.slice(0, 40), [], `${failures.length} of ${count} encodings`);
});

function allowed(form: Form, mode: Mode, natural: Size, size: Size): boolean {
  if (form.vex) return size === natural || size === 64;
  if (mode !== 64)
    return (
      form.prefix === "any" || form.prefix.startsWith("F") || size === natural || (form.prefix === "66" && size === 32)
    );
  if (form.force64) return size === 64;
  if (form.default64) return size !== 32;
  return size !== 16 || (form.prefix !== "NP" && form.prefix !== "66");
}

function check(form: Form, mode: Mode, operandSize: Size, bytes: Uint8Array): string | undefined {
  const icedDecoder = new iced.Decoder(mode, bytes, iced.DecoderOptions.None);
  const instruction = icedDecoder.decode();
  const mnemonic = iced.Mnemonic[instruction.mnemonic]?.toLowerCase() ?? "?";
  const { length } = instruction;
  instruction.free();
  icedDecoder.free();
  if (!expected(form).test(mnemonic)) return `iced-x86 reads ${mnemonic}`;
  if (length !== bytes.length) return `iced-x86 reads ${length} bytes`;
  const decoded = decoder.decode(bytes, MODE_BITS[mode]);
  if (typeof decoded === "string") return `our decoder says ${decoded}`;
  if (decoded.form.instruction !== form.instruction || decoded.form.text !== form.text)
    return `our decoder finds ${decoded.form.text}`;
  if (decoded.length !== bytes.length) return `our decoder reads ${decoded.length} bytes`;
  if (sized(form, mode) && decoded.context.operandSize !== operandSize)
    return `our decoder finds ${decoded.context.operandSize} bits`;
  return undefined;
}

test("what a form cannot hold is refused", () => {
  const find = (name: string, text: string): Form => {
    const form = FORMS.find((f) => f.instruction.name === name && f.text.startsWith(text));
    assert.ok(form !== undefined);
    return form;
  };
  const add = find("ADD", "00");
  const cases: [Form, Parameters<typeof encode>[1]][] = [
    [
      add,
      {
        mode: 64,
        operands: [
          { kind: "reg", number: 0, high: true },
          { kind: "reg", number: 9 },
        ],
      },
    ],
    [
      add,
      {
        mode: 32,
        operands: [
          { kind: "reg", number: 9 },
          { kind: "reg", number: 0 },
        ],
      },
    ],
    [
      add,
      {
        mode: 32,
        operands: [
          { kind: "reg", number: 5 },
          { kind: "reg", number: 0 },
        ],
      },
    ],
    [
      add,
      {
        mode: 64,
        lock: true,
        operands: [
          { kind: "reg", number: 1 },
          { kind: "reg", number: 0 },
        ],
      },
    ],
    [
      find("ADD", "83"),
      {
        mode: 64,
        operandSize: 64,
        operands: [
          { kind: "reg", number: 1 },
          { kind: "imm", value: 128n },
        ],
      },
    ],
    [
      find("ADD", "81"),
      {
        mode: 64,
        operandSize: 64,
        operands: [
          { kind: "reg", number: 1 },
          { kind: "imm", value: 1n << 31n },
        ],
      },
    ],
    [
      find("LEA", "8D"),
      {
        mode: 64,
        operands: [
          { kind: "reg", number: 1 },
          { kind: "reg", number: 1 },
        ],
      },
    ],
    [find("AAA", "37"), { mode: 64, operands: [] }],
    [find("PUSH", "50"), { mode: 64, operandSize: 32, operands: [{ kind: "reg", number: 1 }] }],
    [find("SWAPGS", "NP"), { mode: 32, operands: [] }],
  ];
  for (const [form, options] of cases) assert.throws(() => encode(form, options), RangeError, form.text);
});

test("the places of displacements and immediates are told", () => {
  const form = FORMS.find((f) => f.text === "C7 /0 Ev,Iz");
  assert.ok(form !== undefined);
  const operands: Choice[] = [
    { kind: "mem", base: 0, disp: 0x11223344n },
    { kind: "imm", value: 0x55667788n },
  ];
  const { bytes, placed } = encodeParts(form, { mode: 64, operandSize: 64, operands });
  assert.equal(show(bytes), "48 c7 80 44 33 22 11 88 77 66 55");
  assert.deepEqual(placed, [
    { operand: 0, at: 3, bytes: 4 },
    { operand: 1, at: 7, bytes: 4 },
  ]);
});
