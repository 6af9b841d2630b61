/** Every command that needs, or is, a server. */

import type { Command } from "commander";
import type { CliHost, Outcome } from "../host.ts";
import { addApplyCommands, schemaText } from "./apply-commands.ts";
import { addArrangeCommands } from "./arrange-commands.ts";
import { definer } from "./commands.ts";
import { completionScript } from "./completion.ts";
import { addConsoleCommands } from "./console-command.ts";
import { addDoctorCommand } from "./doctor.ts";
import { addListCommands } from "./list-commands.ts";
import { addScreenCommands } from "./screen-commands.ts";
import { addUpCommands } from "./up-command.ts";
import { addVmCommands } from "./vm-commands.ts";

export function addRemoteCommands(program: Command, host: CliHost, done: (outcome: Outcome) => void): void {
  const define = definer(program, host, done);
  addUpCommands(program, host, define, done);
  addVmCommands(define);
  addListCommands(define);
  addConsoleCommands(define);
  addScreenCommands(define);
  addApplyCommands(define);
  addArrangeCommands(program, host, done);
  addDoctorCommand(define);

  program
    .command("schema")
    .description("print a JSON schema: of vms.yaml, or the API's OpenAPI document")
    .argument("[NAME]", "vms or openapi", "vms")
    .addHelpText("after", "\nExamples:\n  isola schema > vms.schema.json\n  isola schema openapi > openapi.json")
    .action((name: string) => {
      host.streams.stdout.write(schemaText(name));
    });
  program
    .command("completion")
    .description("print a script that completes isola's commands in a shell")
    .argument("<SHELL>", "bash, zsh or fish")
    .addHelpText("after", "\nExamples:\n  source <(isola completion bash)\n  isola completion fish | source")
    .action((shell: string) => {
      host.streams.stdout.write(completionScript(program, shell));
    });
}
