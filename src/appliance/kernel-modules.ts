/**
 * Drivers for the hardware that is there: what devices say of themselves (`modalias` in sysfs) is matched against
 * modules.alias, and modules are loaded after those that modules.dep says they need. [modules.alias and modules.dep:
 * depmod(8); modalias: Linux Documentation/ABI/testing/sysfs-bus-*]
 */

/** Modules by name. */
export interface ModuleIndex {
  /** Path of each module below the index's directory, and the names that it needs, the nearest first. */
  readonly modules: ReadonlyMap<string, { readonly path: string; readonly needs: readonly string[] }>;
  readonly aliases: readonly { readonly pattern: RegExp; readonly module: string }[];
}

const nameOf = (path: string): string =>
  path
    .slice(path.lastIndexOf("/") + 1)
    .replace(/\.ko$/, "")
    .replaceAll("-", "_");

/** A shell pattern (`*`, `?`, `[...]`) as a regular expression. [fnmatch(3)] */
export function shellPattern(pattern: string): RegExp {
  const source = pattern.replaceAll(/\[[^\]]*\]|[*?]|[^*?[]+|\[/g, (part) => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    if (part.length > 1 && part.startsWith("[")) return part.replace(/^\[!/, "[^").replaceAll("\\", "\\\\");
    return RegExp.escape(part);
  });
  return new RegExp(`^${source}$`);
}

export function parseModuleIndex(dependencies: string, aliases: string): ModuleIndex {
  const modules = new Map<string, { path: string; needs: string[] }>();
  for (const line of dependencies.split("\n")) {
    const [path, needs = ""] = line.split(":");
    if (path === undefined || path === "") continue;
    modules.set(nameOf(path), { path, needs: needs.split(" ").flatMap((one) => (one === "" ? [] : [nameOf(one)])) });
  }
  return {
    modules,
    aliases: aliases.split("\n").flatMap((line) => {
      const [word, pattern, module] = line.split(" ");
      return word === "alias" && pattern !== undefined && module !== undefined
        ? [{ pattern: shellPattern(pattern), module }]
        : [];
    }),
  };
}

/** Names of the modules that drive devices with these `modaliases`, each after what it needs, none twice. */
export function modulesFor({ modules, aliases }: ModuleIndex, modaliases: Iterable<string>): string[] {
  const chosen = new Set<string>();
  for (const modalias of modaliases) {
    for (const { pattern, module } of aliases) {
      if (!pattern.test(modalias)) continue;
      for (const name of [...(modules.get(module)?.needs ?? [])].reverse()) chosen.add(name);
      if (modules.has(module)) chosen.add(module);
    }
  }
  return [...chosen];
}
