/**
 * A slow codec, written over DataView and BigInt straight from the layouts of RFC 791, 8200, 9293 and 8684, that shares
 * no code with the core: the second opinion that round-trip tests compare with.
 */

export type MptcpModel =
  | { subtype: 0; flags: number; keys: bigint[]; dll?: number; checksum?: number }
  | { subtype: 1; form: 'syn'; backup: boolean; id: number; token: number; nonce: number }
  | { subtype: 1; form: 'synack'; backup: boolean; id: number; hmac: Uint8Array; nonce: number }
  | { subtype: 1; form: 'ack'; hmac: Uint8Array }
  | {
      subtype: 2;
      ack?: DataNumber;
      map?: { dsn: DataNumber; ssn: number; dll: number; checksum?: number };
      fin: boolean;
    }
  | { subtype: 3; echo: boolean; id: number; address: Uint8Array; port?: number; hmac: Uint8Array }
  | { subtype: 4; ids: number[] }
  | { subtype: 5; backup: boolean }
  | { subtype: 6; dsn: bigint }
  | { subtype: 7; key: bigint }
  | { subtype: 8; flags: number; reason: number };

export interface DataNumber {
  value: bigint;
  bytes: 4 | 8;
}

export interface PacketModel {
  family: 4 | 6;
  src: Uint8Array;
  dst: Uint8Array;
  ecn: number;
  srcPort: number;
  dstPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  /** Raw options; padded with NOPs by the codec. */
  options: Uint8Array;
  payload: Uint8Array;
}

class Writer {
  private readonly bytes: number[] = [];
  u8(...values: number[]): this {
    this.bytes.push(...values);
    return this;
  }
  u16(value: number): this {
    return this.u8(value >> 8, value & 0xff);
  }
  u32(value: number): this {
    return this.big(BigInt(value), 4);
  }
  big(value: bigint, length: number): this {
    for (let i = length - 1; i >= 0; i--) this.u8(Number((value >> BigInt(8 * i)) & 0xffn));
    return this;
  }
  raw(data: Uint8Array, length = data.length): this {
    return this.u8(...data.subarray(0, length));
  }
  done(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }
}

/** RFC 8684 sections 3.1 to 3.8. */
export function encodeMptcp(m: MptcpModel): Uint8Array {
  const body = new Writer();
  switch (m.subtype) {
    case 0:
      body.u8(0x01, m.flags);
      for (const key of m.keys) body.big(key, 8);
      if (m.dll !== undefined) body.u16(m.dll);
      if (m.checksum !== undefined) body.u16(m.checksum);
      break;
    case 1:
      body.u8(0x10 + (m.form !== 'ack' && m.backup ? 1 : 0), m.form === 'ack' ? 0 : m.id);
      if (m.form === 'syn') body.u32(m.token).u32(m.nonce);
      else if (m.form === 'synack') body.raw(m.hmac, 8).u32(m.nonce);
      else body.raw(m.hmac, 20);
      break;
    case 2: {
      let flags = m.fin && m.map ? 0x10 : 0;
      if (m.ack) flags += m.ack.bytes === 8 ? 3 : 1;
      if (m.map) flags += m.map.dsn.bytes === 8 ? 12 : 4;
      body.u8(0x20, flags);
      if (m.ack) body.big(m.ack.value, m.ack.bytes);
      if (m.map) {
        body.big(m.map.dsn.value, m.map.dsn.bytes).u32(m.map.ssn).u16(m.map.dll);
        if (m.map.checksum !== undefined) body.u16(m.map.checksum);
      }
      break;
    }
    case 3:
      body.u8(0x30 + (m.echo ? 1 : 0), m.id).raw(m.address);
      if (m.port !== undefined) body.u16(m.port);
      if (!m.echo) body.raw(m.hmac, 8);
      break;
    case 4:
      body.u8(0x40, ...m.ids);
      break;
    case 5:
      body.u8(0x50 + (m.backup ? 1 : 0));
      break;
    case 6:
      body.u8(0x60, 0).big(m.dsn, 8);
      break;
    case 7:
      body.u8(0x70, 0).big(m.key, 8);
      break;
    case 8:
      body.u8(0x80 + m.flags, m.reason);
      break;
  }
  const bytes = body.done();
  return Uint8Array.of(30, bytes.length + 2, ...bytes);
}

export function encodePacket(p: PacketModel): Uint8Array {
  const pad = (4 - (p.options.length % 4)) % 4;
  const headerBytes = 20 + p.options.length + pad;
  const tcp = new Writer()
    .u16(p.srcPort)
    .u16(p.dstPort)
    .u32(p.seq)
    .u32(p.ack)
    .u8((headerBytes / 4) << 4, p.flags)
    .u16(p.window)
    .u32(0)
    .raw(p.options)
    .raw(new Uint8Array(pad).fill(1))
    .raw(p.payload)
    .done();
  const pseudo = new Writer().raw(p.src).raw(p.dst);
  if (p.family === 4) pseudo.u8(0, 6).u16(tcp.length);
  else pseudo.u32(tcp.length).u32(6);
  new DataView(tcp.buffer).setUint16(16, naiveChecksum(pseudo.raw(tcp).done()));
  const ip = new Writer();
  if (p.family === 4) {
    ip.u8(0x45, p.ecn)
      .u16(20 + tcp.length)
      .u16(0)
      .u16(0x4000)
      .u8(64, 6)
      .u16(0)
      .raw(p.src)
      .raw(p.dst);
  } else {
    ip.u32(0x60000000 + p.ecn * 0x100000)
      .u16(tcp.length)
      .u8(6, 64)
      .raw(p.src)
      .raw(p.dst);
  }
  const header = ip.done();
  if (p.family === 4) new DataView(header.buffer).setUint16(10, naiveChecksum(header));
  return new Writer().raw(header).raw(tcp).done();
}

/** RFC 1071, word by word. */
export function naiveChecksum(bytes: Uint8Array): number {
  return ~naiveSum(bytes) & 0xffff;
}

export function naiveSum(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) sum += BigInt(bytes[i]! * 256 + (bytes[i + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}
