import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../../src/core/base/ip.js';
import {
  CONVERT_ERROR,
  CONVERT_VERSIONS,
  echoOf,
  encodeMessage,
  errorMessage,
  isConnectable,
  MAX_MESSAGE_BYTES,
  NO_BYTES,
  TLV_CONNECT,
  TLV_COOKIE,
  TLV_ERROR,
  TLV_EXTENDED_HEADER,
  TLV_INFO,
  TLV_SUPPORTED,
  type Tlv,
} from '../../../src/core/convert/message.js';
import { messageBytes, parseMessage } from '../../../src/core/convert/parse.js';
import { MessageReader } from '../../../src/core/convert/reader.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replace(/ /g, ''), 'hex'));
const connect = (address: string, port: number): Tlv => ({
  type: TLV_CONNECT,
  address: parseIp(address),
  port,
  options: null,
});

/** As other implementations write them; `read` where reading gives the padding too. */
const VECTORS: readonly { name: string; wire: string; tlvs: readonly Tlv[]; read?: readonly Tlv[] }[] = [
  {
    name: 'Connect 192.0.2.33:8443',
    wire: '010622630a0520fb00000000000000000000ffffc0000221',
    tlvs: [connect('192.0.2.33', 8443)],
  },
  {
    name: 'Connect [2001:db8::33]:8443',
    wire: '010622630a0520fb20010db8000000000000000000000033',
    tlvs: [connect('2001:db8::33', 8443)],
  },
  {
    name: 'Connect with a cookie of seven bytes',
    wire: '010922630a0520fb20010db8000000000000000000000033160300006162636465666700',
    tlvs: [connect('2001:db8::33', 8443), { type: TLV_COOKIE, cookie: bytes('61626364656667') }],
    read: [connect('2001:db8::33', 8443), { type: TLV_COOKIE, cookie: bytes('6162636465666700') }],
  },
  { name: 'Info', wire: '0102226301010000', tlvs: [{ type: TLV_INFO }] },
  {
    name: 'Supported TCP extensions',
    wire: '010322631502000004081e00',
    tlvs: [{ type: TLV_SUPPORTED, kinds: [4, 8, 30] }],
  },
  {
    name: 'Extended TCP header',
    wire: '0104226314030000020405b404020000',
    tlvs: [{ type: TLV_EXTENDED_HEADER, options: bytes('020405b40402') }],
    read: [{ type: TLV_EXTENDED_HEADER, options: bytes('020405b404020000') }],
  },
  {
    name: 'Error 0',
    wire: '010222631e010001',
    tlvs: [{ type: TLV_ERROR, code: 0, value: Uint8Array.from(CONVERT_VERSIONS) }],
  },
  {
    name: 'Error 3 with a cookie',
    wire: '010422631e0303000102030405060708',
    tlvs: [{ type: TLV_ERROR, code: 3, value: bytes('000102030405060708') }],
  },
  {
    name: 'Error 33 for MPTCP',
    wire: '010222631e01211e',
    tlvs: [{ type: TLV_ERROR, code: 33, value: Uint8Array.of(30) }],
  },
  { name: 'Error 96', wire: '010222631e016000', tlvs: [{ type: TLV_ERROR, code: 96, value: Uint8Array.of(0) }] },
  { name: 'Error 97', wire: '010222631e016101', tlvs: [{ type: TLV_ERROR, code: 97, value: Uint8Array.of(1) }] },
];

test('the vectors, byte for byte, both ways', (t) => {
  for (const { name, wire, tlvs, read } of VECTORS) {
    t.is(hex(encodeMessage(tlvs)), wire, name);
    t.is(messageBytes(bytes(wire), 0), wire.length / 2, name);
    t.deepEqual(parseMessage(bytes(wire)), { fault: null, tlvs: read ?? tlvs, unknownType: -1 }, name);
  }
});

test('the header: version 1, a length in words, the magic number', (t) => {
  t.is(messageBytes(bytes('01 02 22 63'), 0), 8);
  t.is(messageBytes(bytes('01 02 22 64'), 0), 'not-convert');
  t.is(messageBytes(bytes('16 03 01 02'), 0), 'not-convert');
  t.is(messageBytes(bytes('02 02 22 63'), 0), 'unsupported-version');
  t.is(messageBytes(bytes('00 02 22 63'), 0), 'unsupported-version');
  t.is(messageBytes(bytes('01 00 22 63'), 0), 'zero-length');
  t.is(encodeMessage([{ type: TLV_INFO }])[0], 1);
});

test('no message is longer than 1020 bytes', (t) => {
  t.is(MAX_MESSAGE_BYTES, 1020);
  const cookie = (lengthBytes: number): Tlv => ({ type: TLV_COOKIE, cookie: new Uint8Array(lengthBytes) });
  t.is(encodeMessage([cookie(1012)]).length, 1020);
  t.throws(() => encodeMessage([cookie(1013)]), { instanceOf: RangeError });
  // The echo of the longest message is cut.
  t.is(errorMessage(CONVERT_ERROR.malformed, echoOf(new Uint8Array(1020).fill(7))).length, 1020);
});

test('TLVs are padded with zeros to whole words', (t) => {
  for (let n = 0; n <= 8; n++) {
    const wire = encodeMessage([{ type: TLV_COOKIE, cookie: new Uint8Array(n).fill(0xee) }]);
    t.is(wire.length, 8 + Math.ceil(n / 4) * 4);
    t.true(wire.subarray(8 + n).every((byte) => byte === 0));
  }
});

