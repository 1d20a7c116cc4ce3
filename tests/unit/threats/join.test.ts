/** MP_JOIN by somebody else (RFC 6181 2 and 3, RFC 7430 2, RFC 8684 5): forged, replayed, by a third party. */
import test from 'ava';
import { joinHmac } from '../../../src/core/mptcp/keys.js';
import {
  MPO,
  RST_REASON,
  writeDss,
  writeJoinAck,
  writeJoinSyn,
  writeJoinSynAck,
} from '../../../src/core/wire/mptcp-options.js';
import { TCP_RST, TCP_SYN } from '../../../src/core/wire/segment.js';
import { putSynOptions } from '../../../src/core/wire/tcp.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { type Caught, drain, inject, injectBytes, packet, type Raw } from '../../support/raw-host.js';

const MALLORY = '203.0.113.66';
const US = '10.0.1.1';
const NONCE = 0x01020304;

/** An MPTCP connection of the scripted peer, who is the client; joins come to port 40000. */
function established() {
  const script = MptcpScript.connected({ side: 'passive' });
  script.prove();
  return script;
}

const base: Pick<Raw, 'from' | 'fromPort' | 'to' | 'toPort'> = {
  from: MALLORY,
  fromPort: 6666,
  to: US,
  toPort: 40_000,
};

function joinSyn(token: number, more: Partial<Raw> = {}): Raw {
  const options = (out: Uint8Array, o: number) =>
    writeJoinSyn(out, putSynOptions(out, o, 1460, true, true, 1, 0, 7), false, 5, token, NONCE);
  return { ...base, flags: 'S', seq: 100, options, ...more };
}

/** The answer to the SYN of a join. */
function synAckOf(script: MptcpScript, syn: Raw): Caught {
  inject(script.engine, script.nowUs, 0, syn);
  const [answer] = drain(script.engine, script.nowUs);
  if (answer === undefined || answer.seg.mptcp.joinLength !== 16) throw new Error('no SYN/ACK with MP_JOIN');
  return answer;
}

test('forged MP_JOIN: who knows the token but not the keys is reset at the third packet', (t) => {
  const script = established();
  const { engine, c } = script;
  const answer = synAckOf(script, joinSyn(c.keys.localToken));
  const guess = joinHmac(script.env, new Uint8Array(8), c.keys.local, NONCE, answer.seg.mptcp.joinNonce);
  const third: Raw = {
    ...base,
    flags: '.',
    seq: 101,
    ack: answer.seg.seq + 1,
    options: (out, o) => writeJoinAck(out, o, guess),
  };
  inject(engine, script.nowUs, 0, third);
  const [rst] = drain(engine, script.nowUs);
  t.is(rst!.seg.flags & TCP_RST, TCP_RST);
  t.is(rst!.seg.mptcp.tcprstReason, RST_REASON.mptcpSpecific);
  t.is(script.counter('MPTcpExtMPJoinAckHMacFailure'), 1);
  t.is(c.subflows.length, 1);
  t.is(c.state, 'established');
});

test('one guess per nonce: after a wrong HMAC the right one comes too late', (t) => {
  const script = established();
  const { engine, c } = script;
  const answer = synAckOf(script, joinSyn(c.keys.localToken));
  const right = joinHmac(script.env, c.keys.remote!, c.keys.local, NONCE, answer.seg.mptcp.joinNonce);
  for (const hmac of [right.map((b) => b ^ 1), right]) {
    const options = (out: Uint8Array, o: number) => writeJoinAck(out, o, hmac);
    inject(engine, script.nowUs, 0, { ...base, flags: '.', seq: 101, ack: answer.seg.seq + 1, options });
    for (const p of drain(engine, script.nowUs)) t.is(p.seg.flags & TCP_RST, TCP_RST);
  }
  t.is(c.subflows.length, 1);
  t.is(script.counter('MPTcpExtMPJoinAckRx'), 0);
});

test('a third packet without MP_JOIN, or with options of an established subflow only, opens nothing', (t) => {
  const script = established();
  const { engine, c } = script;
  for (const [i, options] of [
    undefined,
    (out: Uint8Array, o: number) => writeDss(out, o, 8, 0, 0, 0, 0, 0, 0, 0, -1, false),
  ].entries()) {
    const from = { fromPort: 7000 + i };
    const answer = synAckOf(script, joinSyn(c.keys.localToken, from));
    const third = { ...base, ...from, flags: '.', seq: 101, ack: answer.seg.seq + 1 };
    inject(engine, script.nowUs, 0, options === undefined ? third : { ...third, options });
    drain(engine, script.nowUs);
    t.false(c.subflows.some((sf) => sf.role === 'join' && sf.isConfirmed));
  }
  t.is(script.counter('MPTcpExtMPJoinAckMissing'), 2);
});

