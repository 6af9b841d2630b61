/** WebAssembly instructions by their text names: encoding and signature [WebAssembly core 3.0 §5.4, §7.9]. */

export type ValueType = "i32" | "i64" | "f32" | "f64" | "v128";

export const VALUE_TYPE_CODE: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
};

/** A numeric, vector or memory instruction. `result` is undefined for stores. */
export interface Opcode {
  readonly name: string;
  readonly bytes: readonly number[];
  readonly params: readonly ValueType[];
  readonly result: ValueType | undefined;
  /** log2 of the natural alignment, for memory instructions. */
  readonly align?: number;
  /** Number of lane-index bytes after the opcode (1, or 16 for i8x16.shuffle). */
  readonly laneBytes?: number;
}

const table = new Map<string, Opcode>();

function leb(value: number): number[] {
  const bytes = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return bytes;
}

/** Adds consecutive one-byte opcodes from `first`; `-` skips a code. */
function row(first: number, params: ValueType[], result: ValueType | undefined, names: string): void {
  names.split(" ").forEach((name, index) => {
    if (name !== "-") table.set(name, { name, bytes: [first + index], params, result });
  });
}

function integer(type: "i32" | "i64", eqz: number, compare: number, unary: number): void {
  const named = (names: string) =>
    names
      .split(" ")
      .map((n) => `${type}.${n}`)
      .join(" ");
  row(eqz, [type], "i32", named("eqz"));
  row(compare, [type, type], "i32", named("eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"));
  row(unary, [type], type, named("clz ctz popcnt"));
  row(unary + 3, [type, type], type, named("add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"));
}
integer("i32", 0x45, 0x46, 0x67);
integer("i64", 0x50, 0x51, 0x79);

function float(type: "f32" | "f64", compare: number, unary: number): void {
  const named = (names: string) =>
    names
      .split(" ")
      .map((n) => `${type}.${n}`)
      .join(" ");
  row(compare, [type, type], "i32", named("eq ne lt gt le ge"));
  row(unary, [type], type, named("abs neg ceil floor trunc nearest sqrt"));
  row(unary + 7, [type, type], type, named("add sub mul div min max copysign"));
}
float("f32", 0x5b, 0x8b);
float("f64", 0x61, 0x99);

row(0xa7, ["i64"], "i32", "i32.wrap_i64");
row(0xac, ["i32"], "i64", "i64.extend_i32_s i64.extend_i32_u");
row(0xb2, ["i32"], "f32", "f32.convert_i32_s f32.convert_i32_u");
row(0xb4, ["i64"], "f32", "f32.convert_i64_s f32.convert_i64_u");
row(0xb6, ["f64"], "f32", "f32.demote_f64");
row(0xb7, ["i32"], "f64", "f64.convert_i32_s f64.convert_i32_u");
row(0xb9, ["i64"], "f64", "f64.convert_i64_s f64.convert_i64_u");
row(0xbb, ["f32"], "f64", "f64.promote_f32");
row(0xbc, ["f32"], "i32", "i32.reinterpret_f32");
row(0xbd, ["f64"], "i64", "i64.reinterpret_f64");
row(0xbe, ["i32"], "f32", "f32.reinterpret_i32");
row(0xbf, ["i64"], "f64", "f64.reinterpret_i64");
row(0xc0, ["i32"], "i32", "i32.extend8_s i32.extend16_s");
row(0xc2, ["i64"], "i64", "i64.extend8_s i64.extend16_s i64.extend32_s");

function saturating(code: number, from: ValueType, to: ValueType, name: string): void {
  table.set(name, { name, bytes: [0xfc, code], params: [from], result: to });
}
saturating(0, "f32", "i32", "i32.trunc_sat_f32_s");
saturating(2, "f64", "i32", "i32.trunc_sat_f64_s");
saturating(4, "f32", "i64", "i64.trunc_sat_f32_s");
saturating(6, "f64", "i64", "i64.trunc_sat_f64_s");

