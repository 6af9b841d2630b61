/** What runs on KVM in a host with hardware virtualization that QEMU emulates: each part is a job of its own. */

export interface NestedPart {
  readonly name: string;
  readonly about: string;
  /** Test files below tests, without their ending. */
  readonly tests: readonly string[];
  readonly images: readonly string[];
  /** Whether GNU Mach is to be in that host's cache, which has no network. */
  readonly gnumach?: true;
  /**
   * Of the host. Default 1: QEMU interrupts a processor of several now and then at a moment at which it gives a guest the
   * same interrupt twice (docs/decisions/0009-kvm-engine.md).
   */
  readonly processors?: number;
}

export const NESTED_PARTS: readonly NestedPart[] = [
  {
    name: "guests",
    about: "32-bit Debian, a kernel by Multiboot, GNU Mach, Memtest86+",
    tests: ["guests/i386"],
    images: ["debian-i386", "memtest86+"],
    gnumach: true,
  },
  {
    name: "moves",
    about: "a Debian guest that moves between KVM and the portable engine in the middle of its work",
    tests: ["nested/moves"],
    images: ["debian"],
  },
  {
    name: "devices",
    about: "disks, the text screen, pause, saved state",
    tests: ["guests/disk", "guests/screen", "guests/pause", "guests/save"],
    images: ["debian", "memtest86+"],
  },
  {
    name: "fleet",
    about: "two guests of a server at once",
    tests: ["nested/fleet"],
    images: ["debian"],
  },
  {
    name: "kvm",
    about: "auto is KVM; two and sixteen processors, two guests at once, pause, a failure of KVM",
    tests: ["nested/kvm"],
    images: ["debian"],
  },
  {
    name: "processors",
    about: "ten guests of two processors, one after the other",
    tests: ["nested/processors"],
    images: ["debian"],
  },
  {
    name: "cgroups",
    about: "control groups of a server's VMs, which hold hostile processes too",
    tests: ["nested/cgroup"],
    images: [],
    processors: 2,
  },
];
