/**
 * What a person asks of a virtual machine: the one schema behind the record, the API, the command line and vms.yaml.
 * Every field but the name and what is booted has a default.
 */

import { z } from "zod";
import { parseSize } from "../base/size.ts";
import { DEFAULT_CPU_MODEL, parseCpuModel } from "../isa/cpu-models.ts";
import { SMBIOS_TEXT, SMBIOS_UUID } from "../machine/smbios.ts";
import { MOST_CPUS } from "../machine/vm-contract.ts";
import { MAX_RAM_BYTES, MIN_RAM_BYTES, RAM_STEP_BYTES } from "../memory/guest-memory.ts";

const MIB = 2 ** 20;
/** Names of VMs, projects, templates, pools and disks: good as a file's name and in a URL. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const DEFAULT_PROJECT = "default";
export const DEFAULT_POOL = "default";
export const DEFAULT_MEMORY_BYTES = 256 * MIB;
export const DEFAULT_SHARES = 1024;
/** A processor's whole time in the unit of reservations and caps. */
export const PERCENT_PER_PROCESSOR = 100;
/** The kernel's own limit is 2,048 bytes with the final zero [linux arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE]. */
const COMMAND_LINE_LIMIT = 2047;
const DISK_STEP_BYTES = 512;
const MAX_DISK_BYTES = 2 ** 45;
const MAX_DISKS = 16;
/** Less, and a guest's kernel takes its disk for a broken one. */
const LEAST_DISK_RATE = 64 * 1024;

export const nameSchema = z
  .string()
  .regex(NAME_PATTERN, "wanted: 1 to 63 letters, digits, dots, hyphens and underscores, a letter or digit first")
  .meta({ description: "1 to 63 letters, digits, dots, hyphens and underscores; begins with a letter or a digit" });

/** Bytes, or text as a person writes it ("256M"); bytes once parsed. */
export const sizeSchema = z
  .union([z.number(), z.string()])
  .transform((value, context) => {
    const bytes = typeof value === "number" ? value : parseSize(value);
    if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
    context.addIssue({
      code: "custom",
      message: `${JSON.stringify(value)} is not a size; wanted: bytes, or as in 256M`,
    });
    return z.NEVER;
  })
  .pipe(z.int().nonnegative())
  .meta({ description: 'bytes, or a text such as "256M" (powers of 1024)' });

const oneLine = z
  .string()
  .max(COMMAND_LINE_LIMIT)
  .refine((text) => !/[\0\r\n]/.test(text), "wanted: one line");

const path = z
  .string()
  .min(1)
  .max(4095)
  .refine((text) => text.startsWith("/") && !text.includes("\0"), "wanted: an absolute path on the server");

/** An image's name may hold a plus sign, as Debian's packages do: `memtest86+`. */
const imageName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$/, "wanted: an image's name, as in `isola image list`")
  .meta({ description: "a guest image, as in `isola image list`" });

export const ENGINE_CHOICES = ["auto", "wasm", "kvm"] as const;
export const RESTART_POLICIES = ["no", "on-failure", "unless-stopped", "always"] as const;

export const diskSpecSchema = z.strictObject({
  name: nameSchema.meta({ description: "unique in the VM; the first disk is the guest's /dev/vda" }),
  sizeBytes: sizeSchema.refine(
    (bytes) => bytes >= DISK_STEP_BYTES && bytes <= MAX_DISK_BYTES && bytes % DISK_STEP_BYTES === 0,
    "wanted: 512 bytes to 32T, in sectors of 512",
  ),
  readonly: z.boolean().default(false),
  bytesPerSecond: sizeSchema
    .refine((bytes) => bytes >= LEAST_DISK_RATE, "wanted: at least 64K a second")
    .nullable()
    .default(null)
    .meta({ description: "what it may read and write in a second, on the mean; null: no limit" }),
  requestsPerSecond: z.int().min(1).max(1e9).nullable().default(null).meta({
    description: "how many reads and writes a second, on the mean; null: no limit",
  }),
});
export type DiskSpec = z.infer<typeof diskSpecSchema>;