test('a TLV that is cut off, of no length or of one that its type cannot have is named', (t) => {
  const fault = (text: string) => parseMessage(bytes(text)).fault;
  t.is(fault('01 02 22 63 16 00 00 00'), 'tlv-length');
  t.is(fault('01 02 22 63 16 02 00 00'), 'tlv-length');
  t.is(fault('01 03 22 63 01 02 00 00 00 00 00 00'), 'tlv-length');
  t.is(fault('01 05 22 63 0a 04 00 50 00000000 00000000 0000ffff'), 'tlv-length');
});

test('a type that appears twice, type 0 and types that nobody has defined are told apart', (t) => {
  t.is(parseMessage(bytes('01 03 22 63 01 01 00 00 01 01 00 00')).fault, 'duplicate-tlv');
  t.is(parseMessage(bytes('01 03 22 63 28 01 00 00 28 01 00 00')).fault, 'duplicate-tlv');
  t.is(parseMessage(bytes('01 02 22 63 00 01 00 00')).fault, 'reserved-type');
  t.deepEqual(parseMessage(bytes('01 03 22 63 28 01 00 00 01 01 00 00')), {
    fault: null,
    tlvs: [{ type: TLV_INFO }],
    unknownType: 0x28,
  });
});

test('options in Connect: kinds 0 and 1 are no options, a cut one is named', (t) => {
  const base = '0a 07 00 50 00000000 00000000 0000ffff c0000201';
  const options = (text: string) => parseMessage(bytes(`01 08 22 63 ${base} ${text}`));
  t.deepEqual(options('1e 02 00 01 22 04 ab cd').tlvs, [
    {
      type: TLV_CONNECT,
      address: parseIp('192.0.2.1'),
      port: 80,
      options: [
        { kind: 30, value: NO_BYTES },
        { kind: 34, value: bytes('abcd') },
      ],
    },
  ]);
  for (const wrong of [
    '1e 01 00 00 00 00 00 00',
    '1e 00 00 00 00 00 00 00',
    '22 09 00 00 00 00 00 00',
    '00 00 00 00 00 00 00 1e',
  ])
    t.is(options(wrong).fault, 'tcp-option', wrong);
});

test('addresses that no connection may have', (t) => {
  for (const wrong of [
    '224.0.0.1',
    '239.1.2.3',
    '255.255.255.255',
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    'ff02::1',
    '::1',
    '::',
  ])
    t.false(isConnectable(parseIp(wrong)), wrong);
  for (const right of ['192.0.2.1', '10.0.0.1', '240.0.0.1', '2001:db8::1', '::2', 'fe80::1'])
    t.true(isConnectable(parseIp(right)), right);
  // Mapped, they are IPv4 addresses.
  const { tlvs } = parseMessage(bytes('01 06 22 63 0a 05 00 50 00000000 00000000 0000ffff 7f000001'));
  t.is(tlvs[0]?.type === TLV_CONNECT && tlvs[0].address.text, '127.0.0.1');
});

const octets = (maxLength: number) => fc.uint8Array({ maxLength });
const address = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((b) => parseIp(b.length === 4 ? b.join('.') : hex(b).replace(/(.{4})(?=.)/g, '$1:')))
  .filter(({ text }) => !text.startsWith('::ffff:'));
const option = fc.record({ kind: fc.integer({ min: 2, max: 255 }), value: octets(18) });
const anyTlv: fc.Arbitrary<Tlv> = fc.oneof(
  fc.constant<Tlv>({ type: TLV_INFO }),
  fc.record({
    type: fc.constant(TLV_CONNECT),
    address,
    port: fc.nat(0xffff),
    options: fc.oneof(fc.constant(null), fc.array(option, { maxLength: 4 })),
  }) as fc.Arbitrary<Tlv>,
  octets(40).map<Tlv>((options) => ({ type: TLV_EXTENDED_HEADER, options })),
  fc.array(fc.integer({ min: 1, max: 255 }), { maxLength: 12 }).map<Tlv>((kinds) => ({ type: TLV_SUPPORTED, kinds })),
  octets(64).map<Tlv>((cookie) => ({ type: TLV_COOKIE, cookie })),
  fc.tuple(fc.nat(255), octets(64)).map<Tlv>(([code, value]) => ({ type: TLV_ERROR, code, value })),
);
const anyMessage = fc.uniqueArray(anyTlv, { selector: ({ type }) => type, maxLength: 5 });

test('whatever is written is read back the same, padding aside', (t) => {
  fc.assert(
    fc.property(anyMessage, (tlvs) => {
      const wire = encodeMessage(tlvs);
      const { fault, tlvs: read } = parseMessage(wire);
      t.is(fault, null);
      // Zeros at the end cannot be told from padding, so it is the bytes that have to be the same.
      t.is(hex(encodeMessage(read)), hex(wire));
      t.deepEqual(
        read.map(({ type }) => type),
        tlvs.map(({ type }) => type),
      );
    }),
  );
});

test('a message is taken off the front of a stream however it is cut, and nothing behind it', (t) => {
  fc.assert(
    fc.property(anyMessage, octets(20), fc.array(fc.nat(400), { maxLength: 8 }), (tlvs, behind, cuts) => {
      const wire = encodeMessage(tlvs);
      const stream = Uint8Array.of(...wire, ...behind);
      const points = [...new Set([...cuts.map((c) => c % stream.length), stream.length])].sort((a, b) => a - b);
      const reader = new MessageReader();
      let taken = 0;
      let from = 0;
      for (const to of points) {
        const n = reader.take(stream, from, to - from);
        taken += n;
        t.true(n === to - from || reader.isDone);
        from = to;
      }
      t.true(reader.isDone);
      t.is(taken, wire.length);
      t.is(hex(reader.message), hex(wire));
    }),
  );
});
