/** Address ids (RFC 8684 3.2, 3.4): assigned, kept, recycled. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { AddressBook, MAX_ADDRESSES } from '../../../src/core/mptcp/addresses.js';

const lease = (i: number) => parseIp(`10.7.${i >> 8}.${i & 255}`);

test('a connection that outlives thousands of leases never runs out of ids, and keeps those in use', (t) => {
  const book = new AddressBook();
  book.setInitial(parseIp('192.0.2.1'), { address: parseIp('198.51.100.1'), port: 443 });
  const kept = book.localId(parseIp('203.0.113.20'));
  let current = -1;
  let most = 0;
  for (let i = 0; i < 5000; i++) {
    current = book.localId(lease(i), (id) => id === kept || id === current);
    t.true(current > 0 && current !== kept);
    most = Math.max(most, book.localCount);
  }
  t.true(most <= MAX_ADDRESSES, `${most} remembered`);
  t.is(book.localId(parseIp('203.0.113.20')), kept);
  t.is(book.localId(parseIp('192.0.2.1')), 0);
});

test('an id that comes back with another address names that one', (t) => {
  const book = new AddressBook();
  book.observe(5, { address: lease(1), port: 40_000 });
  book.observe(5, { address: lease(2), port: 40_000 });
  t.is(book.remoteEndpoint(5)!.address.text, lease(2).text);
  book.learn(6, { address: lease(3), port: 443 });
  book.observe(6, { address: lease(4), port: 40_000 });
  t.is(book.remoteEndpoint(6)!.address.text, lease(3).text, 'what was announced counts more than what was seen');
});

test('of the peer’s addresses 32 are kept: what more it announces, or joins from, is not', (t) => {
  const book = new AddressBook();
  const initial = { address: parseIp('198.51.100.1'), port: 443 };
  book.setInitial(parseIp('192.0.2.1'), initial);
  for (let id = 1; id < MAX_ADDRESSES; id++) book.observe(id, { address: lease(id), port: 40_000 });
  book.observe(100, { address: lease(100), port: 40_000 });
  t.is(book.remoteEndpoint(100), undefined);
  t.is(book.learn(101, { address: lease(101), port: 443 }), 'full');
  t.is(book.remoteIds().length, MAX_ADDRESSES - 1);
  book.observe(5, { address: lease(200), port: 40_000 });
  t.is(book.remoteEndpoint(5)!.address.text, lease(200).text, 'those that are known may change');
});

test('id 0 is the initial address, of either end', (t) => {
  const book = new AddressBook();
  const initial = { address: parseIp('198.51.100.1'), port: 443 };
  book.setInitial(parseIp('192.0.2.1'), initial);
  t.is(book.localId(parseIp('192.0.2.1')), 0);
  t.is(book.remoteIdOf(initial), 0);
  t.deepEqual(book.remoteEndpoint(0), initial);
  t.true(book.forgetRemote(0));
  t.is(book.remoteIdOf(initial), -1);
});
