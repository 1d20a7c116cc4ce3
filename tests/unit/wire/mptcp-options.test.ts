import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { formatMptcp } from '../../../src/core/wire/format.js';
import {
  addAddrBytes,
  dssBytes,
  MPO,
  MptcpOptions,
  parseMptcpOption,
  TCPRST_T_TRANSIENT,
  writeAddAddr,
  writeDss,
  writeFail,
  writeFastclose,
  writeRemoveAddr,
  writeTcprst,
} from '../../../src/core/wire/mptcp-options.js';
import { unhex } from '../../support/node-env.js';

function parseAll(...options: string[]): MptcpOptions {
  const m = new MptcpOptions();
  for (const option of options) {
    const bytes = unhex(option);
    parseMptcpOption(bytes, 0, bytes.length, m);
  }
  return m;
}

/** Option of `subtype` with `length` bytes in all, the rest of byte 2 and all behind it from `fill`. */
function sized(subtype: number, length: number, ...fill: number[]): string {
  const bytes = new Uint8Array(length);
  bytes.set([30, length, subtype << 4, ...fill].slice(0, length));
  return Buffer.from(bytes).toString('hex');
}

test('exactly the lengths of RFC 8684 are taken, for every subtype and every length', (t) => {
  const good: Record<number, number[]> = {
    0: [4, 12, 20, 22, 24],
    1: [12, 16, 24],
    2: [4],
    3: [16, 18, 28, 30],
    4: Array.from({ length: 37 }, (_, i) => i + 4),
    5: [3],
    6: [12],
    7: [12],
    8: [4],
  };
  for (let subtype = 0; subtype < 16; subtype++) {
    for (let length = 2; length <= 40; length++) {
      const m = parseAll(sized(subtype, length));
      const isGood = good[subtype]?.includes(length) ?? false;
      t.is(m.present !== 0, isGood, `subtype ${subtype} length ${length}`);
      t.is(m.skipped, isGood ? 0 : 1);
    }
  }
});

test('DSS: the flags give the length, with or without checksum', (t) => {
  for (let flags = 0; flags < 32; flags++) {
    const ack = (flags & 1) === 0 ? 0 : (flags & 2) === 0 ? 4 : 8;
    const dsn = (flags & 4) === 0 ? 0 : (flags & 8) === 0 ? 4 : 8;
    for (let length = 4; length <= 40; length++) {
      const m = parseAll(sized(2, length, flags));
      const isPlain = length === dssBytes(ack, dsn, false);
      const isSummed = dsn > 0 && length === dssBytes(ack, dsn, true);
      t.is(m.present, isPlain || isSummed ? MPO.dss : 0, `flags ${flags} length ${length}`);
      if (m.present === 0) continue;
      t.deepEqual([m.dataAckBytes, m.dsnBytes], [ack, dsn]);
      t.is(m.dssChecksum, isSummed ? 0 : -1);
      t.is(m.dataFin, dsn > 0 && (flags & 16) !== 0, 'DATA_FIN only with a mapping');
    }
  }
});

test('ADD_ADDR echo: family and port from the length, no HMAC', (t) => {
  for (const [length, family, port] of [
    [8, 4, -1],
    [10, 4, 0],
    [20, 6, -1],
    [22, 6, 0],
  ] as const) {
    const bytes = unhex(sized(3, length));
    bytes[2]! |= 1;
    const m = new MptcpOptions();
    parseMptcpOption(bytes, 0, length, m);
    const a = m.addAddrs[0]!;
    t.deepEqual([a.echo, a.address.family, a.port, a.hmac.length], [true, family, port, 0]);
    t.is(addAddrBytes(family, port >= 0, true), length);
  }
  t.is(parseAll('1e1031000a00020284eddeab8d402f87').skipped, 1, 'an echo with an HMAC');
});

test('reserved bits are ignored where the RFC says so', (t) => {
  const m = parseAll('1e103e010a00020284eddeab8d402f87', '1e048f05');
  t.is(m.addAddrs[0]!.addressId, 1);
  t.false(m.addAddrs[0]!.echo);
  t.is(m.tcprstReason, 5);
  t.is(m.tcprstFlags & 1, 1);
  t.true(parseAll('1e0c1f01aabbccdd00000001').joinBackup);
});

