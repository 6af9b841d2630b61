/** Small archives for tests: ar, tar, Debian packages and kernel modules, written field by field. */

interface TarItem {
  readonly path: string;
  readonly data?: Uint8Array | string;
  readonly type?: string;
  readonly mode?: number;
  readonly link?: string;
}

const encoder = new TextEncoder();

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === "string" ? encoder.encode(data) : data;
}

/** One entry of a tar archive: header, data, padding. */
export function tarEntry({ path, data = "", type = "0", mode = 0o644, link = "" }: TarItem): Uint8Array {
  const contents = bytesOf(data);
  const block = new Uint8Array(512 + Math.ceil(contents.length / 512) * 512);
  const put = (text: string, at: number) => block.set(encoder.encode(text), at);
  put(path, 0);
  put(`${mode.toString(8).padStart(7, "0")}\0`, 100);
  put(`${contents.length.toString(8).padStart(11, "0")}\0`, 124);
  put("        ", 148);
  put(type, 156);
  put(link, 157);
  put("ustar\0", 257);
  const sum = block.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  block.set(contents, 512);
  return block;
}

export function tarOf(items: readonly TarItem[]): Uint8Array {
  return new Uint8Array(Buffer.concat([...items.map(tarEntry), new Uint8Array(1024)]));
}

export function arOf(members: readonly (readonly [string, Uint8Array | string])[]): Uint8Array {
  const parts: Uint8Array[] = [encoder.encode("!<arch>\n")];
  for (const [name, data] of members) {
    const bytes = bytesOf(data);
    const header = `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}`;
    parts.push(encoder.encode(`${header}${String(bytes.length).padEnd(10)}\`\n`), bytes);
    if (bytes.length % 2 === 1) parts.push(encoder.encode("\n"));
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** A .deb whose data archive is as given: `data.tar`, or compressed with its suffix. */
export function debOf(dataName: string, data: Uint8Array): Uint8Array {
  return arOf([
    ["debian-binary", "2.0\n"],
    ["control.tar", tarOf([])],
    [dataName, data],
  ]);
}

/** An ELF64 object with nothing but .modinfo and the sections' names. */
export function moduleOf(modinfo: readonly string[]): Uint8Array {
  const names = encoder.encode("\0.modinfo\0.shstrtab\0");
  const info = encoder.encode(modinfo.map((line) => `${line}\0`).join(""));
  const bytes = new Uint8Array(64 + info.length + names.length + 3 * 64);
  const view = new DataView(bytes.buffer);
  const table = 64 + info.length + names.length;
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(0x28, BigInt(table), true);
  view.setUint16(0x3a, 64, true);
  view.setUint16(0x3c, 3, true);
  view.setUint16(0x3e, 2, true);
  bytes.set(info, 64);
  bytes.set(names, 64 + info.length);
  const section = (index: number, name: number, offset: number, size: number) => {
    view.setUint32(table + index * 64, name, true);
    view.setUint32(table + index * 64 + 4, 1, true);
    view.setBigUint64(table + index * 64 + 0x18, BigInt(offset), true);
    view.setBigUint64(table + index * 64 + 0x20, BigInt(size), true);
  };
  section(1, 1, 64, info.length);
  section(2, 10, 64 + info.length, names.length);
  return bytes;
}
