/** The grammar of the command line: commands, options, help with examples. What they do lies beside. */

import { Command, CommanderError } from "commander";
import { formatSize } from "../base/size.ts";
import type { SmbiosIdentity } from "../machine/smbios.ts";
import type { TraceName } from "../machine/vm-contract.ts";
import { describeExitStatuses, EXIT_STATUS } from "./exit-status.ts";
import { type DiskOption, parseDisk } from "./disk-option.ts";
import type { CliHost, Outcome } from "./host.ts";
import { listImages, pullImage, removeImages } from "./image-command.ts";
import { parseMemory } from "./memory-size.ts";
import { oneLine, usageError } from "./report.ts";
import { restoreCommand } from "./restore-command.ts";
import { runCommand } from "./run-command.ts";
import {
  type EngineOption,
  type FwCfgOption,
  parseCpus,
  parseDebugExit,
  parseEngine,
  parseFwCfg,
  parseSmbios,
  parseName,
  parseScreen,
  parseTrace,
  parseTsc,
  type ScreenName,
  parseCompiler,
} from "./run-options.ts";

const DEFAULT_MEMORY_BYTES = 256 * 2 ** 20;

const RUN_HELP = `
The guest's serial port is on stdin and stdout. On a terminal: Ctrl-A x leaves, Ctrl-A h helps.

Examples:
  isola run                                       the image debian: a shell in a Debian kernel
  isola run debian --memory 512M                  the same with more memory
  isola run debian --cpu x86-64-v2,+aes,-rdrand   another processor; names as in /proc/cpuinfo
  isola run --kernel vmlinuz --initrd init.cpio   your own kernel and root file system
  isola run --kernel mach --initrd "ext2fs -x"    a Multiboot kernel with a module and its words
  isola run debian --append "quiet panic=-1"      words added to the kernel's command line
  isola run --disk data.img,size=2G               with a disk, made if it is not there: /dev/vda
  isola run --disk a.img --disk b.iso,readonly    with two: /dev/vda and /dev/vdb
  echo 'uname -a; poweroff -f' | isola run        a script on stdin
  isola run memtest86+ --screen text              the VGA's text screen and the keyboard in the terminal
  isola run --no-reboot; echo $?                  3 if the guest rebooted, 0 if it powered off

${describeExitStatuses()}`;

const RESTORE_HELP = `
A saved guest goes on where it was saved, its clock included. Its disks must hold what they held then.

Examples:
  isola run debian --save-to shell.saved    Ctrl-A s saves the guest and leaves
  isola restore shell.saved                 goes on; as often as you like
  kill -USR2 PID                            saves from outside`;

const IMAGE_HELP = `
Examples:
  isola image list           what there is, and what is in the cache
  isola image pull debian    fetch before the first run, e.g. while there is a network
  isola image rm debian      free the space; the next run fetches it again

The cache is $XDG_CACHE_HOME/isola, by default ~/.cache/isola.`;

/** Commands that need no server, and none of what reaches one. */
const LOCAL_COMMANDS: ReadonlySet<string> = new Set(["run", "image"]);

const HELP = `
Examples:
  isola up                   the server, its dashboard, and three guests to look at
  isola create debian --name web --memory 128M --start
  isola console web          a shell in it; Ctrl-A x leaves
  isola run                  one guest without a server, on this terminal
  isola run --help           every option of a guest, with examples
  isola image list --json    the images, for a program

${describeExitStatuses()}`;

interface RunFlags {
  readonly kernel?: string;
  readonly disk?: readonly DiskOption[];
  readonly rng?: boolean;
  readonly initrd?: readonly string[];
  readonly append?: string;
  readonly memory: number;
  readonly engine: EngineOption;
  readonly cpus: number;
  readonly cpu?: string;
  readonly name?: string;
  readonly reboot: boolean;
  readonly trace: readonly TraceName[];
  readonly compiler?: number;
  readonly stats?: boolean;
  readonly screen: ScreenName;
  readonly fwCfg: readonly FwCfgOption[];
  readonly smbios?: SmbiosIdentity;
  /** True where the option has no value. */
  readonly debugExit?: string | true;
  readonly saveTo?: string;
}

