/** Whether a test on the host's own /dev/kvm can run. */

import { Kvm } from "../../src/cpu/kvm/kvm.ts";
import { linuxSys } from "../../src/sys/linux.ts";

/**
 * Why `what` cannot run, said on the console too, so that it does not read as passed; false where it can.
 * `lacking`: what else it needs and this host lacks.
 */
export function missingKvm(what: string, lacking: (kvm: Kvm) => string | undefined = () => undefined): string | false {
  const reason = reasonOf(lacking);
  if (reason === undefined) return false;
  console.log(`${what} not run: ${reason}`);
  return reason;
}

function reasonOf(lacking: (kvm: Kvm) => string | undefined): string | undefined {
  try {
    using kvm = Kvm.open(linuxSys());
    return lacking(kvm);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
