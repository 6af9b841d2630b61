/** Lines of a Debian guest's console by which a boot is measured. */
export const MARKS = {
  kernel: "Linux version ",
  init: "Run /init as init process",
  shell: ":~# ",
} as const;
export type MarkName = keyof typeof MARKS;