function memory(
  code: number | readonly number[],
  result: ValueType | undefined,
  value: ValueType | undefined,
  name: string,
  align: number,
) {
  const bytes = typeof code === "number" ? [code] : code;
  table.set(name, { name, bytes, params: value === undefined ? ["i32"] : ["i32", value], result, align });
}
memory(0x28, "i32", undefined, "i32.load", 2);
memory(0x29, "i64", undefined, "i64.load", 3);
memory(0x2a, "f32", undefined, "f32.load", 2);
memory(0x2b, "f64", undefined, "f64.load", 3);
memory(0x2c, "i32", undefined, "i32.load8_s", 0);
memory(0x2d, "i32", undefined, "i32.load8_u", 0);
memory(0x2e, "i32", undefined, "i32.load16_s", 1);
memory(0x2f, "i32", undefined, "i32.load16_u", 1);
memory(0x30, "i64", undefined, "i64.load8_s", 0);
memory(0x31, "i64", undefined, "i64.load8_u", 0);
memory(0x32, "i64", undefined, "i64.load16_s", 1);
memory(0x33, "i64", undefined, "i64.load16_u", 1);
memory(0x34, "i64", undefined, "i64.load32_s", 2);
memory(0x35, "i64", undefined, "i64.load32_u", 2);
memory(0x36, undefined, "i32", "i32.store", 2);
memory(0x37, undefined, "i64", "i64.store", 3);
memory(0x38, undefined, "f32", "f32.store", 2);
memory(0x39, undefined, "f64", "f64.store", 3);
memory(0x3a, undefined, "i32", "i32.store8", 0);
memory(0x3b, undefined, "i32", "i32.store16", 1);
memory(0x3c, undefined, "i64", "i64.store8", 0);
memory(0x3d, undefined, "i64", "i64.store16", 1);
memory(0x3e, undefined, "i64", "i64.store32", 2);
memory([0xfd, 0x00], "v128", undefined, "v128.load", 4);
memory([0xfd, 0x0b], undefined, "v128", "v128.store", 4);
memory([0xfd, ...leb(0x5c)], "v128", undefined, "v128.load32_zero", 2);
memory([0xfd, ...leb(0x5d)], "v128", undefined, "v128.load64_zero", 3);

/** Vector instructions from `first`, with the LEB-encoded sub-opcode after 0xFD; `-` skips a code. */
function vector(first: number, params: ValueType[], result: ValueType, names: string): void {
  names.split(" ").forEach((name, index) => {
    if (name !== "-") table.set(name, { name, bytes: [0xfd, ...leb(first + index)], params, result });
  });
}
function lane(code: number, params: ValueType[], result: ValueType, name: string, laneBytes = 1): void {
  table.set(name, { name, bytes: [0xfd, ...leb(code)], params, result, laneBytes });
}
const V = "v128" as const;
lane(0x0d, [V, V], V, "i8x16.shuffle", 16);
vector(0x0e, [V, V], V, "i8x16.swizzle");
vector(0x0f, ["i32"], V, "i8x16.splat i16x8.splat i32x4.splat");
vector(0x12, ["i64"], V, "i64x2.splat");
vector(0x13, ["f32"], V, "f32x4.splat");
vector(0x14, ["f64"], V, "f64x2.splat");
lane(0x15, [V], "i32", "i8x16.extract_lane_s");
lane(0x16, [V], "i32", "i8x16.extract_lane_u");
lane(0x17, [V, "i32"], V, "i8x16.replace_lane");
lane(0x18, [V], "i32", "i16x8.extract_lane_s");
lane(0x19, [V], "i32", "i16x8.extract_lane_u");
lane(0x1a, [V, "i32"], V, "i16x8.replace_lane");
lane(0x1b, [V], "i32", "i32x4.extract_lane");
lane(0x1c, [V, "i32"], V, "i32x4.replace_lane");
lane(0x1d, [V], "i64", "i64x2.extract_lane");
lane(0x1e, [V, "i64"], V, "i64x2.replace_lane");
lane(0x1f, [V], "f32", "f32x4.extract_lane");
lane(0x20, [V, "f32"], V, "f32x4.replace_lane");
lane(0x21, [V], "f64", "f64x2.extract_lane");
lane(0x22, [V, "f64"], V, "f64x2.replace_lane");
const compares = (shape: string) =>
  "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
    .split(" ")
    .map((n) => `${shape}.${n}`)
    .join(" ");