interface ImageFlags {
  readonly json?: boolean;
  readonly refresh?: boolean;
}

/** Parses `args` (without node and script), runs the command, resolves to how isola is to end. Throws IsolaErrors. */
export async function runProgram(args: readonly string[], host: CliHost): Promise<Outcome> {
  let outcome: Outcome = EXIT_STATUS.ok.status;
  const { stdout } = host.streams;
  const program = new Command("isola")
    .description("A virtual machine monitor: unmodified operating systems, each in its own isolation zone.")
    .version(host.version)
    .helpCommand("help [COMMAND]", "show help for a command")
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      // Commander's messages reach the person through the CommanderError, in isola's own form.
      writeErr: () => undefined,
    })
    .exitOverride()
    .addHelpText("after", HELP);

  program
    .command("run")
    .description("boot a guest, its serial port on stdin and stdout")
    .argument("[IMAGE]", "a guest image (default: debian, unless --kernel is given)")
    .option("--kernel <FILE>", "a Linux kernel (bzImage or ELF vmlinux) or a Multiboot kernel, 32- or 64-bit")
    .option<string[]>(
      "--initrd <FILE>",
      "an initial RAM disk, repeatable; a Multiboot kernel gets each as a module, with the words after the file's name",
      (file, former) => [...former, file],
      [],
    )
    .option<DiskOption[]>(
      "--disk <FILE[,OPTION...]>",
      "a raw disk image, repeatable: the first is /dev/vda; size=SIZE makes it, readonly, format=raw",
      parseDisk,
      [],
    )
    .option("--rng", "an entropy device (virtio-rng) with the host's random numbers")
    .option("--append <WORDS>", "words added to the kernel's command line")
    .option("--memory <SIZE>", `guest memory (default: ${formatSize(DEFAULT_MEMORY_BYTES)})`, parseMemory)
    .option("--cpu <MODEL>", "the processor: x86-64-v1, x86-64-v2, host (all there is), each with ,+FEATURE ,-FEATURE")
    .option("--tsc <FREQUENCY>", "of the time-stamp counter, for a guest that is to move to a host of it", parseTsc)
    .option("--cpus <N>", "processors (default: 1); more than one need the engine kvm", parseCpus, 1)
    .option(
      "--engine <NAME>",
      "what runs guest code: kvm, wasm, or auto: kvm where it works (default: auto)",
      parseEngine,
    )
    .option("--compiler <on|off|N>", "compile hot guest code; N: after N executions (default: on)", parseCompiler)
    .option("--stats", "at the end, the engine's figures on stderr: tiers, compiled code, exits by cause")
    .option("--name <NAME>", "the guest's name, shown in the process list", parseName)
    .option("--no-reboot", "end with status 3 when the guest resets, instead of starting it anew")
    .option<TraceName[]>("--trace <NAME>", "report on stderr: unimplemented (instructions)", parseTrace, [])
    .option(
      "--screen <NAME>",
      "on stdin and stdout: serial, or text for keyboard and VGA (default: serial)",
      parseScreen,
    )
    .option<FwCfgOption[]>(
      "--fw-cfg <name=NAME,file=FILE|string=TEXT>",
      "a file that the guest finds by fw_cfg, repeatable; NAME begins with opt/",
      parseFwCfg,
      [],
    )
    .option<SmbiosIdentity>(
      "--smbios <uuid=UUID,serial=TEXT,...>",
      "what dmidecode shows of the machine; further: manufacturer, product, version, sku, family",
      parseSmbios,
    )
    .option("--save-to <FILE>", "where Ctrl-A s, or signal SIGUSR2, saves the guest, and leaves")
    .option("--debug-exit [iobase=PORT,iosize=N]", "a port by which the guest ends isola with status 2v+1 (0x501)")
    .addHelpText("after", RUN_HELP)
    .action(async (image: string | undefined, { initrd = [], disk = [], debugExit, ...flags }: Partial<RunFlags>) => {
      const defaults = {
        memory: DEFAULT_MEMORY_BYTES,
        engine: "auto",
        cpus: 1,
        reboot: true,
        screen: "serial",
      } as const;
      const exit = debugExit === undefined ? {} : { debugExit: parseDebugExit(debugExit) };
      const options = { ...defaults, trace: [], fwCfg: [], ...flags, ...exit };
      outcome = await runCommand(host, { ...options, initrds: initrd, disks: disk, image });
    });

  program
    .command("restore")
    .description("go on with a guest that was saved to a file")
    .argument("<FILE>", "what `isola run --save-to` wrote; it is only read")
    .option<DiskOption[]>("--disk <FILE[,OPTION...]>", "the disks that the guest had, in their order", parseDisk, [])
    .option("--engine <NAME>", "what runs guest code: auto, wasm or kvm (default: auto)", parseEngine)
    .option("--name <NAME>", "the guest's name, shown in the process list", parseName)
    .option<TraceName[]>("--trace <NAME>", "report on stderr: unimplemented (instructions)", parseTrace, [])
    .option("--screen <NAME>", "on stdin and stdout: serial, or text (default: serial)", parseScreen)
    .option("--save-to <FILE>", "where Ctrl-A s, or signal SIGUSR2, saves the guest anew")
    .addHelpText("after", RESTORE_HELP)
    .action(async (file: string, { disk = [], engine, ...flags }: Partial<RunFlags>) => {
      const defaults = { engine: engine ?? "auto", screen: "serial", trace: [] } as const;
      outcome = await restoreCommand(host, { ...defaults, ...flags, file, disks: disk });
    });

  const image = program
    .command("image")
    .description("manage the cache of guest images")
    .addHelpText("after", IMAGE_HELP);
  image
    .command("list")
    .alias("ls")
    .description("list the images and what the cache holds of them")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExamples:\n  isola image list\n  isola image list --json")
    .action(async ({ json = false }: ImageFlags) => {
      outcome = await listImages(host, { json });
    });
  image
    .command("pull")
    .description("fetch an image into the cache")
    .argument("<IMAGE>", "its name, as in `isola image list`")
    .option("--refresh", "fetch anew what the cache holds already")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExamples:\n  isola image pull debian\n  isola image pull debian --refresh")
    .action(async (name: string, { json = false, refresh = false }: ImageFlags) => {
      outcome = await pullImage(host, name, { json, refresh });
    });
  image
    .command("rm")
    .description("remove images from the cache")
    .argument("<IMAGE...>", "names, as in `isola image list`")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExamples:\n  isola image rm debian")
    .action(async (names: string[], { json = false }: ImageFlags) => {
      outcome = await removeImages(host, names, { json });
    });

  // The API's schemas take 10 MB of memory, which `isola run` does without.
  if (!LOCAL_COMMANDS.has(args[0] ?? "")) {
    const { addRemoteCommands } = await import("./remote/all-commands.ts");
    addRemoteCommands(program, host, (ended) => {
      outcome = ended;
    });
  }

  if (args.length === 0) {
    stdout.write(`${program.helpInformation()}${HELP}\n`);
    return outcome;
  }
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return afterCommander(error, program.commands.find((command) => command.name() === args[0])?.name() ?? "");
  }
  return outcome;
}

/** Help and version end well; everything else that commander throws is a wrong command line. */
function afterCommander(error: CommanderError, command: string): Outcome {
  if (error.exitCode === 0) return EXIT_STATUS.ok.status;
  const help = command === "" ? "isola --help" : `isola ${command} --help`;
  const problem =
    error.code === "commander.help" ? "no command given" : error.message.replace(/^error: /, "").replace(/\.$/, "");
  throw usageError(`${oneLine(problem)}; see ${help}`);
}
