import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../../src/core/base/ip.js';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_DATAGRAM,
  CAPSULE_POLICY,
  CapsuleDecoder,
  datagramHeaderBytes,
  encodeCapsule,
  MAX_CONTROL_BYTES,
  writeDatagramHeader,
} from '../../../src/core/lanes/capsule.js';
import {
  encodeAddresses,
  encodeRoutes,
  everything,
  parseAddresses,
  parseRoutes,
} from '../../../src/core/lanes/connect-ip.js';
import { ALL_LANES, encodePolicy, PATH_STATES, parsePolicy, ROLES } from '../../../src/core/lanes/policy.js';
import { readVarint, varintBytes, varintSize, writeVarint } from '../../../src/core/lanes/varint.js';

interface Seen {
  type: number;
  value: number[];
}

/** Feeds `stream` cut at the given points. */
function decode(stream: Uint8Array, cuts: readonly number[]): { seen: Seen[]; decoder: CapsuleDecoder } {
  const decoder = new CapsuleDecoder();
  const seen: Seen[] = [];
  const sink = {
    onCapsule: (type: number, value: { bytes(): Uint8Array }) => {
      seen.push({ type, value: [...value.bytes()] });
    },
  };
  const points = [...new Set(cuts.map((c) => c % (stream.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...points, stream.length]) {
    // Each chunk in a buffer of its own, at an odd offset: what a socket really delivers.
    const chunk = new Uint8Array(to - from + 3);
    chunk.set(stream.subarray(from, to), 3);
    decoder.push(chunk, 3, to - from, sink);
    from = to;
  }
  return { seen, decoder };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let o = 0;
  for (const p of parts) {
    out.set(p, o);
    o += p.length;
  }
  return out;
}

test('varints of RFC 9000 A.1', (t) => {
  const cases: [number, string][] = [
    [37, '25'],
    [15_293, '7bbd'],
    [494_878_333, '9d7f3e7d'],
  ];
  for (const [value, hex] of cases) {
    const b = new Uint8Array(8);
    const n = writeVarint(b, 0, value);
    t.is(Buffer.from(b.subarray(0, n)).toString('hex'), hex);
    t.is(readVarint(b, 0), value);
  }
  // The 8-byte example is above 2^53: near enough to be far over every limit.
  t.is(Math.floor(readVarint(Buffer.from('c2197c5eff14e88c', 'hex'), 0) / 2 ** 20), 0x21_97c5_eff1);
});

test('varints round-trip in their shortest form', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), (value) => {
      const b = new Uint8Array(10);
      const end = writeVarint(b, 1, value);
      t.is(end - 1, varintSize(value));
      t.is(varintBytes(b[1]!), varintSize(value));
      t.is(readVarint(b, 1), value);
    }),
  );
});

test('capsules survive any cutting of the stream, and unknown types are skipped', (t) => {
  const known = fc.constantFrom(CAPSULE_DATAGRAM, CAPSULE_ADDRESS_ASSIGN, CAPSULE_POLICY);
  const unknown = fc.constantFrom(0x17, 0x29 * 5 + 0x17, 0x3fff_ffff + 5, 0x7777);
  const capsule = fc.record({ type: fc.oneof(known, unknown), value: fc.uint8Array({ maxLength: 300 }) });
  fc.assert(
    fc.property(fc.array(capsule, { maxLength: 8 }), fc.array(fc.nat(5000), { maxLength: 60 }), (capsules, cuts) => {
      const stream = concat(capsules.map((c) => encodeCapsule(c.type, c.value)));
      const { seen, decoder } = decode(stream, cuts);
      const isKnown = (c: { type: number }) => c.type <= 3 || c.type === CAPSULE_POLICY;
      t.deepEqual(
        seen,
        capsules.filter(isKnown).map((c) => ({ type: c.type, value: [...c.value] })),
      );
      t.is(decoder.skippedCapsules, capsules.length - seen.length);
      t.true(decoder.isAtBoundary);
      t.is(decoder.error, null);
    }),
  );
});