vector(0x23, [V, V], V, compares("i8x16"));
vector(0x2d, [V, V], V, compares("i16x8"));
vector(0x37, [V, V], V, compares("i32x4"));
vector(
  0x41,
  [V, V],
  V,
  "f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge f64x2.eq f64x2.ne f64x2.lt f64x2.gt f64x2.le f64x2.ge",
);
vector(0x4d, [V], V, "v128.not");
vector(0x4e, [V, V], V, "v128.and v128.andnot v128.or v128.xor");
vector(0x52, [V, V, V], V, "v128.bitselect");
vector(0x53, [V], "i32", "v128.any_true");
vector(0x5e, [V], V, "f32x4.demote_f64x2_zero f64x2.promote_low_f32x4");
vector(0x60, [V], V, "i8x16.abs i8x16.neg i8x16.popcnt");
vector(0x63, [V], "i32", "i8x16.all_true i8x16.bitmask");
vector(0x65, [V, V], V, "i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u");
vector(0x67, [V], V, "f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest");
vector(0x74, [V], V, "f64x2.ceil f64x2.floor - - - - f64x2.trunc");
vector(0x94, [V], V, "f64x2.nearest");
vector(0x6b, [V, "i32"], V, "i8x16.shl i8x16.shr_s i8x16.shr_u");
vector(0x6e, [V, V], V, "i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u");
vector(0x76, [V, V], V, "i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u");
vector(0x7b, [V, V], V, "i8x16.avgr_u");
vector(
  0x7c,
  [V],
  V,
  "i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u",
);
vector(0x80, [V], V, "i16x8.abs i16x8.neg");
vector(0x82, [V, V], V, "i16x8.q15mulr_sat_s");
vector(0x83, [V], "i32", "i16x8.all_true i16x8.bitmask");
vector(0x85, [V, V], V, "i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u");
vector(
  0x87,
  [V],
  V,
  "i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u",
);
vector(0x8b, [V, "i32"], V, "i16x8.shl i16x8.shr_s i16x8.shr_u");
vector(0x8e, [V, V], V, "i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u");
vector(0x95, [V, V], V, "i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u");
vector(0x9b, [V, V], V, "i16x8.avgr_u");
vector(
  0x9c,
  [V, V],
  V,
  "i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u",
);
vector(0xa0, [V], V, "i32x4.abs i32x4.neg");
vector(0xa3, [V], "i32", "i32x4.all_true i32x4.bitmask");
vector(
  0xa7,
  [V],
  V,
  "i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u",
);
vector(0xab, [V, "i32"], V, "i32x4.shl i32x4.shr_s i32x4.shr_u");
vector(
  0xae,
  [V, V],
  V,
  "i32x4.add - - i32x4.sub - - - i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s",
);
vector(
  0xbc,
  [V, V],
  V,
  "i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u",
);
vector(0xc0, [V], V, "i64x2.abs i64x2.neg");
vector(0xc3, [V], "i32", "i64x2.all_true i64x2.bitmask");
vector(
  0xc7,
  [V],
  V,
  "i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u",
);
vector(0xcb, [V, "i32"], V, "i64x2.shl i64x2.shr_s i64x2.shr_u");
vector(
  0xce,
  [V, V],
  V,
  "i64x2.add - - i64x2.sub - - - i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s",
);
vector(
  0xdc,
  [V, V],
  V,
  "i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u",
);
vector(0xe0, [V], V, "f32x4.abs f32x4.neg - f32x4.sqrt");
vector(0xe4, [V, V], V, "f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax");
vector(0xec, [V], V, "f64x2.abs f64x2.neg - f64x2.sqrt");
vector(0xf0, [V, V], V, "f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax");
vector(
  0xf8,
  [V],
  V,
  "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u",
);

/** Looks an instruction up by its text name. Throws on a name that is not in the table: a mistake in our own code. */
export function opcode(name: string): Opcode {
  const found = table.get(name);
  if (found === undefined) throw new Error(`no WebAssembly instruction is called ${name}`);
  return found;
}

/** Every instruction of the table. */
export function allOpcodes(): Iterable<Opcode> {
  return table.values();
}
