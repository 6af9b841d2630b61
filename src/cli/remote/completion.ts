/** Shell completion, made from the grammar itself; names of VMs are asked of the server as they are needed. */

import type { Command } from "commander";
import { usageError } from "../report.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

interface Node {
  /** Words from `isola` to here, without it. */
  readonly path: string;
  readonly words: readonly string[];
  readonly options: readonly { readonly flag: string; readonly description: string }[];
  readonly children: readonly { readonly name: string; readonly description: string }[];
  /** Whether its arguments are VMs. */
  readonly vms: boolean;
}

function nodes(command: Command, path = ""): Node[] {
  const children = command.commands.filter((child) => !child.name().startsWith("_"));
  const options = [...command.options, ...(path === "" ? [] : [{ long: "--help", description: "show help" }])].flatMap(
    (option) =>
      option.long === null || option.long === undefined ? [] : [{ flag: option.long, description: option.description }],
  );
  const names = children.flatMap((child) => [child.name(), ...child.aliases()]);
  const here: Node = {
    path,
    words: [...names, ...options.map(({ flag }) => flag)],
    options,
    children: children.map((child) => ({ name: child.name(), description: child.description() })),
    vms: command.registeredArguments.some((argument) => argument.name() === "VM"),
  };
  return [
    here,
    ...children.flatMap((child) =>
      [child.name(), ...child.aliases()].flatMap((name) => nodes(child, path === "" ? name : `${path} ${name}`)),
    ),
  ];
}

function bash(all: readonly Node[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    "# bash completion for isola; load it by: source <(isola completion bash)",
    "declare -A _isola_words _isola_vms",
    // A key must not be empty in bash: the path begins with the program's name.
    ...all.map(({ path, words }) => `_isola_words[${quoted(`isola ${path}`.trim())}]=${quoted(words.join(" "))}`),
    ...all.filter(({ vms }) => vms).map(({ path }) => `_isola_vms[${quoted(`isola ${path}`)}]=1`),
    "_isola() {",
    "  local current=${COMP_WORDS[COMP_CWORD]} path=isola index words",
    "  for ((index = 1; index < COMP_CWORD; index++)); do",
    '    local next="$path ${COMP_WORDS[index]}"',
    "    if [[ -n ${_isola_words[$next]+set} ]]; then path=$next; fi",
    "  done",
    "  words=${_isola_words[$path]}",
    '  if [[ -n ${_isola_vms[$path]+set} && $current != -* ]]; then words="$words $(isola ps -aq 2>/dev/null)"; fi',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    "}",
    "complete -o default -F _isola isola",
    "",
  ].join("\n");
}

function zsh(all: readonly Node[]): string {
  return [
    "#compdef isola",
    "# zsh completion for isola; load it by: source <(isola completion zsh)",
    "autoload -U +X bashcompinit && bashcompinit",
    bash(all).split("\n").slice(1).join("\n"),
  ].join("\n");
}

function fish(all: readonly Node[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const rows = ["# fish completion for isola; load it by: isola completion fish | source", "complete -c isola -f"];
  for (const { path, options, children, vms } of all) {
    const words = path === "" ? [] : path.split(" ");
    const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`);
    const notYet =
      children.length === 0 ? [] : [`not __fish_seen_subcommand_from ${children.map(({ name }) => name).join(" ")}`];
    const condition = [...seen, ...notYet].join("; and ");
    const when = condition === "" ? "" : ` -n ${quoted(condition)}`;
    for (const { name, description } of children)
      rows.push(`complete -c isola${when} -a ${name} -d ${quoted(description)}`);
    for (const { flag, description } of options)
      rows.push(`complete -c isola${when} -l ${flag.slice(2)} -d ${quoted(description)}`);
    if (vms) rows.push(`complete -c isola${when} -a '(isola ps -aq 2>/dev/null)'`);
  }
  return `${rows.join("\n")}\n`;
}

/** The script for a shell. Throws a "usage" error for an unknown one. */
export function completionScript(program: Command, shell: string): string {
  const all = nodes(program);
  switch (shell) {
    case "bash":
      return bash(all);
    case "zsh":
      return zsh(all);
    case "fish":
      return fish(all);
    default:
      throw usageError(`completion ${shell}: no such shell; wanted: ${SHELLS.join(", ")}`);
  }
}