test('replayed MP_JOIN: the same packets again prove nothing, because our nonce is another', (t) => {
  const script = established();
  const { engine, c } = script;
  const syn = packet(joinSyn(c.keys.localToken));
  injectBytes(engine, script.nowUs, 0, syn);
  const { seg } = drain(engine, script.nowUs)[0]!;
  const hmac = joinHmac(script.env, c.keys.remote!, c.keys.local, NONCE, seg.mptcp.joinNonce);
  const third = packet({
    ...base,
    flags: '.',
    seq: 101,
    ack: seg.seq + 1,
    options: (out, o) => writeJoinAck(out, o, hmac),
  });
  injectBytes(engine, script.nowUs, 0, third);
  drain(engine, script.nowUs);
  t.is(c.subflows.length, 2);
  c.closeSubflow(script.nowUs, c.subflows[1]!.id, 'reset');
  drain(engine, script.nowUs);
  t.is(c.subflows.length, 1);

  script.nowUs += 1_000_000;
  injectBytes(engine, script.nowUs, 0, syn);
  const again = drain(engine, script.nowUs)[0]!.seg;
  t.not(again.mptcp.joinNonce, seg.mptcp.joinNonce);
  injectBytes(engine, script.nowUs, 0, third);
  // Even with our new ISN, which only who sees our answer can know.
  const adapted = {
    ...base,
    flags: '.',
    seq: 101,
    ack: again.seq + 1,
    options: (out: Uint8Array, o: number) => writeJoinAck(out, o, hmac),
  };
  inject(engine, script.nowUs, 0, adapted);
  drain(engine, script.nowUs);
  t.is(c.subflows.length, 1);
  t.is(script.counter('MPTcpExtMPJoinAckHMacFailure'), 1);
});

test('third-party MP_JOIN: a SYN in another host’s name makes us send it one packet, and no more', (t) => {
  const script = established();
  const { c } = script;
  synAckOf(script, joinSyn(c.keys.localToken, { from: '198.51.100.7' }));
  // The third party cannot see the answer: a guess at our ISN is refused, and its target is not bothered again.
  for (let guess = 0; guess < 100; guess++) {
    const from = { ...base, from: '198.51.100.7' };
    inject(script.engine, script.nowUs, 0, { ...from, flags: '.', seq: 101, ack: guess * 40_000_003 });
  }
  for (const p of drain(script.engine, script.nowUs)) t.is(p.seg.flags & TCP_RST, TCP_RST);
  t.deepEqual(
    script.advance(200_000_000).filter((s) => s.flags.includes('S')),
    [],
  );
  t.is(c.subflows.length, 1);
});

test('a join of ours that somebody else answers is reset: HMAC-B is wrong', (t) => {
  const script = MptcpScript.joined(1);
  const { c } = script;
  c.join(script.nowUs, { linkId: 1, localAddress: c.host.link(1)!.addresses[0]!, remote: c.remote });
  const [syn] = drain(script.engine, script.nowUs);
  t.is(syn!.seg.flags & TCP_SYN, TCP_SYN);
  const forged: Raw = {
    from: c.remote.address.text,
    fromPort: syn!.seg.dstPort,
    to: '10.0.2.1',
    toPort: syn!.seg.srcPort,
    flags: 'S.',
    seq: 1,
    ack: syn!.seg.seq + 1,
    options: (out, o) => writeJoinSynAck(out, o, false, 1, new Uint8Array(20), 5),
  };
  inject(script.engine, script.nowUs, 1, forged);
  const [rst] = drain(script.engine, script.nowUs);
  t.is(rst!.seg.flags & TCP_RST, TCP_RST);
  t.is(script.counter('MPTcpExtMPJoinSynAckHMacFailure'), 1);
  t.is(c.subflows.filter((sf) => sf.isConfirmed).length, 1);
});

test('a join to nobody: an unknown token is answered with a RST that says MPTCP', (t) => {
  const script = established();
  inject(script.engine, script.nowUs, 0, joinSyn((script.c.keys.localToken ^ 1) >>> 0));
  const [rst] = drain(script.engine, script.nowUs);
  t.is(rst!.seg.flags & TCP_RST, TCP_RST);
  t.not(rst!.seg.mptcp.present & MPO.tcprst, 0);
  t.is(script.counter('MPTcpExtMPJoinNoTokenFound'), 1);
});
