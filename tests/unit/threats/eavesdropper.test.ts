/**
 * Somebody on the path has seen the handshake, and so both keys (RFC 6181 5, RFC 7430 2): between two mptun ends the keys
 * that count come from TLS (DESIGN: join keys), and what was done under the others is undone. A kernel keeps to RFC 8684.
 */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ExportedKeys } from '../../../src/core/engine/api.js';
import { addAddrHmac, joinHmac } from '../../../src/core/mptcp/keys.js';
import { MPO, writeAddAddr, writeFastclose, writeJoinAck, writeJoinSyn } from '../../../src/core/wire/mptcp-options.js';
import { TCP_RST } from '../../../src/core/wire/segment.js';
import { putSynOptions } from '../../../src/core/wire/tcp.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { drain, inject, type Raw } from '../../support/raw-host.js';

const bytes = (n: number, fill: number) => new Uint8Array(n).fill(fill);
const EXPORTED: ExportedKeys = {
  local: bytes(32, 1),
  remote: bytes(32, 2),
  fastcloseLocal: bytes(8, 3),
  fastcloseRemote: bytes(8, 4),
};
const NONCE = 0x0badcafe;
const BASE: Pick<Raw, 'from' | 'fromPort' | 'to' | 'toPort'> = {
  from: '203.0.113.66',
  fromPort: 6666,
  to: '10.0.1.1',
  toPort: 40_000,
};
const ADDRESS = parseIp('203.0.113.5');

function established() {
  const script = MptcpScript.connected({ side: 'passive' });
  script.prove();
  return script;
}

/** The first two packets of a join by the eavesdropper. Returns what finishes it, with the keys of the handshake. */
function beginJoin(script: MptcpScript): () => void {
  const { engine, c } = script;
  inject(engine, script.nowUs, 0, {
    ...BASE,
    flags: 'S',
    seq: 100,
    options: (out, o) =>
      writeJoinSyn(out, putSynOptions(out, o, 1460, true, false, 0, 0, 7), false, 5, c.keys.localToken, NONCE),
  });
  const { seg } = drain(engine, script.nowUs)[0]!;
  const { joinNonce } = seg.mptcp;
  return () => {
    const hmac = joinHmac(script.env, c.keys.remote!, c.keys.local, NONCE, joinNonce);
    const options = (out: Uint8Array, o: number) => writeJoinAck(out, o, hmac);
    inject(engine, script.nowUs, 0, { ...BASE, flags: '.', seq: 101, ack: seg.seq + 1, options });
  };
}

function announce(script: MptcpScript): boolean {
  const { keys } = script.c;
  const hmac = addAddrHmac(script.env, keys.remote!, keys.local, 9, ADDRESS, -1);
  const sent = script.p0.exchange({
    options: (out, o) => writeAddAddr(out, o, { echo: false, addressId: 9, address: ADDRESS, port: -1, hmac }),
  });
  return sent.some((s) => (s.present & MPO.addAddr) !== 0);
}

test('with a kernel peer a join by the keys of the handshake is good, as RFC 8684 has it', (t) => {
  const script = established();
  beginJoin(script)();
  drain(script.engine, script.nowUs);
  t.is(script.c.subflows.filter((sf) => sf.isConfirmed).length, 2);
});

test('keys agreed in TLS: a JOIN by who knows both keys of the handshake is refused', (t) => {
  const script = established();
  script.c.useExportedKeys(script.nowUs, EXPORTED);
  beginJoin(script)();
  const [rst] = drain(script.engine, script.nowUs);
  t.is(rst!.seg.flags & TCP_RST, TCP_RST);
  t.is(script.c.subflows.length, 1);
  t.is(script.counter('MPTcpExtMPJoinAckHMacFailure'), 1);
});

test('a JOIN that overtakes the agreement is provisional: reset when the keys are agreed', (t) => {
  const script = established();
  beginJoin(script)();
  drain(script.engine, script.nowUs);
  t.is(script.c.subflows.length, 2);
  script.c.useExportedKeys(script.nowUs, EXPORTED);
  const sent = drain(script.engine, script.nowUs);
  t.true(sent.some((p) => (p.seg.flags & TCP_RST) !== 0));
  t.is(script.c.subflows.length, 1);
  t.is(script.c.state, 'established');
});

test('a JOIN that was half done at the agreement cannot be finished with the old keys', (t) => {
  const script = established();
  const finish = beginJoin(script);
  script.c.useExportedKeys(script.nowUs, EXPORTED);
  finish();
  drain(script.engine, script.nowUs);
  t.is(script.c.subflows.length, 1);
});

test('keys agreed in TLS: an ADD_ADDR by the keys of the handshake is refused', (t) => {
  const script = established();
  script.c.useExportedKeys(script.nowUs, EXPORTED);
  t.false(announce(script));
  t.is(script.c.addresses.remoteEndpoint(9), undefined);
  t.is(script.counter('MPTcpExtAddAddrHMacFailure'), 1);
});

test('an ADD_ADDR that overtakes the agreement is forgotten then, and ours are said again under the new keys', (t) => {
  const script = established();
  const { c } = script;
  t.true(announce(script));
  c.announce(script.nowUs, { address: parseIp('10.0.9.9') });
  script.out();
  script.events('');
  c.useExportedKeys(script.nowUs, EXPORTED);
  t.is(c.addresses.remoteEndpoint(9), undefined);
  t.is(script.events('address-removed').length, 1);
  script.nowUs += 10_000;
  const sent = drain(script.engine, script.nowUs).flatMap((p) => p.seg.mptcp.addAddrs);
  t.deepEqual(
    sent.map((a) => a.hmac),
    [addAddrHmac(script.env, EXPORTED.local, EXPORTED.remote, sent[0]!.addressId, parseIp('10.0.9.9'), -1)],
  );
});

test('keys agreed in TLS: an MP_FASTCLOSE with the key of the handshake closes nothing', (t) => {
  for (const isAgreed of [false, true]) {
    const script = established();
    const { c, p0 } = script;
    if (isAgreed) c.useExportedKeys(script.nowUs, EXPORTED);
    p0.exchange({ options: (out, o) => writeFastclose(out, o, c.keys.localHi, c.keys.localLo) });
    t.is(c.state, isAgreed ? 'established' : 'closed');
  }
  const script = established();
  script.c.useExportedKeys(script.nowUs, EXPORTED);
  script.p0.exchange({ options: (out, o) => writeFastclose(out, o, 0x03030303, 0x03030303) });
  t.is(script.c.state, 'closed');
});
