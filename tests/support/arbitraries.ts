/** fast-check generators of packets and MPTCP options (as models of the oracle codec). */
import fc from 'fast-check';
import { encodeMptcp, type MptcpModel, type PacketModel } from './oracle-codec.js';

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
);
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const absent = fc.constant(undefined);

/** Drops members that are undefined: the models say "absent" by leaving them out. */
function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

const dataNumber = fc.oneof(
  fc.record({ value: u64, bytes: fc.constant(8 as const) }),
  fc.record({ value: u32.map(BigInt), bytes: fc.constant(4 as const) }),
);

const capable = fc
  .record({ flags: u8, form: fc.constantFrom(0, 1, 2, 3, 4), a: u64, b: u64, dll: u16, checksum: u16 })
  .map(({ flags, form, a, b, dll, checksum }): MptcpModel => {
    const keys = [a, b].slice(0, Math.min(form, 2));
    if (form < 3) return { subtype: 0, flags, keys };
    return form === 3 ? { subtype: 0, flags, keys, dll } : { subtype: 0, flags, keys, dll, checksum };
  });

const join: fc.Arbitrary<MptcpModel> = fc.oneof(
  fc.record({
    subtype: fc.constant(1 as const),
    form: fc.constant('syn' as const),
    backup: fc.boolean(),
    id: u8,
    token: u32,
    nonce: u32,
  }),
  fc.record({
    subtype: fc.constant(1 as const),
    form: fc.constant('synack' as const),
    backup: fc.boolean(),
    id: u8,
    hmac: bytes(8),
    nonce: u32,
  }),
  fc.record({ subtype: fc.constant(1 as const), form: fc.constant('ack' as const), hmac: bytes(20) }),
);

const dss = fc
  .record({
    subtype: fc.constant(2 as const),
    ack: fc.oneof(dataNumber, absent),
    map: fc.oneof(
      fc.record({ dsn: dataNumber, ssn: u32, dll: u16, checksum: fc.oneof(u16, absent) }).map(compact),
      absent,
    ),
    fin: fc.boolean(),
  })
  .map((m) => compact(m) as MptcpModel);

const addAddr = fc
  .record({
    subtype: fc.constant(3 as const),
    echo: fc.boolean(),
    id: u8,
    address: fc.oneof(bytes(4), bytes(16)),
    port: fc.oneof(u16, absent),
    hmac: bytes(8),
  })
  .map((m) => compact(m) as MptcpModel);

export const mptcpModel: fc.Arbitrary<MptcpModel> = fc.oneof(
  capable,
  join,
  dss,
  addAddr,
  fc.record({ subtype: fc.constant(4 as const), ids: fc.array(u8, { minLength: 1, maxLength: 37 }) }),
  fc.record({ subtype: fc.constant(5 as const), backup: fc.boolean() }),
  fc.record({ subtype: fc.constant(6 as const), dsn: u64 }),
  fc.record({ subtype: fc.constant(7 as const), key: u64 }),
  fc.record({ subtype: fc.constant(8 as const), flags: fc.integer({ min: 0, max: 15 }), reason: u8 }),
);

/** Up to 40 bytes of options: timestamps or not, then MPTCP options as far as they fit. */
const options = fc.tuple(fc.boolean(), fc.array(mptcpModel, { maxLength: 3 })).map(([hasTs, models]) => {
  const out: number[] = hasTs ? [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8] : [];
  for (const model of models) {
    const option = encodeMptcp(model);
    if (out.length + option.length <= 40) out.push(...option);
  }
  return Uint8Array.from(out);
});

export const packetModel: fc.Arbitrary<PacketModel> = fc.constantFrom(4 as const, 6 as const).chain((family) =>
  fc.record({
    family: fc.constant(family),
    src: bytes(family === 4 ? 4 : 16),
    dst: bytes(family === 4 ? 4 : 16),
    ecn: fc.integer({ min: 0, max: 3 }),
    srcPort: u16,
    dstPort: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options,
    payload: fc.uint8Array({ maxLength: 40 }),
  }),
);
