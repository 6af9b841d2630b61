/**
 * MSI-X: a table of messages and an array of pending bits. [PCI 3.0 §6.8.2]
 *
 * The table lies in the function's declared state, as 32-bit words; a message that is masked stays pending until it is
 * unmasked. Functions have at most 32 vectors here, so the pending bits are one word.
 */

/** Words of a table entry: address, upper address, data, vector control. */
const ENTRY_WORDS = 4;
const VECTOR_MASKED = 1;
/** Bits of the capability's message control word. */
export const MSIX_ENABLE = 0x8000;
export const MSIX_FUNCTION_MASK = 0x4000;
export const MSIX_CAPABILITY_ID = 0x11;

/** Fields that a function with MSI-X declares. */
export interface MsixState {
  /** ENTRY_WORDS a vector. */
  readonly msixTable: Uint32Array;
  msixPending: number;
}

/** How the function stands at the moment. */
export interface MsixControl {
  /** The message control word of the capability. */
  readonly control: number;
  send(address: number, data: number): void;
}

/** All vectors are masked after reset. [§6.8.2.9] */
export const resetMsix = ({ msixTable }: MsixState): void => {
  for (let word = ENTRY_WORDS - 1; word < msixTable.length; word += ENTRY_WORDS) msixTable[word] = VECTOR_MASKED;
};

/** `offset` in bytes from the table's start, a multiple of 4. */
export const readMsixTable = ({ msixTable }: MsixState, offset: number): number => msixTable[offset >> 2] ?? 0;

export const writeMsixTable = (state: MsixState, offset: number, value: number, control: MsixControl): void => {
  const word = offset >> 2;
  if (word >= state.msixTable.length) return;
  const isControl = word % ENTRY_WORDS === ENTRY_WORDS - 1;
  // Reserved bits read as zero; an address is a multiple of 4.
  const kept = isControl ? VECTOR_MASKED : word % ENTRY_WORDS === 0 ? 0xfffffffc : 0xffffffff;
  state.msixTable[word] = (value & kept) >>> 0;
  if (isControl) sendPending(state, control);
};

/** Sends a vector's message, or leaves it pending. Only while MSI-X is enabled; a vector that there is not is lost. */
export const triggerMsix = (state: MsixState, vector: number, control: MsixControl): void => {
  const entry = vector * ENTRY_WORDS;
  if (entry >= state.msixTable.length) return;
  const masked =
    ((state.msixTable[entry + 3] ?? VECTOR_MASKED) & VECTOR_MASKED) !== 0 ||
    (control.control & MSIX_FUNCTION_MASK) !== 0;
  if (masked) {
    state.msixPending = (state.msixPending | (1 << vector)) >>> 0;
    return;
  }
  state.msixPending = (state.msixPending & ~(1 << vector)) >>> 0;
  // Messages above 4 GiB reach no local APIC.
  if (state.msixTable[entry + 1] === 0) control.send(state.msixTable[entry] ?? 0, state.msixTable[entry + 2] ?? 0);
};

/** After a mask was lifted: what is pending goes out. */
export const sendPending = (state: MsixState, control: MsixControl): void => {
  if ((control.control & MSIX_ENABLE) === 0) return;
  for (let vector = 0; vector * ENTRY_WORDS < state.msixTable.length; vector++) {
    if ((state.msixPending & (1 << vector)) !== 0) triggerMsix(state, vector, control);
  }
};

/** Elements of `msixTable`. */
export const msixTableWords = (vectors: number): number => vectors * ENTRY_WORDS;
