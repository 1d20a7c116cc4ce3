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
