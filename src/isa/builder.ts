/** Builds the statements of one effect: constants, operations, variables, branches. Knows no x86; semantics.ts adds that. */

import { opcode } from "../wasm/opcodes.ts";
import type { HelperCall, Statement, Value, ValueSource, ValueType, Variable } from "./ir.ts";

export class Builder {
  #block: Statement[] = [];
  #variables = 0;

  /** What has been built; the builder is then spent. */
  finish(): readonly Statement[] {
    return this.#block;
  }

  protected statement(statement: Statement): void {
    this.#block.push(statement);
  }

  /** A value that is evaluated here, in order with the statements around it. */
  protected ordered(type: ValueType, source: ValueSource, args: readonly Value[] = []): Value {
    const value = this.#value(type, source, args);
    this.#block.push({ kind: "evaluate", value });
    return value;
  }

  protected use(value: Value): Value {
    value.uses++;
    return value;
  }

  #value(type: ValueType, source: ValueSource, args: readonly Value[]): Value {
    for (const arg of args) arg.uses++;
    return { type, source, args, uses: 0 };
  }

  constant(type: ValueType, value: bigint | number): Value {
    const made = type === "i64" ? BigInt.asIntN(64, BigInt(value)) : type === "i32" ? Number(value) | 0 : Number(value);
    return this.#value(type, { kind: "constant", value: made }, []);
  }
  i32(value: number): Value {
    return this.constant("i32", value);
  }
  i64(value: bigint | number): Value {
    return this.constant("i64", value);
  }
  /** A vector constant of 16 bytes. */
  v128(bytes: ArrayLike<number>): Value {
    return this.#value("v128", { kind: "constant", value: Uint8Array.from(bytes) }, []);
  }

  /** A WebAssembly operation by its name; the arguments' types are checked against its signature. */
  op(name: string, ...args: Value[]): Value {
    return this.#operation(name, undefined, args);
  }
  /** The same for operations that take lane indices. */
  lanes(name: string, lanes: readonly number[], ...args: Value[]): Value {
    return this.#operation(name, lanes, args);
  }

  #operation(name: string, lanes: readonly number[] | undefined, args: Value[]): Value {
    const { params, result } = opcode(name);
    if (result === undefined) throw new Error(`${name} gives no value`);
    if (params.length !== args.length || params.some((type, i) => args[i]?.type !== type)) {
      throw new Error(`${name} takes (${params.join()}), got (${args.map((a) => a.type).join()})`);
    }
    const source =
      lanes === undefined ? ({ kind: "pure", op: name } as const) : ({ kind: "pure", op: name, lanes } as const);
    const value = this.#value(result, source, args);
    // A value used twice is evaluated where it was made, so that every use is dominated by it.
    this.#block.push({ kind: "evaluate", value });
    return value;
  }

  // Integer arithmetic on i32 or i64, by the first argument's type. A plain number becomes a constant of that type.
  #binary(name: string, a: Value, b: Value | number): Value {
    return this.op(`${a.type}.${name}`, a, typeof b === "number" ? this.constant(a.type, b) : b);
  }
  add(a: Value, b: Value | number): Value {
    return this.#binary("add", a, b);
  }
  sub(a: Value, b: Value | number): Value {
    return this.#binary("sub", a, b);
  }
  mul(a: Value, b: Value | number): Value {
    return this.#binary("mul", a, b);
  }
  and(a: Value, b: Value | number): Value {
    return this.#binary("and", a, b);
  }
  or(a: Value, b: Value | number): Value {
    return this.#binary("or", a, b);
  }
  xor(a: Value, b: Value | number): Value {
    return this.#binary("xor", a, b);
  }
  not(a: Value): Value {
    return this.#binary("xor", a, -1);
  }
  /** Shifts and rotates take the count modulo the type's width, as WebAssembly does. */
  shl(a: Value, b: Value | number): Value {
    return this.#binary("shl", a, b);
  }
  shrU(a: Value, b: Value | number): Value {
    return this.#binary("shr_u", a, b);
  }
  shrS(a: Value, b: Value | number): Value {
    return this.#binary("shr_s", a, b);
  }
  rotl(a: Value, b: Value | number): Value {
    return this.#binary("rotl", a, b);
  }
  rotr(a: Value, b: Value | number): Value {
    return this.#binary("rotr", a, b);
  }
  // Comparisons give i32: 1 or 0.
  eq(a: Value, b: Value | number): Value {
    return this.#binary("eq", a, b);
  }
  ne(a: Value, b: Value | number): Value {
    return this.#binary("ne", a, b);
  }
  ltU(a: Value, b: Value | number): Value {
    return this.#binary("lt_u", a, b);
  }
  ltS(a: Value, b: Value | number): Value {
    return this.#binary("lt_s", a, b);
  }
  gtU(a: Value, b: Value | number): Value {
    return this.#binary("gt_u", a, b);
  }
  geU(a: Value, b: Value | number): Value {
    return this.#binary("ge_u", a, b);
  }
  isZero(a: Value): Value {
    return this.op(`${a.type}.eqz`, a);
  }
  /** `a` where `condition` is non-zero, else `b`; both are evaluated. */
  select(condition: Value, a: Value, b: Value): Value {
    const value = this.#value(a.type, { kind: "pure", op: "select" }, [a, b, condition]);
    this.#block.push({ kind: "evaluate", value });
    return value;
  }
  /** i32 from i64 or back; to the wider one by zeros. The same value if it has the type already. */
  resize(a: Value, type: "i32" | "i64"): Value {
    if (a.type === type) return a;
    return type === "i32" ? this.op("i32.wrap_i64", a) : this.op("i64.extend_i32_u", a);
  }

  /** Runs `then` where `condition` is non-zero. Values made inside must not be used outside: use variables. */
  when(condition: Value, then: () => void, otherwise: () => void = () => {}): void {
    condition.uses++;
    const outer = this.#block;
    const collect = (build: () => void): Statement[] => {
      this.#block = [];
      build();
      return this.#block;
    };
    const thenBlock = collect(then);
    const elseBlock = collect(otherwise);
    this.#block = outer;
    this.statement({ kind: "if", condition, then: thenBlock, else: elseBlock });
  }

  variable(initial: Value): Variable {
    const variable = { id: this.#variables++, type: initial.type };
    this.assign(variable, initial);
    return variable;
  }
  assign(variable: Variable, value: Value): void {
    this.statement({ kind: "assign", variable, value: this.use(value) });
  }
  get(variable: Variable): Value {
    return this.ordered(variable.type, { kind: "variable", variable });
  }

  /** A value by one of two ways, of which only one is evaluated. */
  choose(condition: Value, then: () => Value, otherwise: () => Value): Value {
    let variable: Variable | undefined;
    const branch = (build: () => Value) => () => {
      const value = build();
      variable ??= { id: this.#variables++, type: value.type };
      this.assign(variable, value);
    };
    this.when(condition, branch(then), branch(otherwise));
    if (variable === undefined) throw new Error("choose built no value");
    return this.get(variable);
  }

  /** Calls an engine helper that gives nothing. */
  call(name: string, args: readonly Value[], quiet = false): void {
    this.statement({ kind: "call", call: this.#helper(name, args, undefined, quiet) });
  }
  /** Calls an engine helper for its value. */
  helper(name: string, type: ValueType, args: readonly Value[], quiet = false): Value {
    return this.ordered(type, { kind: "helper", call: this.#helper(name, args, type, quiet) });
  }
  #helper(name: string, args: readonly Value[], result: ValueType | undefined, quiet: boolean): HelperCall {
    for (const arg of args) arg.uses++;
    return { name, args, result, quiet };
  }
}
