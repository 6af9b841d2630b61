/**
 * The instructions whose handlers lie inside the interpreter's loop: one encoding for each combination of operands
 * that is frequent when a Debian kernel boots and runs a shell. 64-bit mode, hexadecimal.
 */
export const HOT_INSTRUCTIONS: readonly string[] = [];
