/** ADD_ADDR by somebody else (RFC 7430 2.3, RFC 8684 3.4.1): without the keys it says nothing. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { addAddrHmac } from '../../../src/core/mptcp/keys.js';
import { MPO, writeAddAddr } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript } from '../../support/mptcp-script.js';

const ADDRESS = parseIp('203.0.113.5');
const ADD_ADDR_SUBTYPE = 3;

function announce(script: MptcpScript, hmac: Uint8Array) {
  return script.p0.exchange({
    options: (out, o) => writeAddAddr(out, o, { echo: false, addressId: 9, address: ADDRESS, port: -1, hmac }),
  });
}

test('ADD_ADDR with a wrong HMAC: no echo, no event, nothing learnt', (t) => {
  const script = MptcpScript.joined(1);
  const { keys } = script.c;
  script.events('');
  const right = addAddrHmac(script.env, keys.remote!, keys.local, 9, ADDRESS, -1);
  for (const at of [0, 7]) {
    const wrong = right.map((b, i) => (i === at ? b ^ 1 : b));
    t.false(announce(script, wrong).some((s) => (s.present & MPO.addAddr) !== 0));
  }
  // Right, but for another address id, and in the other direction.
  announce(script, addAddrHmac(script.env, keys.remote!, keys.local, 8, ADDRESS, -1));
  announce(script, addAddrHmac(script.env, keys.local, keys.remote!, 9, ADDRESS, -1));
  t.deepEqual(script.events('address-announced'), []);
  t.is(script.c.addresses.remoteEndpoint(9), undefined);
  t.is(script.counter('MPTcpExtAddAddrHMacFailure'), 4);
  t.true(announce(script, right).some((s) => (s.present & MPO.addAddr) !== 0));
});

test('ADD_ADDR without an HMAC and without the echo flag is not an ADD_ADDR', (t) => {
  const script = MptcpScript.joined(1);
  script.events('');
  const sent = script.p0.exchange({
    options: (out, o) => {
      out.set([30, 8, ADD_ADDR_SUBTYPE << 4, 9, ...ADDRESS.bytes], o);
      return o + 8;
    },
  });
  t.false(sent.some((s) => (s.present & MPO.addAddr) !== 0));
  t.deepEqual(script.events('address-announced'), []);
  t.is(script.c.addresses.remoteEndpoint(9), undefined);
});

test('ADD_ADDR in a segment outside the window is not read', (t) => {
  const script = MptcpScript.joined(1);
  const { keys } = script.c;
  const hmac = addAddrHmac(script.env, keys.remote!, keys.local, 9, ADDRESS, -1);
  script.p0.exchange({
    seq: 2 ** 30,
    options: (out, o) => writeAddAddr(out, o, { echo: false, addressId: 9, address: ADDRESS, port: -1, hmac }),
  });
  t.is(script.c.addresses.remoteEndpoint(9), undefined);
});
