import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_CPU_MODEL, parseCpuModel } from "./cpu-models.ts";
import { DECODE, Decoder } from "./decode.ts";
import { INSTRUCTIONS } from "./table.ts";

const all = new Decoder(INSTRUCTIONS);
const offered = new Decoder(INSTRUCTIONS, DEFAULT_CPU_MODEL.features);

function decode(decoder: Decoder, hex: string, mode: number = DECODE.long) {
  return decoder.decode(Uint8Array.from(Buffer.from(hex, "hex")), mode);
}
function nameIn(decoder: Decoder, hex: string): string {
  const decoded = decode(decoder, hex);
  return typeof decoded === "string" ? decoded : decoded.form.instruction.name;
}

test("what CPUID does not offer is undefined, or what it was before", () => {
  for (const [hex, known, without] of [
    ["f30fbcc1", "TZCNT", "BSF"],
    ["f30fbdc1", "LZCNT", "BSR"],
    ["0fc7f8", "RDSEED", "undefined"],
    ["660f388200", "INVPCID", "undefined"],
    ["660fae38", "CLFLUSHOPT", "undefined"],
    ["f30fb8c1", "POPCNT", "POPCNT"],
    ["c4e278f2c1", "ANDN", "undefined"],
    ["c4e2fbf5c1", "PDEP", "undefined"],
    ["660f38dcc1", "AESENC", "undefined"],
    ["660f3a44c100", "PCLMULQDQ", "undefined"],
    ["0f38c8c1", "SHA1NEXTE", "undefined"],
    ["660f38f6c1", "ADCX", "undefined"],
    ["660f383800", "PMINSB", "PMINSB"],
  ] as const) {
    assert.equal(nameIn(all, hex), known, hex);
    assert.equal(nameIn(offered, hex), without, hex);
  }
});

test("what a CPU model lacks is undefined", () => {
  for (const [model, hex, name] of [
    ["x86-64-v2,+bmi1", "f30fbcc1", "TZCNT"],
    ["x86-64-v2,+lzcnt", "f30fbdc1", "LZCNT"],
    ["x86-64-v2,+aes", "660f38dcc1", "AESENC"],
    ["x86-64-v1", "f30fb8c1", "undefined"], // POPCNT
    ["x86-64-v1", "660f380000", "undefined"], // PSHUFB
    ["x86-64-v1", "db08", "undefined"], // FISTTP
    ["x86-64-v1", "9f", "undefined"], // LAHF
    ["x86-64-v1", "0fc708", "CMPXCHG8B"],
    ["x86-64-v1", "480fc708", "undefined"], // CMPXCHG16B
    ["x86-64-v2", "480fc708", "CMPXCHG8B"],
    ["x86-64-v2,-rdtscp", "0f01f9", "undefined"],
    ["x86-64-v2,-smap", "0f01ca", "undefined"], // CLAC
    ["x86-64-v2,-xsave", "0f01d0", "undefined"], // XGETBV
    ["x86-64-v2,-fsgsbase", "f3480faec0", "undefined"],
    ["x86-64-v2,-sep", "0f34", "undefined"],
    ["x86-64-v2,-movbe", "0f38f000", "undefined"],
    ["x86-64-v2,-sse4_2", "f20f38f1c0", "undefined"], // CRC32
  ] as const) {
    const decoder = new Decoder(INSTRUCTIONS, parseCpuModel(model).features);
    assert.equal(nameIn(decoder, hex), name, `${hex} on ${model}`);
  }
  const old = new Decoder(INSTRUCTIONS, parseCpuModel("x86-64-v1").features);
  const lahf = decode(old, "9f", DECODE.code32);
  assert.ok(typeof lahf !== "string", "LAHF is part of every processor outside 64-bit mode");
});

test("#SS belongs to operands by RSP and RBP, and to what uses the stack by itself", () => {
  for (const [hex, stackSegment, usesStack] of [
    ["48894500", true, false], // MOV [RBP], RAX
    ["4889442400", true, false], // MOV [RSP], RAX
    ["49894500", false, false], // MOV [R13], RAX
    ["3e48894500", true, false], // the prefix DS is ignored in 64-bit mode
    ["6448894500", false, false], // FS is not
    ["d7", false, false], // XLAT
    ["48a5", false, false], // MOVS
    ["50", false, true], // PUSH RAX
    ["ff30", false, true], // PUSH [RAX]
    ["c3", false, true], // RET
    ["c8000000", false, true], // ENTER
    ["c9", false, true], // LEAVE
  ] as const) {
    const decoded = decode(all, hex);
    assert.ok(typeof decoded !== "string", hex);
    assert.deepEqual([decoded.stackSegment, decoded.usesStack], [stackSegment, usesStack], hex);
  }
});

