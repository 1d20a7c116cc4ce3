import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import {
  addAddrHmac,
  deriveFromKey,
  dssChecksum,
  equalConstantTime,
  joinHmac,
  KEY_BYTES,
  keyBytes,
  keyU64,
  randomKey,
} from '../../../src/core/mptcp/keys.js';
import { hex, nodeEnv, unhex } from '../../support/node-env.js';

test('keys of a kernel connection: token, IDSN, HMACs, ADD_ADDR', (t) => {
  const keyA = unhex('3e56351446ac29a5');
  const keyB = unhex('172b7d86e17c2305');
  t.deepEqual(deriveFromKey(nodeEnv, keyA), { token: 0x4d751b3e, idsn: { hi: 0xf48c32e5, lo: 0x7fce2ce5 } });
  t.deepEqual(deriveFromKey(nodeEnv, keyB), { token: 0xeb9fb48e, idsn: { hi: 0x8ca64c7f, lo: 0x84fb9d53 } });
  const [a, b] = [0xff6e20fb, 0x6914abc7];
  t.true(hex(joinHmac(nodeEnv, keyB, keyA, b, a)).startsWith('ec24b2212ff475fa'));
  t.true(hex(joinHmac(nodeEnv, keyA, keyB, a, b)).startsWith('f129c19d8353b5c56d5f69ce5274a8ee86161926'));
  t.is(hex(addAddrHmac(nodeEnv, keyB, keyA, 1, parseIp('10.0.2.2'), -1)), '84eddeab8d402f87');
});

test('ADD_ADDR HMACs with port and over IPv6', (t) => {
  const withPort = addAddrHmac(
    nodeEnv,
    unhex('8920f6ac8d283340'),
    unhex('1060477f1268e9bc'),
    1,
    parseIp('10.0.2.2'),
    10_100,
  );
  t.is(hex(withPort), '6eae9c4d039ac0cf');
  const v6 = addAddrHmac(nodeEnv, unhex('722525421a248778'), unhex('7f08a4535beec936'), 1, parseIp('fd00:2::2'), -1);
  t.is(hex(v6), '54e6c5855975b132');
});

test('DATA_FIN alone: the checksum covers only the pseudo-header', (t) => {
  t.is(dssChecksum(0xfba718b0, 0xfd51fe19, 0, 1, [], 0, 0), 0xf03a);
  t.is(dssChecksum(0xd5b4f0f8, 0x40657d4f, 0, 1, [], 0, 0), 0x7b9c);
});

test("keys longer than the handshake's stand in for HMACs", (t) => {
  const own = new Uint8Array(32).fill(1);
  const peer = new Uint8Array(32).fill(2);
  const expected = nodeEnv.hmacSha256(new Uint8Array([...own, ...peer]), unhex('0000000100000002'));
  t.is(hex(joinHmac(nodeEnv, own, peer, 1, 2)), hex(expected));
});

test("a random key is the generator's bytes", (t) => {
  const env = { ...nodeEnv, randomBytes: (out: Uint8Array) => void out.fill(0xab) };
  t.is(hex(randomKey(env)), 'ab'.repeat(KEY_BYTES));
});

test('keys as halves and bytes', (t) => {
  t.deepEqual(keyU64(unhex('ffffffff00000001')), { hi: 0xffff_ffff, lo: 1 });
  t.is(hex(keyBytes(0x80000000, 0xffffffff)), '80000000ffffffff');
});

test('constant-time comparison: every byte counts, only so many', (t) => {
  const a = unhex('0102030405060708ff');
  const b = unhex('0102030405060708ee');
  t.true(equalConstantTime(a, b, 8));
  t.false(equalConstantTime(a, b, 9));
  for (let i = 0; i < 8; i++) {
    const c = a.slice();
    c[i]! ^= 0x80;
    t.false(equalConstantTime(a, c, 8));
  }
  t.false(equalConstantTime(a.subarray(0, 7), b, 8), 'too short is unequal');
});
