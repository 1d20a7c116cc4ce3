import { isIP } from 'node:net';
import test from 'ava';
import fc from 'fast-check';
import { ipEquals, ipEqualsAt, ipFromBytes, parseIp } from '../../../src/core/base/ip.js';
import { getU16, getU32, putU16, putU32 } from '../../../src/core/base/wire-int.js';

test('canonical text (RFC 5952)', (t) => {
  for (const [text, canonical] of [
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['::ffff:c000:201', '::ffff:192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ] as const) {
    t.is(parseIp(text).text, canonical);
    t.is(parseIp(canonical).text, canonical);
  }
});

test('what is no address is refused', (t) => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    '12345::',
    'fe80::1%eth0',
    '::1.2.3',
    '::1.2.3.4:5',
    'g::',
    'example.org',
  ]) {
    t.throws(() => parseIp(text), { instanceOf: RangeError, message: `not an IP address: ${text}` });
  }
});

test('agrees with the platform on what an address is', (t) => {
  const word = fc.constantFrom('', '0', '1', 'ff', 'FFFF', '12345', ':', '::', '.', '255', '256', '1.2.3.4');
  const text = fc.array(word, { maxLength: 8 }).map((words) => words.join(':'));
  fc.assert(
    fc.property(fc.oneof(text, fc.ipV4(), fc.ipV6()), (s) => {
      let family = 0;
      try {
        family = parseIp(s).family;
      } catch {
        family = 0;
      }
      return family === isIP(s);
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('bytes to text and back', (t) => {
  const address = fc.constantFrom(4, 16).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
  fc.assert(
    fc.property(address, fc.nat(9), (bytes, offset) => {
      const family = bytes.length === 4 ? 4 : 6;
      const buf = new Uint8Array(offset + bytes.length);
      buf.set(bytes, offset);
      const ip = ipFromBytes(buf, offset, family);
      const again = parseIp(ip.text);
      if (!ipEquals(ip, again) || !ipEqualsAt(again, buf, offset)) return false;
      buf[buf.length - 1]! ^= 1;
      return !ipEqualsAt(ip, buf, offset); // a copy, and every byte counts
    }),
  );
  t.pass();
});

test('an IPv4 address is not the IPv6 address that maps it', (t) => {
  t.false(ipEquals(parseIp('1.2.3.4'), parseIp('::ffff:1.2.3.4')));
});

test('big-endian integers', (t) => {
  const b = new Uint8Array(8);
  fc.assert(
    fc.property(fc.nat(4), fc.integer({ min: 0, max: 0xffff_ffff }), (o, v) => {
      const view = new DataView(b.buffer);
      putU32(b, o, v);
      if (view.getUint32(o) !== v || getU32(b, o) !== v) return false;
      putU16(b, o, v & 0xffff);
      return view.getUint16(o) === (v & 0xffff) && getU16(b, o) === (v & 0xffff);
    }),
  );
  t.pass();
});