test('another version is reported, not judged', (t) => {
  const v0 = parseAll('1e0c00010102030405060708');
  t.deepEqual([v0.present, v0.capableVersion, v0.senderKeyHi], [MPO.capable, 0, 0x01020304]);
  t.is(parseAll('1e040201').capableVersion, 2);
});

test('the first of a repeated subtype counts; ADD_ADDR may come twice', (t) => {
  const m = parseAll('1e0351', '1e0350', '1e083101c0000201', '1e083102c0000202', '1e044007', '1e044008');
  t.true(m.prioBackup);
  t.deepEqual(
    m.addAddrs.map((a) => [a.addressId, a.address.text]),
    [
      [1, '192.0.2.1'],
      [2, '192.0.2.2'],
    ],
  );
  t.deepEqual(m.removeIds, [7]);
  t.is(m.skipped, 2);
  const dss = parseAll('1e08200100000005', '1e08200100000006');
  t.is(dss.dataAckLo, 5);
});

test('a malformed repetition harms nothing', (t) => {
  const m = parseAll('1e08200100000005', '1e09200100000006ff', '1e034f', '1e0340', '1ef000', '1e0290');
  t.is(m.present, MPO.dss);
  t.is(m.dataAckLo, 5);
  t.deepEqual(m.removeIds, []);
});

test('clear: absent means absent', (t) => {
  const m = parseAll(
    '1e142015' + '00000009' + '00000100' + '00000001' + '0001' + 'abcd',
    '1e0c70001122334455667788',
    '1e083101c0000201',
    '1e044007',
  );
  t.is(m.present, MPO.dss | MPO.fastclose | MPO.addAddr | MPO.removeAddr);
  m.clear();
  t.is(m.present, 0);
  t.deepEqual(
    [m.dataAckBytes, m.dsnBytes, m.dssChecksum, m.dataFin, m.capableLength, m.capableChecksum, m.joinLength],
    [0, 0, -1, false, 0, -1, 0],
  );
  t.deepEqual([m.addAddrs.length, m.removeIds.length, m.skipped], [0, 0, 0]);
});

test('writers keep reserved bits zero and return the offset behind', (t) => {
  const out = new Uint8Array(64).fill(0xff);
  const end = writeDss(out, 3, 4, 0, 5, 0, 0, 0, 0, 0, -1, true);
  t.is(end, 3 + dssBytes(4, 0, false));
  t.deepEqual([...out.subarray(3, end)], [30, 8, 0x20, 0x01, 0, 0, 0, 5], 'no DATA_FIN without a mapping');
  t.is(out[end], 0xff);
  const option = { echo: false, addressId: 9, address: parseIp('fd00::1'), port: 443, hmac: new Uint8Array(8).fill(7) };
  const behind = writeAddAddr(out, 0, option);
  t.is(behind, addAddrBytes(6, true, false));
  t.is(out[2], 0x30);
  const head = (bytes: number) => [...out.subarray(2, 2 + bytes)];
  writeRemoveAddr(out, 0, [1]);
  t.deepEqual(head(1), [0x40]);
  writeFail(out, 0, 1, 2);
  t.deepEqual(head(2), [0x60, 0]);
  writeFastclose(out, 0, 1, 2);
  t.deepEqual(head(2), [0x70, 0]);
  writeTcprst(out, 0, TCPRST_T_TRANSIENT, 3);
  t.deepEqual(head(2), [0x81, 3]);
});

test('printing', (t) => {
  const m = parseAll(
    '1e1030010a00020284eddeab8d402f87',
    '1e05400102',
    '1e0351',
    '1e0c6000be47046d5c15e6c9',
    '1e0c70009616a1343dc9fa32',
    '1e048003',
    '1e02',
  );
  t.is(
    formatMptcp(m),
    'ADD_ADDR id=1 addr=10.0.2.2 hmac=84eddeab8d402f87; REMOVE_ADDR ids=1,2; MP_PRIO backup=1; ' +
      'MP_FAIL dsn=be47046d5c15e6c9; MP_FASTCLOSE key=*; MP_TCPRST flags=0 reason=3; skipped=1',
  );
  t.is(formatMptcp(parseAll('1e0c1101aabbccdd00000001')), 'MP_JOIN syn id=1 backup=1 token=aabbccdd nonce=00000001');
});
