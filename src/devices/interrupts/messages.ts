/** Interrupt messages between I/O APIC, devices (MSI) and local APICs. [SDM 3 §11.11; 82093AA §3.2.4] */

/** Delivery modes, as encoded in redirection entries, ICR, LVT and MSI data. */
export const DELIVERY_FIXED = 0;
export const DELIVERY_LOWEST = 1;
export const DELIVERY_NMI = 4;
export const DELIVERY_INIT = 5;
export const DELIVERY_STARTUP = 6;
export const DELIVERY_EXTINT = 7;

/** Sends one message to the local APICs that match the destination. */
export type SendMessage = (
  destination: number,
  logical: boolean,
  mode: number,
  vector: number,
  levelTriggered: boolean,
) => void;