test("alignment is checked in a context of its own", () => {
  for (const mode of [DECODE.long, DECODE.long | DECODE.alignment]) {
    const decoded = decode(all, "8b00", mode);
    assert.ok(typeof decoded !== "string");
    assert.equal(decoded.context.alignment, mode !== DECODE.long);
  }
});

test("of the segments to be checked, an instruction keeps those that its accesses may go through", () => {
  const everySegment = 0x3f << DECODE.checked;
  const [es, cs, ss, ds, gs] = [1, 2, 4, 8, 32];
  for (const [hex, wanted] of [
    ["8b00", es | ss | ds], // MOV EAX, [EAX]
    ["8b4500", es | ss], // MOV EAX, [EBP]
    ["2e8b00", es | ss | cs], // MOV EAX, CS:[EAX]
    ["65a5", es | ss | gs], // MOVS from GS
  ] as const) {
    const decoded = decode(all, hex, DECODE.code32 | DECODE.stack32 | everySegment);
    assert.ok(typeof decoded !== "string", hex);
    assert.equal(decoded.context.checked, wanted, hex);
  }
});

test("C4 and C5 begin a VEX prefix where LES and LDS cannot be meant", () => {
  const protected32 = DECODE.protected | DECODE.code32 | DECODE.stack32;
  for (const [hex, mode, name] of [
    ["c4e278f2c1", DECODE.long, "ANDN"],
    ["c4e278f2c1", protected32, "ANDN"],
    ["c4e278f2c1", DECODE.protected, "ANDN"],
    ["c4e278f2c1", DECODE.code32, "undefined"], // virtual-8086 mode and real mode have no VEX
    ["c4e278f2c1", 0, "undefined"],
    ["c44278f2c1", DECODE.long, "ANDN"],
    ["c44278f2c1", protected32, "LES"], // R or X in use: a memory operand outside 64-bit mode
    ["c5f8f200", protected32, "undefined"], // map 1 has no such opcode
    ["c508", protected32, "LDS"],
    ["c508", DECODE.long, "short"],
  ] as const) {
    const decoded = decode(all, hex, mode);
    assert.equal(typeof decoded === "string" ? decoded : decoded.form.instruction.name, name, `${hex} in ${mode}`);
  }
});

test("what makes a VEX prefix undefined", () => {
  for (const [hex, name] of [
    ["c4e278f2c1", "ANDN"],
    ["c4e27cf2c1", "undefined"], // L
    ["c4e478f2c1", "undefined"], // map 4
    ["f0c4e278f200", "undefined"], // LOCK
    ["66c4e278f2c1", "undefined"],
    ["f2c4e278f2c1", "undefined"],
    ["f3c4e278f2c1", "undefined"],
    ["40c4e278f2c1", "undefined"], // REX
    ["64c4e278f200", "ANDN"], // a segment override is none of these
    ["67c4e278f200", "ANDN"],
    ["c4e37bf0c105", "RORX"],
    ["c4e373f0c105", "undefined"], // vvvv names a register that RORX does not take
    ["c4e278f3c8", "BLSR"],
    ["c4e278f3c0", "undefined"], // group 17 /0
  ] as const) {
    assert.equal(nameIn(all, hex), name, hex);
  }
});

test("what is known of an instruction's shape changes nothing, whatever was decoded before", () => {
  // Opcodes of all kinds, with and without prefixes, cut off at every length; an order and its reverse.
  let seed = 1;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % limit;
  };
  const prefixes = [[], [0x66], [0xf3], [0xf2], [0x40], [0x48], [0x66, 0x41], [0x67], [0xf0], [0x64], [0x48, 0x66]];
  const inputs = Array.from({ length: 20_000 }, () => {
    const prefix = prefixes[random(prefixes.length)] ?? [];
    const escape = random(3) === 0 ? [0x0f] : [];
    const rest = Array.from({ length: random(14) }, () => random(256));
    return {
      code: Uint8Array.of(...prefix, ...escape, ...rest),
      mode: [DECODE.long, 0, DECODE.code32][random(3)] ?? 0,
    };
  });
  const decodeAll = (list: typeof inputs, forgetting = false) => {
    const decoder = new Decoder(INSTRUCTIONS);
    return list.map(({ code, mode }, i) => {
      if (forgetting && i % 1000 === 0) decoder.forgetShapes();
      const decoded = decoder.decode(code, mode);
      return typeof decoded === "string" ? decoded : JSON.stringify({ ...decoded, shape: "", form: decoded.form.text });
    });
  };
  const backwards = decodeAll([...inputs].reverse()).reverse();
  const forgetful = decodeAll(inputs, true);
  for (const [i, one] of decodeAll(inputs).entries()) assert.deepEqual([one, one], [backwards[i], forgetful[i]]);
});
