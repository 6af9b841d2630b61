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
export function moduleOf(modinfo: readonly string[], bits: 32 | 64 = 64): Uint8Array {
  const names = encoder.encode("\0.modinfo\0.shstrtab\0");
  const info = encoder.encode(modinfo.map((line) => `${line}\0`).join(""));
  const wide = bits === 64;
  const entryBytes = wide ? 64 : 40;
  const bytes = new Uint8Array(64 + info.length + names.length + 3 * entryBytes);
  const view = new DataView(bytes.buffer);
  const table = 64 + info.length + names.length;
  const word = (at: number, value: number) =>
    wide ? view.setBigUint64(at, BigInt(value), true) : view.setUint32(at, value, true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  word(wide ? 0x28 : 0x20, table);
  [entryBytes, 3, 2].forEach((value, index) => view.setUint16((wide ? 0x3a : 0x2e) + index * 2, value, true));
  bytes.set(info, 64);
  bytes.set(names, 64 + info.length);
  const section = (index: number, name: number, offset: number, size: number) => {
    const header = table + index * entryBytes;
    view.setUint32(header, name, true);
    view.setUint32(header + 4, 1, true);
    word(header + (wide ? 0x18 : 0x10), offset);
    word(header + (wide ? 0x20 : 0x14), size);
  };
  section(1, 1, 64, info.length);
  section(2, 10, 64 + info.length, names.length);
  return bytes;
}
