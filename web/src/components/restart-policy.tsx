/** Chooses what is done when a VM has ended. */

import type { JSX } from "preact";
import { RESTART_POLICIES } from "../../../src/fleet/vm-spec.ts";

export type RestartPolicy = (typeof RESTART_POLICIES)[number];

interface Properties {
  readonly value: RestartPolicy;
  readonly onChange: (policy: RestartPolicy) => void;
}

export function RestartPolicySelect({ value, onChange }: Properties): JSX.Element {
  return (
    <label>
      After it ended
      <select
        value={value}
        onChange={(event) => onChange(RESTART_POLICIES.find((each) => each === event.currentTarget.value) ?? "no")}
      >
        {RESTART_POLICIES.map((each) => (
          <option key={each} value={each}>
            {each === "no" ? "leave it off" : `restart: ${each}`}
          </option>
        ))}
      </select>
    </label>
  );
}
