import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../../src/core/base/ip.js';
import { encodeQuery, parseNames } from '../../../src/daemon/dns-message.js';
import { DomainTable, MAX_ADDRESSES, MAX_NAMES } from '../../../src/daemon/flows/domains.js';

const S = 1_000_000;

interface Record {
  owner: string;
  ttl?: number;
  a?: string;
  cname?: string;
}

/** An answer to a question for `name`, without compression. */
function answer(name: string, records: Record[], flags = 0x8180): Buffer {
  const query = encodeQuery(7, name, 4)!;
  query.writeUInt16BE(flags, 2);
  query.writeUInt16BE(records.length, 6);
  const wire = (text: string) => encodeQuery(0, text, 4)!.subarray(12, -4);
  const parts = records.map(({ owner, ttl = 300, a, cname }) => {
    const data = a === undefined ? wire(cname!) : Buffer.from(parseIp(a).bytes);
    const fixed = Buffer.alloc(10);
    fixed.writeUInt16BE(a === undefined ? 5 : data.length === 4 ? 1 : 28, 0);
    fixed.writeUInt16BE(1, 2);
    fixed.writeUInt32BE(ttl, 4);
    fixed.writeUInt16BE(data.length, 8);
    return Buffer.concat([wire(owner), fixed, data]);
  });
  return Buffer.concat([query, ...parts]);
}

test('addresses of both families and the chain of names that leads to them', (t) => {
  const message = answer('WWW.Example.com', [
    { owner: 'www.example.com', cname: 'edge.cdn.net', ttl: 30 },
    { owner: 'edge.cdn.net', cname: 'e7.cdn.net', ttl: 500 },
    { owner: 'e7.cdn.net', a: '192.0.2.1' },
    { owner: 'e7.cdn.net', a: '2001:db8::1', ttl: 20 },
    { owner: 'unrelated.org', a: '192.0.2.9' },
  ]);
  const names = ['www.example.com', 'edge.cdn.net', 'e7.cdn.net'];
  t.deepEqual(
    parseNames(message)?.map(({ address, ttlS, names: n }) => ({ address: address.text, ttlS, names: n })),
    [
      { address: '192.0.2.1', ttlS: 30, names },
      { address: '2001:db8::1', ttlS: 20, names },
    ],
  );
});

test('compressed names, and a loop of CNAMEs', (t) => {
  const query = encodeQuery(7, 'a.example.com', 4)!;
  query.writeUInt16BE(0x8180, 2);
  query.writeUInt16BE(1, 6);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 5]);
  t.deepEqual(parseNames(Buffer.concat([query, record]))?.[0]?.names, ['a.example.com']);
  const loop = answer('a.com', [
    { owner: 'a.com', cname: 'b.com' },
    { owner: 'b.com', cname: 'a.com' },
    { owner: 'b.com', a: '192.0.2.1' },
  ]);
  t.deepEqual(parseNames(loop)?.[0]?.names, ['a.com', 'b.com']);
});

test('what is no answer, or malformed, teaches nothing', (t) => {
  const good = answer('a.com', [{ owner: 'a.com', a: '192.0.2.1' }]);
  t.is(parseNames(good)?.length, 1);
  t.is(parseNames(answer('a.com', [{ owner: 'a.com', a: '192.0.2.1' }], 0x0100)), null, 'a query');
  t.is(parseNames(answer('a.com', [], 0x8183)), null, 'NXDOMAIN');
  t.is(parseNames(answer('a.com', [], 0xa180)), null, 'another opcode');
  for (let n = 0; n < good.length; n++) t.is(parseNames(good.subarray(0, n)), null, `cut at ${n}`);
  const selfPointing = Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
  t.is(parseNames(selfPointing), null);
  const hostile = Buffer.from(good);
  hostile[13] = 0x1b;
  t.is(parseNames(hostile), null, 'no escape sequences for logs');
});

test('any bytes give an answer or null, and no name that is longer than names are', (t) => {
  const good = answer('www.example.com', [
    { owner: 'www.example.com', cname: 'b.net' },
    { owner: 'b.net', a: '192.0.2.1' },
  ]);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }), (changes) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      for (const { names } of parseNames(bytes) ?? []) for (const name of names) if (name.length > 255) return false;
      return true;
    }),
  );
  t.pass();
});

test('names are known for as long as their TTL, and at least a minute', (t) => {
  const table = new DomainTable();
  table.learn(0, answer('a.com', [{ owner: 'a.com', a: '192.0.2.1', ttl: 5 }]));
  table.learn(0, answer('b.com', [{ owner: 'b.com', a: '192.0.2.1', ttl: 600 }]));
  const at = parseIp('192.0.2.1');
  t.deepEqual(table.names(59 * S, at), ['b.com', 'a.com']);
  t.deepEqual(table.names(61 * S, at), ['b.com']);
  t.deepEqual(table.names(601 * S, at), []);
  t.is(table.size, 0);
  table.note(0, at, 'C.com.');
  t.deepEqual(table.names(1, at), ['c.com'], 'a proxy asked for it');
});

test('the table is bounded: addresses and names that were told longest ago go first', (t) => {
  const table = new DomainTable();
  const told: string[] = [];
  table.onLearnt = (address) => told.push(address.text);
  for (let i = 0; i <= MAX_ADDRESSES; i++) {
    table.note(i, parseIp(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`), 'a.com');
    if (i === 1) table.note(i, parseIp('10.0.0.0'), 'b.com');
  }
  t.is(table.size, MAX_ADDRESSES);
  t.is(table.counters.evicted, 1);
  t.deepEqual(table.names(5_000, parseIp('10.0.0.1')), [], 'told before 10.0.0.0 was told again');
  t.deepEqual(table.names(5_000, parseIp('10.0.0.0')), ['b.com', 'a.com']);
  t.is(told.length, MAX_ADDRESSES + 2);
  const one = parseIp('192.0.2.1');
  for (let i = 0; i < 40; i++) table.note(i, one, `n${i}.com`);
  const names = table.names(100, one);
  t.is(names.length, MAX_NAMES);
  t.is(names[0], 'n39.com');
});

test('a malformed answer is counted', (t) => {
  const table = new DomainTable();
  table.learn(0, new Uint8Array(5));
  t.is(table.counters.malformed, 1);
  t.is(table.size, 0);
});
