/**
 * Cases that isola is known to get wrong, by program and name, each with what is missing. The tests fail when one of
 * them comes out right: its line here must then go.
 */

export const KNOWN_GAPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  debug: Object.fromEntries(
    [
      "an instruction",
      "a write",
      "a read",
      "a write of a byte in it",
      "a wide write that reaches it",
      "8 bytes",
      "PUSH",
      "REP STOS",
      "a write under MOV SS",
    ].map((name) => [`breakpoint: ${name}`, "breakpoints are kept in DR0 to DR7, but not evaluated"]),
  ),
  "protected-segments": Object.fromEntries(
    [
      "CS ends before the next instruction",
      "CS ends in an instruction",
      "a jump beyond CS's limit",
      "a call beyond CS's limit",
      "a return beyond CS's limit",
      "a jump by a register beyond CS's limit",
    ].map((name) => [`segment: ${name}`, "CS's limit counts in far transfers and returns alone"]),
  ),
};
