/** What the test guests' machine has, on both sides. */

export const RAM_BYTES = 32 * 1024 * 1024;
