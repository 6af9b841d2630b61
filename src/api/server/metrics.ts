/** Figures for Prometheus. [Prometheus text exposition format 0.0.4] */

import type { HostInventory, VmStatus } from "../../fleet/contract.ts";
import { VM_STATES } from "../../fleet/lifecycle.ts";

type Labels = Readonly<Record<string, string>>;
interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** Upper bounds of the buckets of response times, in seconds. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function line(name: string, { labels, value }: Sample): string {
  const pairs = Object.entries(labels).map(([key, label]) => `${key}="${escaped(label)}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}`;
}

function family(name: string, type: "gauge" | "counter", help: string, samples: readonly Sample[]): string[] {
  if (samples.length === 0) return [];
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples.map((sample) => line(name, sample))];
}

/** Counts requests and how long they took, by operation and status. */
export class RequestMetrics {
  readonly #counts = new Map<string, { operation: string; status: number; count: number }>();
  readonly #times = new Map<string, { buckets: number[]; seconds: number; count: number }>();
  openConsoles = 0;
  openStreams = 0;

  observe(operation: string, status: number, seconds: number): void {
    const key = `${operation} ${status}`;
    const counted = this.#counts.get(key) ?? { operation, status, count: 0 };
    counted.count += 1;
    this.#counts.set(key, counted);
    const times = this.#times.get(operation) ?? { buckets: BUCKETS.map(() => 0), seconds: 0, count: 0 };
    for (const [index, bound] of BUCKETS.entries()) {
      if (seconds <= bound) times.buckets[index] = (times.buckets[index] ?? 0) + 1;
    }
    times.seconds += seconds;
    times.count += 1;
    this.#times.set(operation, times);
  }

  lines(): string[] {
    const name = "isola_http_request_duration_seconds";
    const durations = [...this.#times].flatMap(([operation, { buckets, seconds, count }]) => [
      ...BUCKETS.map((bound, index) =>
        line(`${name}_bucket`, { labels: { operation, le: String(bound) }, value: buckets[index] ?? 0 }),
      ),
      line(`${name}_bucket`, { labels: { operation, le: "+Inf" }, value: count }),
      line(`${name}_sum`, { labels: { operation }, value: seconds }),
      line(`${name}_count`, { labels: { operation }, value: count }),
    ]);
    return [
      ...family(
        "isola_http_requests_total",
        "counter",
        "Requests answered.",
        [...this.#counts.values()].map(({ operation, status, count }) => ({
          labels: { operation, status: String(status) },
          value: count,
        })),
      ),
      ...(durations.length === 0
        ? []
        : [`# HELP ${name} Time to the head of the answer.`, `# TYPE ${name} histogram`, ...durations]),
      ...family("isola_consoles_open", "gauge", "Consoles watched.", [{ labels: {}, value: this.openConsoles }]),
      ...family("isola_streams_open", "gauge", "Event and log streams.", [{ labels: {}, value: this.openStreams }]),
    ];
  }
}

function hostLines({ memory, disk, processors, pools }: HostInventory): string[] {
  const one = (value: number): Sample[] => [{ labels: {}, value }];
  return [
    ...family("isola_host_processors", "gauge", "Processors of the host.", one(processors.count)),
    ...family("isola_host_cpu_percent", "gauge", "Use, in percent of one processor.", one(processors.usedPercent)),
    ...family("isola_host_memory_bytes", "gauge", "Memory of the host, by what it is.", [
      { labels: { kind: "total" }, value: memory.totalBytes },
      { labels: { kind: "available" }, value: memory.availableBytes },
      { labels: { kind: "allocatable" }, value: memory.allocatableBytes },
      { labels: { kind: "reserved" }, value: memory.reservedBytes },
      { labels: { kind: "used" }, value: memory.usedBytes },
    ]),
    ...family("isola_host_disk_bytes", "gauge", "The disk pool, by what it is.", [
      { labels: { kind: "quota" }, value: disk.quotaBytes },
      { labels: { kind: "granted" }, value: disk.grantedBytes },
      { labels: { kind: "used" }, value: disk.usedBytes },
      { labels: { kind: "free" }, value: disk.freeBytes },
    ]),
    ...family(
      "isola_pool_used_percent",
      "gauge",
      "Use of a CPU pool, in percent of one processor.",
      pools.map(({ name, usedPercent }) => ({ labels: { pool: name }, value: usedPercent })),
    ),
  ];
}

function vmLines(vms: readonly VmStatus[]): string[] {
  const labels = ({ name, project }: VmStatus): Labels => ({ vm: name, project });
  const each = (value: (vm: VmStatus) => number): Sample[] =>
    vms.map((vm) => ({ labels: labels(vm), value: value(vm) }));
  const figures = (of: (vm: VmStatus) => { asked: number; granted: number; used: number }): Sample[] =>
    vms.flatMap((vm) =>
      (["asked", "granted", "used"] as const).map((kind) => ({ labels: { ...labels(vm), kind }, value: of(vm)[kind] })),
    );
  const states = vms.flatMap((vm) =>
    VM_STATES.map((state) => ({ labels: { ...labels(vm), state }, value: vm.state === state ? 1 : 0 })),
  );
  return [
    ...family("isola_vm_state", "gauge", "1 for the state that the VM is in.", states),
    ...family(
      "isola_vm_memory_bytes",
      "gauge",
      "Memory: asked, granted, used.",
      figures((vm) => vm.memory),
    ),
    ...family(
      "isola_vm_cpu_percent",
      "gauge",
      "Percent of one processor: asked, granted, used.",
      figures((vm) => vm.cpu),
    ),
    ...family(
      "isola_vm_disk_bytes",
      "gauge",
      "Disks: asked, granted, used.",
      figures((vm) => vm.disk),
    ),
    ...family(
      "isola_vm_cpu_seconds_total",
      "counter",
      "Processor time since the VM's start.",
      each((vm) => vm.cpu.seconds),
    ),
    ...family(
      "isola_vm_instructions_total",
      "counter",
      "Guest instructions.",
      each((vm) => vm.guest.instructions),
    ),
    ...family(
      "isola_vm_restarts_total",
      "counter",
      "Restarts by policy.",
      each((vm) => vm.restarts),
    ),
  ];
}

export function metricsText(host: HostInventory, vms: readonly VmStatus[], requests: RequestMetrics): string {
  return `${[...hostLines(host), ...vmLines(vms), ...requests.lines()].join("\n")}\n`;
}
