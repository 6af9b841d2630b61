/** Refusals of the fleet, with data for a program beside the line for a person. */

import { IsolaError } from "../base/errors.ts";

/** What went wrong, in the classes that a program tells apart; each fits one status of HTTP. */
export const FLEET_ERROR_CODES = {
  /** No such VM, project, template, pool or operation. 404 */
  "not-found": 404,
  /** The name is taken. 409 */
  "name-taken": 409,
  /** The VM's state does not allow it. 409 */
  "illegal-transition": 409,
  /** Another holds it: the state folder, a disk; or it is in use: a pool, a project. 409 */
  "in-use": 409,
  /** A field's value. 422 */
  "invalid-spec": 422,
  /** The host has too little free. 409, `details` is a Shortage. */
  "no-resources": 409,
  /** The project's quota is too small. 403, `details` is a Shortage. */
  "quota-exceeded": 403,
  /** The VM's process did not answer, or ended meanwhile. 502 */
  "vm-unreachable": 502,
  /** The VM did not come up: what it boots is no kernel, or its process failed. 422 */
  "start-failed": 422,
  /** The host failed: a full disk, a folder that cannot be written. 500 */
  "host-failed": 500,
} as const;
export type FleetErrorCode = keyof typeof FLEET_ERROR_CODES;

export interface FleetErrorOptions {
  readonly code: FleetErrorCode;
  readonly message: string;
  readonly details?: unknown;
  readonly cause?: unknown;
}

export class FleetError extends IsolaError {
  declare readonly code: FleetErrorCode;
  /** Plain data, fit for JSON. */
  readonly details: unknown;

  constructor({ details, ...options }: FleetErrorOptions) {
    super(options);
    this.name = "FleetError";
    this.details = details;
  }
}
