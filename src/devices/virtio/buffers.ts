/** Requests as sequences of bytes, whatever descriptors they are cut into. [virtio 1.2 §2.7.4] */

/** Bytes in all. */
export const totalBytes = (buffers: readonly Uint8Array[]): number => {
  let total = 0;
  for (const buffer of buffers) total += buffer.length;
  return total;
};

/** The buffers from byte `from` to byte `to`, as views; less where there is less. */
export const part = (buffers: readonly Uint8Array[], from: number, to = Infinity): Uint8Array[] => {
  const views: Uint8Array[] = [];
  let at = 0;
  for (const buffer of buffers) {
    const start = Math.max(from - at, 0);
    const end = Math.min(to - at, buffer.length);
    if (start < end) views.push(buffer.subarray(start, end));
    at += buffer.length;
  }
  return views;
};

/** A copy of all bytes: for headers, which are read once so that the guest cannot change them after the check. */
export const gather = (buffers: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(totalBytes(buffers));
  let at = 0;
  for (const buffer of buffers) {
    bytes.set(buffer, at);
    at += buffer.length;
  }
  return bytes;
};

/** Copies `bytes` over the buffers from their start; what does not fit is left out. Result: bytes written. */
export const scatter = (buffers: readonly Uint8Array[], bytes: Uint8Array): number => {
  let at = 0;
  for (const buffer of buffers) {
    const piece = bytes.subarray(at, at + buffer.length);
    buffer.set(piece);
    at += piece.length;
  }
  return at;
};
