/**
 * Linux kernel modules: what a .ko says of itself, and the files that modprobe reads.
 * A .ko is an ELF32 or ELF64 relocatable object whose section `.modinfo` holds NUL-ended `key=value` strings.
 * [Linux Documentation/kbuild/modules.rst; modules.dep(5); System V ABI, chapter 4; ELF-64 Object File Format 1.5]
 * Packages are unpacked without running depmod, so dependencies are resolved here.
 */

import { IsolaError } from "../base/errors.ts";

export interface ModuleInfo {
  /** As the kernel spells it: underscores, no `.ko`. */
  readonly name: string;
  readonly depends: readonly string[];
  /** Patterns of device names that the module drives. */
  readonly aliases: readonly string[];
}

function damaged(path: string, what: string): IsolaError {
  return new IsolaError({ code: "module-damaged", message: `reading kernel module ${path}: ${what}` });
}

/** The kernel takes `-` and `_` as the same in module names. */
export function moduleName(path: string): string {
  const file = path.slice(path.lastIndexOf("/") + 1);
  return file.replace(/\.ko$/, "").replaceAll("-", "_");
}

/** Offsets in the ELF header and in a section header that ELF32 and ELF64 have in different places. */
const LAYOUTS = {
  1: { wide: false, headerBytes: 52, table: 0x20, counts: 0x2e, entryBytes: 40, offset: 0x10, size: 0x14 },
  2: { wide: true, headerBytes: 64, table: 0x28, counts: 0x3a, entryBytes: 64, offset: 0x18, size: 0x20 },
} as const;

/** The contents of section `name` of a little-endian ELF object. @throws IsolaError `module-damaged` */
function elfSection(path: string, bytes: Uint8Array, name: string): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const layout = bytes[4] === 1 ? LAYOUTS[1] : LAYOUTS[2];
  if (bytes.length < layout.headerBytes || view.getUint32(0) !== 0x7f454c46 || (bytes[4] ?? 0) > 2 || bytes[5] !== 1) {
    throw damaged(path, "it is no ELF object for x86");
  }
  const word = (at: number) => (layout.wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true));
  const table = word(layout.table);
  const entryBytes = view.getUint16(layout.counts, true);
  const count = view.getUint16(layout.counts + 2, true);
  if (entryBytes < layout.entryBytes || table + entryBytes * count > bytes.length)
    throw damaged(path, "its section table is cut off");
  const section = (index: number) => {
    const at = table + entryBytes * index;
    const offset = word(at + layout.offset);
    const size = word(at + layout.size);
    if (offset + size > bytes.length) throw damaged(path, "a section is cut off");
    return { nameAt: view.getUint32(at, true), bytes: bytes.subarray(offset, offset + size) };
  };
  const namesIndex = view.getUint16(layout.counts + 4, true);
  if (namesIndex >= count) throw damaged(path, "its sections have no names");
  const names = section(namesIndex).bytes;
  const wanted = new TextEncoder().encode(`${name}\0`);
  for (let index = 1; index < count; index++) {
    const at = table + entryBytes * index;
    // .bss and its like have a size but no bytes.
    if (view.getUint32(at + 4, true) === 8) continue;
    const { nameAt, bytes: contents } = section(index);
    if (wanted.every((byte, i) => names[nameAt + i] === byte)) return contents;
  }
  throw damaged(path, `it has no section ${name}`);
}

/** What the module at `path` says of itself. @throws IsolaError `module-damaged` */
export function readModuleInfo(path: string, bytes: Uint8Array): ModuleInfo {
  const strings = new TextDecoder().decode(elfSection(path, bytes, ".modinfo")).split("\0");
  const values = (key: string) =>
    strings.filter((one) => one.startsWith(`${key}=`)).map((one) => one.slice(key.length + 1));
  return {
    name: moduleName(path),
    depends: values("depends")
      .flatMap((list) => list.split(","))
      .filter((one) => one !== "")
      .map(moduleName),
    aliases: values("alias"),
  };
}

/**
 * The modules of `wanted` that exist, with all that they depend on, each after its dependencies.
 * A wanted module that is missing is left out: kernels differ in what they build in. A missing dependency is an error.
 */
export function selectModules(modules: ReadonlyMap<string, ModuleInfo>, wanted: readonly string[]): ModuleInfo[] {
  const selected = new Map<string, ModuleInfo>();
  const visit = (name: string, asker: string | undefined, above: readonly string[]): void => {
    if (selected.has(name) || above.includes(name)) return;
    const module = modules.get(name);
    if (module === undefined) {
      if (asker === undefined) return;
      throw damaged(asker, `it depends on ${name}, which the package does not hold`);
    }
    for (const dependency of module.depends) visit(dependency, name, [...above, name]);
    selected.set(name, module);
  };
  for (const name of wanted) visit(moduleName(name), undefined, []);
  return [...selected.values()];
}

/** Text of modules.dep: `path: dependency ...`, the nearest first, all of them. Paths as in `paths`. */
export function modulesDep(selected: readonly ModuleInfo[], paths: ReadonlyMap<string, string>): string {
  const byName = new Map(selected.map((module) => [module.name, module]));
  const closure = (module: ModuleInfo): string[] => {
    const names = selectModules(byName, module.depends).map(({ name }) => name);
    return names.reverse();
  };
  const path = (name: string) => paths.get(name) ?? name;
  return selected
    .map(
      (module) =>
        `${path(module.name)}:${closure(module)
          .map((name) => ` ${path(name)}`)
          .join("")}\n`,
    )
    .join("");
}

/** Text of modules.alias: `alias PATTERN MODULE`. */
export function modulesAlias(selected: readonly ModuleInfo[]): string {
  return selected.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`)).join("");
}
