/**
 * For tests: translation as the manual's tables say it, level by level, in plain TypeScript [SDM 3 §4.2-4.8]. Written
 * apart from page-walk.ts, with the same three deviations, so that each checks the other.
 */

export interface WalkRequest {
  /** PAE's directory pointers as they were loaded with CR3. */
  readonly pdptes?: readonly bigint[];
  readonly mode: "none" | "twoLevel" | "pae" | "fourLevel";
  readonly cr3: bigint;
  readonly linear: bigint;
  readonly write: boolean;
  readonly fetch: boolean;
  /** An implicit supervisor access. */
  readonly implicit: boolean;
  readonly cpl: 0 | 3;
  readonly wp: boolean;
  readonly pse: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly nxe: boolean;
  readonly ac: boolean;
}

export type WalkResult =
  | { readonly physical: bigint }
  | { readonly vector: 14; readonly error: number; readonly cr2: bigint }
  | { readonly vector: 13 };

/** Guest-physical memory, as the walker sees it. Reads outside RAM give all ones; writes there are lost. */
export interface PhysicalMemory {
  read(address: bigint, bytes: 4 | 8): bigint;
  write(address: bigint, bytes: 4 | 8, value: bigint): void;
}

interface Level {
  /** Lowest bit of the index, and how many bits it has. */
  readonly shift: bigint;
  readonly bits: bigint;
  /** Reserved bits of an entry that is present. */
  readonly reserved: (entry: bigint) => bigint;
  readonly leaf: (entry: bigint) => boolean;
  /** Whether R/W, U/S, XD and A exist. */
  readonly plain: boolean;
}

function bit(number: bigint): bigint {
  return 1n << number;
}
/** Bits `high` to `low`. */
function bits(high: bigint, low: bigint): bigint {
  return bit(high + 1n) - bit(low);
}
function has(entry: bigint, number: bigint): boolean {
  return (entry & bit(number)) !== 0n;
}
const PAGE_SIZE_BIT = 7n;

function levels(request: WalkRequest): Level[] {
  const { mode, nxe, pse } = request;
  const xd = nxe ? 0n : bit(63n);
  const never = () => false;
  const always = () => true;
  const large = (entry: bigint) => has(entry, PAGE_SIZE_BIT);
  if (mode === "twoLevel") {
    const isLarge = (entry: bigint) => pse && large(entry);
    return [
      { shift: 22n, bits: 10n, reserved: (e) => (isLarge(e) ? bits(21n, 13n) : 0n), leaf: isLarge, plain: true },
      { shift: 12n, bits: 10n, reserved: () => 0n, leaf: always, plain: true },
    ];
  }
  const high = mode === "pae" ? bits(62n, 40n) | xd : bits(51n, 40n) | xd;
  const directory: Level = {
    shift: 21n,
    bits: 9n,
    reserved: (e) => high | (large(e) ? bits(20n, 13n) : 0n),
    leaf: large,
    plain: true,
  };
  const table: Level = { shift: 12n, bits: 9n, reserved: () => high, leaf: always, plain: true };
  if (mode === "pae") {
    const reserved = () => bits(63n, 40n) | bits(8n, 5n) | bits(2n, 1n);
    return [{ shift: 30n, bits: 2n, reserved, leaf: never, plain: false }, directory, table];
  }
  return [
    { shift: 39n, bits: 9n, reserved: () => high | bit(PAGE_SIZE_BIT), leaf: never, plain: true },
    { shift: 30n, bits: 9n, reserved: (e) => high | (large(e) ? bits(29n, 13n) : 0n), leaf: large, plain: true },
    directory,
    table,
  ];
}

/** The access rights of §4.6.1, once the whole path is known. */
function allowed(request: WalkRequest, writable: boolean, userPage: boolean, executable: boolean): boolean {
  const { write, fetch, implicit, cpl, wp, smep, smap, ac } = request;
  const userAccess = cpl === 3 && !implicit;
  if (userAccess) return userPage && (!write || writable) && (!fetch || executable);
  if (fetch) return executable && !(smep && userPage);
  if (smap && userPage && (implicit || !ac)) return false;
  return !write || writable || !wp;
}

/** Translates, and sets A and D in the tables. */
export function referenceWalk(request: WalkRequest, memory: PhysicalMemory): WalkResult {
  const { mode, write, fetch, implicit, cpl, smep, nxe } = request;
  const wide = BigInt.asUintN(64, request.linear);
  if (mode === "none") return { physical: wide & 0xffff_ffffn };
  if (mode === "fourLevel" && wide >> 47n !== 0n && wide >> 47n !== 0x1ffffn) return { vector: 13 };
  const linear = mode === "fourLevel" ? wide : wide & 0xffff_ffffn;
  const bytes = mode === "twoLevel" ? 4 : 8;
  const fault = (flags: number): WalkResult => {
    let error = flags;
    if (write) error |= 2;
    if (cpl === 3 && !implicit) error |= 4;
    if (fetch && (smep || (nxe && mode !== "twoLevel"))) error |= 0x10;
    return { vector: 14, error, cr2: linear };
  };

  let table = request.cr3 & (mode === "fourLevel" ? bits(39n, 12n) : mode === "pae" ? bits(31n, 5n) : bits(31n, 12n));
  let writable = true;
  let user = true;
  let executable = true;
  for (const level of levels(request)) {
    const index = (linear >> level.shift) & (bit(level.bits) - 1n);
    const address = table + index * BigInt(bytes);
    const loaded = level.plain ? undefined : request.pdptes?.[Number(index)];
    const entry = loaded ?? memory.read(address, bytes);
    if (!has(entry, 0n)) return fault(0);
    if ((entry & level.reserved(entry)) !== 0n) return fault(9);
    if (level.plain) {
      writable &&= has(entry, 1n);
      user &&= has(entry, 2n);
      executable &&= !has(entry, 63n);
    }
    if (!level.leaf(entry)) {
      if (level.plain) memory.write(address, bytes, entry | bit(5n));
      table = entry & bits(39n, 12n);
      continue;
    }
    if (!allowed(request, writable, user, executable)) return fault(1);
    memory.write(address, bytes, entry | bit(5n) | (write ? bit(6n) : 0n));
    return { physical: (entry & bits(39n, level.shift)) | (linear & (bit(level.shift) - 1n)) };
  }
  throw new Error("a table's last level is a leaf");
}
