/** Cases of breakpoints where QEMU 7.2's TCG does not do as the manual says. [qemu-faults.ts] */

import type { FaultGroup } from "./qemu-faults.ts";

export const BREAKPOINT_QEMU_FAULTS: Readonly<Record<string, readonly FaultGroup[]>> = {
  breakpoints: [
    {
      why: "RF holds a breakpoint back until a repeated instruction is through [SDM 3 §18.3.1.1]",
      cases: {
        "on REP STOS: once": "at=12e dr6=1 rcx=0 done=0",
      },
    },
    {
      why: "a data breakpoint's length aligns its address [SDM 3 §18.2.5]; all conditions met are shown [§18.2.3]",
      cases: {
        "the low bits of the address do not count": "at=11d dr6=1 done=0",
        "two met by one write": "at=125 dr6=5 done=0",
      },
    },
    {
      why: "data breakpoints trap after the instruction, which must not have faulted, and together with a single step [SDM 3 §18.3.1.2]; a load of SS holds them back [§6.8.3]",
      cases: {
        "with single steps: one trap for both":
          "at=122 dr6=4001 at=123 dr6=4000 at=125 dr6=4000 at=126 dr6=4000 done=0",
        "a fault in the same instruction: nothing": "dr6h=ffff0ff0",
        "MOV SS from watched memory: after the next one": "at=127 dr6=1 done=0",
      },
    },
    {
      why: "reserved bits of DR6 and DR7 read as 0 [SDM 3 §18.2.3, §18.2.4]",
      cases: {
        "DR6 and DR7 read back: ffffffff": "dr6=ffffefff dr7=ffff0f00 done=0",
        "DR6 and DR7 read back: 55555555": "dr6=ffff4ff5 dr7=55550500 done=0",
        "DR6 and DR7 read back: aaaaaaaa": "dr6=ffffaffa dr7=aaaa0e00 done=0",
      },
    },
  ],
};