test('a byte at a time is gathered, not kept as a thousand chunks', (t) => {
  const value = Uint8Array.from({ length: 5000 }, (_, i) => i & 0xff);
  const stream = encodeCapsule(CAPSULE_DATAGRAM, value);
  const decoder = new CapsuleDecoder();
  let parts = 0;
  for (let i = 0; i < stream.length; i++) {
    decoder.push(stream.slice(i, i + 1), 0, 1, {
      onCapsule: (_type, v) => {
        parts = v.partCount;
        t.deepEqual(v.bytes(), value);
        t.is(v.byteAt(4321), value[4321]);
      },
    });
  }
  t.is(parts, 1);
});

test('oversized capsules end the stream with a reason', (t) => {
  const b = new Uint8Array(16);
  const end = writeVarint(b, writeVarint(b, 0, CAPSULE_ADDRESS_ASSIGN), MAX_CONTROL_BYTES + 1);
  const { decoder } = decode(b.subarray(0, end), []);
  t.regex(decoder.error ?? '', /over the limit/);
  const huge = new Uint8Array(16).fill(0xff, 1);
  t.regex(decode(huge, []).decoder.error ?? '', /type 0 of/);
});

test('datagram headers end where the packet begins', (t) => {
  for (const packetBytes of [20, 61, 62, 1500, 16_381, 16_382, 65_535]) {
    for (const gsoSize of [-1, 0, 1360]) {
      const b = new Uint8Array(32 + packetBytes).fill(0xee);
      const start = writeDatagramHeader(b, 16, packetBytes, gsoSize);
      t.is(16 - start, datagramHeaderBytes(packetBytes, gsoSize));
      const { seen } = decode(b.subarray(start, 16 + packetBytes), [5]);
      t.is(seen.length, 1);
      const prefix = gsoSize < 0 ? [0] : [2, gsoSize >> 8, gsoSize & 0xff];
      t.deepEqual(seen[0]!.value.slice(0, prefix.length), prefix);
      t.is(seen[0]!.value.length, prefix.length + packetBytes);
    }
  }
});

test('ADDRESS_ASSIGN and ROUTE_ADVERTISEMENT round-trip and reject what RFC 9484 forbids', (t) => {
  const entries = [
    { requestId: 1, address: parseIp('10.7.0.2'), prefixLength: 32 },
    { requestId: 0, address: parseIp('fd00:7::'), prefixLength: 64 },
  ];
  t.deepEqual(parseAddresses(encodeAddresses(entries)), entries);
  t.is(parseAddresses(encodeAddresses([{ requestId: 0, address: parseIp('10.7.0.2'), prefixLength: 24 }])), null);
  t.is(parseAddresses(encodeAddresses(entries).slice(0, -1)), null);
  t.is(parseAddresses(Uint8Array.of(0, 5, 1, 2, 3, 4, 32)), null);
  const routes = [everything(4), everything(6)];
  t.deepEqual(parseRoutes(encodeRoutes(routes)), routes);
  t.is(parseRoutes(encodeRoutes([everything(6), everything(4)])), null, 'order');
  t.is(parseRoutes(encodeRoutes([everything(4), everything(4)])), null, 'overlap');
});

test('policy messages round-trip; garbage is null, never a throw', (t) => {
  const text = fc.string({ maxLength: 20 }).map((s) => s.replace(/[^ -~]/g, '.'));
  const path = fc.record({
    name: text,
    role: fc.constantFrom(...ROLES),
    state: fc.constantFrom(...PATH_STATES),
    rateLimitBytesPerS: fc.nat(),
    congestion: text,
    addressIds: fc.array(fc.record({ lane: fc.nat(5), addressId: fc.nat(255), serverAddressId: fc.nat(255) }), {
      maxLength: 4,
    }),
  });
  const mode = fc.record({ lane: fc.constantFrom(0, 1, ALL_LANES), mode: text, scheduler: text });
  const message = fc.record({
    serial: fc.nat(),
    paths: fc.array(path, { maxLength: 4 }),
    modes: fc.array(mode, { maxLength: 3 }),
    isFull: fc.boolean(),
  });
  fc.assert(fc.property(message, (m) => t.deepEqual(parsePolicy(encodePolicy(m)), m)));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (b) => {
      parsePolicy(b);
      parseAddresses(b);
      parseRoutes(b);
      t.pass();
    }),
  );
  const whole = encodePolicy({
    serial: 3,
    paths: [],
    modes: [{ lane: 0, mode: 'auto', scheduler: 'min-rtt' }],
    isFull: false,
  });
  t.is(parsePolicy(whole.slice(0, -1)), null);
});
