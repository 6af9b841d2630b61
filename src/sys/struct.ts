/** Layouts of C structures as data, by the natural alignment of the System V x86-64 and AArch64 ABIs [SysV psABI §3.1.2]. */

export type Scalar = "u8" | "u16" | "u32" | "u64";
/** A scalar, a count of raw bytes, or a nested structure. */
export type FieldType = Scalar | number | Struct<string>;

export interface Struct<Name extends string> {
  /** Bytes, padded to the alignment. */
  readonly size: number;
  readonly alignment: number;
  /** Bytes from the start of the structure. */
  readonly offset: Readonly<Record<Name, number>>;
}

const SCALAR_BYTES: Readonly<Record<Scalar, number>> = { u8: 1, u16: 2, u32: 4, u64: 8 };

function measure(type: FieldType): { size: number; alignment: number } {
  if (typeof type === "number") return { size: type, alignment: 1 };
  if (typeof type === "string") return { size: SCALAR_BYTES[type], alignment: SCALAR_BYTES[type] };
  return type;
}

const align = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment;

/** Lays out `fields` in the order in which they are written. */
export function struct<const Fields extends Record<string, FieldType>>(fields: Fields): Struct<keyof Fields & string> {
  const offset: Record<string, number> = {};
  let end = 0;
  let alignment = 1;
  for (const [name, type] of Object.entries(fields)) {
    const field = measure(type);
    end = align(end, field.alignment);
    offset[name] = end;
    end += field.size;
    alignment = Math.max(alignment, field.alignment);
  }
  return { size: align(end, alignment), alignment, offset: offset as Record<keyof Fields & string, number> };
}
