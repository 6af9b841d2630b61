/** Cases outside long mode (paging, real mode, task switches) where QEMU 7.2's TCG does not do as the manual says. [qemu-faults.ts] */

import type { FaultGroup } from "./qemu-faults.ts";

const withCode = (result: string, fix: (code: number) => number): string =>
  result.replace(/ e=(\w+)/, (_, code: string) => ` e=${fix(Number.parseInt(code, 16)).toString(16)}`);

export const LEGACY_QEMU_FAULTS: Readonly<Record<string, readonly FaultGroup[]>> = {
  "legacy-paging": [
    {
      why: "a fault by a reserved bit has P set in its error code [SDM 3 §4.7]",
      like: {
        names: /^pae: (a large page with res|NX without|bit 52)/,
        fix: (qemu) => withCode(qemu, (code) => code | 1),
      },
    },
    {
      why: "without PSE-36 bits 21:13 of a 4 MiB page's entry are reserved [SDM 3 table 4-4]",
      cases: {
        "two-level: a large page with reserved bits":
          "v=e e=9 cr2=60400000 ip=af cs=18 fl=2 h=288000 hss=10 page=800007 dir=212007 large=802087",
      },
    },
    {
      why: "PAE's directory pointers are loaded, and checked, when CR3 is written, and CR4.PGE [SDM 3 §4.4.1]",
      cases: {
        "pae: a pointer is used as it was loaded with CR3":
          "eax=800000 v=e e=0 cr2=80800000 ip=11d cs=18 fl=2 h=288000 hss=10 page=800007 dir=215007 large=800087",
        "pae: MOV CR4 loads pointers": "v=d e=0 ip=c1 cs=18 fl=6 h=288000 hss=10 page=800007 dir=215007 large=800087",
      },
      like: {
        names: /^pae: MOV CR3 with bit /,
        fix: (qemu) => qemu.replace("past=0", "v=d e=0 ip=bc cs=18 fl=2 h=288000 hss=10"),
      },
    },
  ],
  "real-mode": [
    {
      why: "segments of real mode end at 64 KiB [SDM 3 §20.1.1, §6.15 interrupts 12 and 13]",
      cases: {
        "real mode: a word at 0xffff":
          "v=d ip=3 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=ffff ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: a word at 0xffff by BP":
          "v=c ip=3 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=0 ecx=0 edx=0 esi=0 edi=0 ebp=ffff",
        "real mode: an address of 32 bits beyond it":
          "v=d ip=6 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=10000 ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: an address of 32 bits at its end":
          "v=d ip=6 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=fffd ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: unreal: ES is as usual":
          "v=d ip=6 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=0 ecx=0 edx=0 esi=0 edi=10000 ebp=0",
        "real mode: REP MOVSW at 0xffff":
          "v=d ip=9 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=0 ecx=2 edx=0 esi=ffff edi=100 ebp=0",
      },
    },
  ],
  "real-mode-manual": [
    {
      why: "branches are checked against CS's limit [SDM 2 IRET, JMP, CALL]; SYSCALL is of long mode [SDM 2 SYSCALL]",
      cases: {
        "real mode: IRETD beyond 64 KiB":
          "v=d ip=f cs=800 fl=46 sp=7ff4 ss=7000 ds=6000 es=6000 eax=0 ebx=0 ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: a jump by EAX beyond 64 KiB":
          "v=d ip=6 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=10000 ebx=0 ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: a call by EAX beyond 64 KiB":
          "v=d ip=6 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=10000 ebx=0 ecx=0 edx=0 esi=0 edi=0 ebp=0",
        "real mode: SYSCALL":
          "v=6 ip=0 cs=800 fl=46 sp=8000 ss=7000 ds=6000 es=6000 eax=0 ebx=0 ecx=0 edx=0 esi=0 edi=0 ebp=0",
      },
    },
  ],
  tasks: [
    {
      why: "a fault's flags are saved with RF set, in a TSS too [SDM 3 §18.3.1.1]",
      like: {
        names: /^task: registers are saved by an exception/,
        fix: (qemu) => qemu.replace("s24=2 ", "s24=10002 "),
      },
    },
    {
      why: "the T flag of a TSS raises #DB before the task's first instruction [SDM 3 §7.2.1, §18.3.1.5]",
      cases: {
        "task: with the T flag": "v=1 ip=1fe cs=18 fl=2 h=28c000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
      },
    },
  ],
  "task-faults": [
    {
      why: "EXT is set while an exception is delivered [SDM 3 §6.13]",
      like: { names: /^task: an exception by a gate/, fix: (qemu) => withCode(qemu, (code) => code | 1) },
    },
    {
      why: "a task gate whose selector is in an LDT raises #GP(selector) [SDM 2 JMP, CALL, INT n]",
      like: { names: /its selector in an LDT$/, fix: (qemu) => qemu.replace("v=a", "v=d") },
    },
    {
      why: "the new task's faults show its EIP [SDM 3 §7.3]",
      like: {
        names: /^task: a new task's (DS|ES|FS|GS|EIP) .*, by JMP$/,
        fix: (qemu) => qemu.replace(/rip=(8|1)00\w{3} /, "rip=$100000 "),
      },
    },
    {
      why:
        "CPL is the new CS's RPL when its segments are checked, so that faults switch to ring 0's stack; conforming " +
        "code's DPL may be below its RPL; an absent stack segment is #SS [SDM 3 §7.3, table 7-1]",
      cases: {
        "task: a new task's an LDT in an LDT, by JMP":
          "v=a e=84 rip=800000 cs=23 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=84 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's an LDT in an LDT, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=84 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's an LDT beyond the GDT, by JMP":
          "v=a e=1000 rip=800000 cs=23 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=1000 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's an LDT beyond the GDT, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=1000 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's an LDT that is a TSS, by JMP":
          "v=a e=80 rip=800000 cs=23 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=80 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's an LDT that is a TSS, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=80 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's an LDT that is absent, by JMP":
          "v=a e=80 rip=800000 cs=23 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=80 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's an LDT that is absent, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=80 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS beyond the GDT, by JMP":
          "v=a e=1000 rip=800000 cs=1003 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS beyond the GDT, by an exception":
          "v=8 e=0 rip=800000 cs=1003 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS that is data, by JMP":
          "v=a e=28 rip=800000 cs=2b fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS that is data, by an exception":
          "v=8 e=0 rip=800000 cs=2b fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS of DPL 0, by JMP":
          "v=a e=80 rip=800000 cs=83 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS of DPL 0, by an exception":
          "v=8 e=0 rip=800000 cs=83 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS that is absent, by JMP":
          "v=b e=80 rip=800000 cs=83 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS that is absent, by an exception":
          "v=8 e=0 rip=800000 cs=83 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS that is a TSS, by JMP":
          "v=a e=80 rip=800000 cs=83 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS that is a TSS, by an exception":
          "v=8 e=0 rip=800000 cs=83 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's CS that is conforming, of DPL 0, by JMP":
          "v=6 rip=800000 cs=83 fl=2 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's CS that is conforming, of DPL 0, by an exception":
          "v=6 rip=800000 cs=83 fl=4002 sp=298000 ss=2b h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS null, by JMP":
          "v=a e=0 rip=800000 cs=23 fl=2 sp=298000 ss=0 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS null, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=0 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS beyond the GDT, by JMP":
          "v=a e=1000 rip=800000 cs=23 fl=2 sp=298000 ss=1003 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS beyond the GDT, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=1003 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS of DPL 0, by JMP":
          "v=a e=80 rip=800000 cs=23 fl=2 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS of DPL 0, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS of RPL 0, by JMP":
          "v=a e=28 rip=800000 cs=23 fl=2 sp=298000 ss=28 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS of RPL 0, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=28 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS that is code, by JMP":
          "v=a e=20 rip=800000 cs=23 fl=2 sp=298000 ss=23 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS that is code, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=23 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS that is read-only, by JMP":
          "v=a e=80 rip=800000 cs=23 fl=2 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS that is read-only, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
        "task: a new task's SS that is absent, by JMP":
          "v=c e=80 rip=800000 cs=23 fl=2 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=89 new=8b new16=0",
        "task: a new task's SS that is absent, by an exception":
          "v=8 e=0 rip=800000 cs=23 fl=4002 sp=298000 ss=83 h=28a000 hss=10 tr=f8 ldt=0 cr0=1003b old=8b new=8b new16=0",
      },
    },
  ],
};
