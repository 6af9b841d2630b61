/** The last ten minutes of measurements, a sample every two seconds. */

import type { HostSample, VmSample } from "./contract.ts";

export const SAMPLE_MS = 2000;
const KEPT = 300;

export class Samples<Sample extends VmSample | HostSample> {
  #samples: Sample[] = [];

  add(sample: Sample): void {
    this.#samples.push(sample);
    if (this.#samples.length > KEPT) this.#samples.shift();
  }

  get last(): Sample | undefined {
    return this.#samples.at(-1);
  }

  after(since: string | undefined): Sample[] {
    return since === undefined ? [...this.#samples] : this.#samples.filter(({ time }) => time > since);
  }
}
