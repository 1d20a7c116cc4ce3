import test from 'ava';
import fc from 'fast-check';
import { addressAt, parsePrefix } from '../../../src/config/prefix.js';
import { ipFromBytes, parseIp } from '../../../src/core/base/ip.js';
import { networkAddress, prefixContains } from '../../../src/core/base/prefix.js';

test('prefixes are read in canonical form', (t) => {
  t.is(parsePrefix('10.0.0.0/8')?.text, '10.0.0.0/8');
  t.is(parsePrefix('FD00:0::/8')?.text, 'fd00::/8');
  t.is(parsePrefix('192.0.2.1')?.text, '192.0.2.1/32');
  t.is(parsePrefix('::/0')?.bits, 0);
});

test('host bits, bad lengths and non-addresses are refused', (t) => {
  for (const text of [
    '10.0.0.1/8',
    '10.0.0.0/33',
    'fd00::1/64',
    '::/129',
    '10.0.0.0/',
    '/8',
    'ten/8',
    '10.0.0.0/8/8',
    '',
  ]) {
    t.is(parsePrefix(text), null, text);
  }
});

test('containment keeps to the family and to the bit', (t) => {
  const prefix = parsePrefix('172.16.0.0/12')!;
  t.true(prefixContains(prefix, parseIp('172.31.255.255')));
  t.false(prefixContains(prefix, parseIp('172.32.0.0')));
  t.false(prefixContains(parsePrefix('::/0')!, parseIp('10.0.0.1')));
});

test('addresses by index carry over bytes and end with the prefix', (t) => {
  const prefix = parsePrefix('10.77.0.0/23')!;
  t.is(addressAt(prefix, 256)?.text, '10.77.1.0');
  t.is(addressAt(prefix, 511)?.text, '10.77.1.255');
  t.is(addressAt(prefix, 512), null);
  t.is(addressAt(parsePrefix('fd77::/64')!, 0x10002)?.text, 'fd77::1:2');
});

test('every address is inside its own network, whatever the length', (t) => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(bytes, fc.nat({ max: 128 }), (raw, bits) => {
      const address = ipFromBytes(raw, 0, 6);
      const network = networkAddress(address, bits);
      const prefix = parsePrefix(`${network.text}/${bits}`);
      t.not(prefix, null);
      t.true(prefixContains(prefix!, address));
      if (bits > 0) {
        const other = raw.slice();
        const at = (bits - 1) >> 3;
        other[at] = other[at]! ^ (0x80 >> ((bits - 1) & 7));
        t.false(prefixContains(prefix!, ipFromBytes(other, 0, 6)));
      }
    }),
  );
});