/** A processor's model; equal ones get equal names. [isa/cpu-models.ts] */
const cpuModelSchema = z
  .string()
  .max(1000)
  .transform((text, context) => {
    try {
      return parseCpuModel(text).name;
    } catch (error) {
      context.addIssue({ code: "custom", message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  })
  .pipe(z.string())
  .meta({ description: "MODEL[,+FEATURE][,-FEATURE]..., as in x86-64-v2,+aes,-rdrand" });

export const cpuSpecSchema = z.strictObject({
  count: z.int().min(1).max(MOST_CPUS).default(1).meta({
    description: "virtual processors; more than one need the engine kvm",
  }),
  model: cpuModelSchema.default(DEFAULT_CPU_MODEL.name),
  pool: nameSchema.default(DEFAULT_POOL).meta({ description: "the host processors it may use" }),
  shares: z.int().min(2).max(262_144).default(DEFAULT_SHARES).meta({
    description: "weight against the others in the pool while processors are short",
  }),
  reservationPercent: z.number().min(0).max(10_000).default(0).meta({
    description: "what it is guaranteed, in percent of one processor",
  }),
  capPercent: z.number().min(1).max(10_000).nullable().default(null).meta({
    description: "the most it gets even where processors are idle, in percent of one processor; null: no limit",
  }),
});
export type CpuSpec = z.infer<typeof cpuSpecSchema>;

export const restartSpecSchema = z.strictObject({
  policy: z.enum(RESTART_POLICIES).default("no").meta({
    description:
      "no; on-failure: after a crash; unless-stopped and always: after every end that nobody asked for, always also at the server's start",
  }),
  maxRetries: z.int().min(0).max(1_000_000).default(10).meta({
    description: "restarts in a row without ten seconds of running between; then the VM is left failed",
  }),
});

export const clockSpecSchema = z
  .strictObject({
    offsetSeconds: z.int().min(-4e9).max(4e9).default(0).meta({ description: "guest time minus host time, UTC" }),
    startAt: z.iso
      .datetime()
      .nullable()
      .default(null)
      .meta({ description: "the time at power-on instead of the host's" }),
  })
  .refine(({ offsetSeconds, startAt }) => startAt === null || offsetSeconds === 0, "wanted: offsetSeconds or startAt");

const smbiosText = z
  .string()
  .regex(SMBIOS_TEXT, "wanted: 1 to 255 printable characters of ASCII")
  .nullable()
  .default(null);

/** What the guest's programs are told about the machine, as dmidecode shows it. */
const smbiosSchema = z
  .strictObject({
    uuid: z
      .string()
      .regex(SMBIOS_UUID, "wanted: a UUID, such as 6f1c2d34-5e6f-4a7b-8c9d-0e1f2a3b4c5d")
      .nullable()
      .default(null)
      .meta({ description: "null: one of the VM's own, which it keeps" }),
    serial: smbiosText.meta({ description: "null: the VM's id" }),
    manufacturer: smbiosText,
    product: smbiosText,
    version: smbiosText,
    sku: smbiosText,
    family: smbiosText,
  })
  .meta({ description: "the machine as dmidecode and /sys/class/dmi/id show it; null: isola's own words" });

/** What the firmware hands to the guest: files that it finds by fw_cfg. */
export const firmwareSpecSchema = z.strictObject({
  fwCfg: z
    .array(
      z.strictObject({
        name: z.string().regex(/^opt\/[\x21-\x7e]{1,51}$/, 'wanted: "opt/" and up to 51 more printable characters'),
        text: z.string().max(65_536),
      }),
    )
    .max(16)
    .refine((files) => new Set(files.map(({ name }) => name)).size === files.length, "wanted: names that differ")
    .default([])
    .meta({ description: "files under /sys/firmware/qemu_fw_cfg/by_name, for the guest's programs" }),
  smbios: smbiosSchema.default(() => smbiosSchema.parse({})),
});

/** The fields, before what must hold between them. */
export const vmSpecFields = z.strictObject({
  name: nameSchema,
  project: nameSchema.default(DEFAULT_PROJECT),
  description: z.string().max(1000).default(""),
  image: imageName.nullable().default(null),
  kernel: path.nullable().default(null).meta({ description: "a kernel on the server, in place of the image's" }),
  initrds: z
    .array(z.strictObject({ path, commandLine: oneLine.default("") }))
    .max(32)
    .default([])
    .meta({ description: "initial RAM disks or Multiboot modules, in place of the image's" }),
  append: oneLine.default("").meta({ description: "words added to the kernel's command line" }),
  engine: z.enum(ENGINE_CHOICES).default("auto"),
  memoryBytes: sizeSchema
    .default(DEFAULT_MEMORY_BYTES)
    .refine(
      (bytes) => bytes >= MIN_RAM_BYTES && bytes <= MAX_RAM_BYTES && bytes % RAM_STEP_BYTES === 0,
      `wanted: ${MIN_RAM_BYTES} to ${MAX_RAM_BYTES} bytes (2M to 3966M), a multiple of 64K`,
    )
    .meta({ description: "the guest's RAM: the most it can come to hold" }),
  memoryReservationBytes: sizeSchema.nullable().default(null).meta({
    description: "RAM kept free for it on the host; null: all of memoryBytes",
  }),
  cpu: cpuSpecSchema.default(() => cpuSpecSchema.parse({})),
  disks: z
    .array(diskSpecSchema)
    .max(MAX_DISKS)
    .refine((disks) => new Set(disks.map(({ name }) => name)).size === disks.length, "wanted: names that differ")
    .default([]),
  autostart: z.boolean().default(false).meta({ description: "start it when the server starts" }),
  restart: restartSpecSchema.default(() => restartSpecSchema.parse({})),
  rebootOnReset: z.boolean().default(true).meta({ description: "false: a guest's reset ends the VM" }),
  clock: clockSpecSchema.default(() => clockSpecSchema.parse({})),
  firmware: firmwareSpecSchema.default(() => firmwareSpecSchema.parse({})),
});

interface BootAndMemory {
  readonly image?: string | null | undefined;
  readonly kernel?: string | null | undefined;
  readonly memoryBytes?: number | undefined;
  readonly memoryReservationBytes?: number | null | undefined;
}

const reservationFits = ({ memoryBytes, memoryReservationBytes }: BootAndMemory): boolean =>
  typeof memoryReservationBytes !== "number" || memoryReservationBytes <= (memoryBytes ?? DEFAULT_MEMORY_BYTES);

/** A VM as it is asked for, defaults filled in by parsing. */
export const vmSpecSchema = vmSpecFields
  .refine(({ image, kernel }) => image !== null || kernel !== null, {
    message: "neither image nor kernel; wanted: an image, a kernel, or both",
    path: ["image"],
  })
  .refine(reservationFits, {
    message: "more than memoryBytes; wanted: at most the guest's RAM",
    path: ["memoryReservationBytes"],
  })
  .refine(({ cpu, engine }) => cpu.count === 1 || engine !== "wasm", {
    message: "the engine wasm runs one processor; wanted: 1, or the engine kvm or auto",
    path: ["cpu", "count"],
  })
  .refine(({ cpu }) => cpu.capPercent === null || cpu.reservationPercent <= cpu.capPercent, {
    message: "the reservation exceeds the cap",
    path: ["cpu", "reservationPercent"],
  })
  .refine(({ cpu }) => cpu.reservationPercent <= cpu.count * PERCENT_PER_PROCESSOR, {
    message: "more than its virtual processors can use; wanted: at most 100 for each",
    path: ["cpu", "reservationPercent"],
  });
export type VmSpec = z.infer<typeof vmSpecSchema>;
/** What may be written: defaults left out, sizes as text. */
export type VmSpecInput = z.input<typeof vmSpecSchema>;

/** The same without defaults: `undefined` is "as it is". */
const partialCpu = z.strictObject({
  model: cpuModelSchema.optional(),
  pool: nameSchema.optional(),
  shares: cpuSpecSchema.shape.shares.unwrap().optional(),
  reservationPercent: cpuSpecSchema.shape.reservationPercent.unwrap().optional(),
  capPercent: cpuSpecSchema.shape.capPercent.unwrap().optional(),
});

/**
 * A change of a VM. `cpu.shares`, reservation, cap, pool, description, autostart, restart and rebootOnReset act at
 * once; everything else is refused while the VM runs. `disks` names all disks: one left out is removed with its data.
 */
export const vmUpdateSchema = z.strictObject({
  project: nameSchema.optional(),
  description: vmSpecFields.shape.description.unwrap().optional(),
  image: vmSpecFields.shape.image.unwrap().optional(),
  kernel: vmSpecFields.shape.kernel.unwrap().optional(),
  initrds: vmSpecFields.shape.initrds.unwrap().optional(),
  append: vmSpecFields.shape.append.unwrap().optional(),
  engine: vmSpecFields.shape.engine.unwrap().optional(),
  memoryBytes: sizeSchema.optional(),
  memoryReservationBytes: sizeSchema.nullable().optional(),
  cpu: partialCpu.optional(),
  disks: vmSpecFields.shape.disks.unwrap().optional(),
  autostart: z.boolean().optional(),
  restart: restartSpecSchema.optional(),
  rebootOnReset: z.boolean().optional(),
  clock: clockSpecSchema.optional(),
  firmware: firmwareSpecSchema.optional(),
});
export type VmUpdate = z.infer<typeof vmUpdateSchema>;

/** Fields of `VmUpdate` that act on a running VM; of `cpu` all but the model do. */
export const LIVE_FIELDS = ["description", "cpu", "autostart", "restart", "rebootOnReset"] as const;

/**
 * A spec begun from a template: what the spec says goes before what the template says, in `cpu`, `restart`, `clock` and
 * `firmware` member by member. Neither is checked.
 */
export function joinTemplate(
  template: Readonly<Record<string, unknown>>,
  spec: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const joined: Record<string, unknown> = { ...template, ...spec };
  for (const key of ["cpu", "restart", "clock", "firmware"]) {
    const [under, over] = [template[key], spec[key]];
    if (typeof under === "object" && typeof over === "object" && under !== null && over !== null) {
      joined[key] = { ...under, ...over };
    }
  }
  return joined;
}
