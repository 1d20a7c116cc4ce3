/** MP_FASTCLOSE (RFC 8684 3.5) and MP_TCPRST (3.6). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { tcprstFlags } from '../../../src/core/mptcp/options-out.js';
import {
  MPO,
  RST_REASON,
  TCPRST_T_TRANSIENT,
  writeDss,
  writeFastclose,
  writeJoinAck,
  writeJoinSyn,
  writeTcprst,
} from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { type Caught, drain, inject, type Raw } from '../../support/raw-host.js';

const S = 1_000_000;

const isReset = (flags: string) => flags.includes('R');

/** MP_FASTCLOSE with the key that it takes, on an ACK or a RST. */
function fastclose(script: MptcpScript, flags: '.' | 'R') {
  const { localHi, localLo } = script.c.keys;
  return script.p1.exchange({ flags, options: (out, o) => writeFastclose(out, o, localHi, localLo) });
}

test('MP_FASTCLOSE on an ACK: a RST on every subflow, and the connection is over at once', (t) => {
  const script = MptcpScript.joined(2);
  script.events('');
  const sent = fastclose(script, '.');
  t.deepEqual(sent.map((s) => [s.path, isReset(s.flags)]).sort(), [
    [0, true],
    [1, true],
  ]);
  t.is(script.c.state, 'closed');
  t.like(script.events('connection-closed')[0], { why: 'fastclose received' });
});

test('MP_FASTCLOSE on a RST: the other subflows are reset, and the connection is over at once', (t) => {
  const script = MptcpScript.joined(2);
  script.events('');
  const sent = fastclose(script, 'R');
  t.deepEqual(
    sent.map((s) => [s.path, isReset(s.flags)]),
    [[0, true]],
  );
  t.is(script.c.state, 'closed');
  t.is(script.events('connection-closed').length, 1);
});

test('abort: a RST with MP_FASTCLOSE and the peer’s key on every subflow, and the state is gone', (t) => {
  const script = MptcpScript.joined(2);
  const { c, nowUs } = script;
  c.abort(nowUs);
  const sent = drain(script.engine, nowUs);
  t.deepEqual(sent.map((p) => p.linkId).sort(), [0, 1]);
  for (const { seg } of sent) {
    t.is(seg.flags & 4, 4);
    t.not(seg.mptcp.present & MPO.fastclose, 0);
    t.deepEqual([seg.mptcp.fastcloseKeyHi, seg.mptcp.fastcloseKeyLo], [c.keys.remoteHi, c.keys.remoteLo]);
  }
  t.is(c.state, 'closed');
  t.deepEqual(script.engine.connections(), []);
  // Nothing is left to repeat; whatever comes now gets a plain RST.
  t.deepEqual(script.advance(100 * S), []);
  t.true(isReset(script.p0.exchange({ len: 10, dss: { ack: 2, dsn: 2 } })[0]!.flags));
});

test('fastcloses that cross: the one that comes after ours is answered with a RST at most', (t) => {
  const script = MptcpScript.joined(2);
  const { c } = script;
  const { localHi, localLo } = c.keys;
  c.abort(script.nowUs);
  script.out();
  const sent = script.p1.exchange({ options: (out, o) => writeFastclose(out, o, localHi, localLo) });
  t.true(sent.length === 1 && isReset(sent[0]!.flags));
  t.is(c.state, 'closed');
});

const carries = (present: number) => (present & MPO.fastclose) !== 0;

test('abort by ACK: MP_FASTCLOSE on one subflow, which waits for the peer’s RST; a plain RST on the others', (t) => {
  const script = MptcpScript.joined(2);
  const { c } = script;
  c.abort(script.nowUs, 'ack');
  const sent = script.out();
  t.deepEqual(sent.map((s) => [s.path, isReset(s.flags), carries(s.present)]).sort(), [
    [0, false, true],
    [1, true, false],
  ]);
  t.is(c.state, 'closed');
  // Data that was on its way is not wanted any more, and not acknowledged.
  t.deepEqual(script.p0.exchange({ len: 10, dss: { ack: 2, dsn: 2 } }), []);
  t.deepEqual(script.p0.exchange({ flags: 'R', seq: 2 }), []);
  t.deepEqual(script.engine.connections(), []);
  t.deepEqual(script.advance(100 * S), []);
});

test('abort by ACK that nobody answers: said again after each RTO, three times, then RST with MP_FASTCLOSE', (t) => {
  const script = MptcpScript.joined(2);
  script.c.abort(script.nowUs, 'ack');
  const said = [...script.out(), ...script.advance(100 * S)].filter((s) => carries(s.present));
  t.deepEqual(
    said.map((s) => isReset(s.flags)),
    [false, false, false, false, true],
  );
  const waits = said.slice(1).map((s, i) => s.atUs - said[i]!.atUs);
  t.true(
    waits.every((wait, i) => i === 0 || wait > waits[i - 1]!),
    `${waits}`,
  );
  t.deepEqual(script.engine.connections(), []);
});

test('abort by ACK that crosses the peer’s MP_FASTCLOSE: a RST ends both, a wrong key does not', (t) => {
  const script = MptcpScript.joined(2);
  const { localHi, localLo } = script.c.keys;
  script.c.abort(script.nowUs, 'ack');
  script.out();
  t.deepEqual(script.p0.exchange({ options: (out, o) => writeFastclose(out, o, localHi ^ 1, localLo) }), []);
  t.is(script.engine.connections().length, 1);
  const sent = script.p0.exchange({ options: (out, o) => writeFastclose(out, o, localHi, localLo) });
  t.deepEqual(
    sent.map((s) => [s.path, isReset(s.flags)]),
    [[0, true]],
  );
  t.deepEqual(script.engine.connections(), []);
});

test('MP_FASTCLOSE and MP_TCPRST in one RST, as Linux sends them, are both read', (t) => {
  const script = MptcpScript.joined(2);
  const { localHi, localLo } = script.c.keys;
  script.p1.exchange({
    flags: 'R',
    options: (out, o) => writeTcprst(out, writeFastclose(out, o, localHi, localLo), 0, 0),
  });
  t.is(script.c.state, 'closed');
  t.is(script.counter('MPTcpExtMPRstRx'), 1);
});

test('a RST is final unless its MP_TCPRST says transient; unassigned flags do not count', (t) => {
  for (const { flags, isPermanent } of [
    { flags: 0, isPermanent: true },
    { flags: 0x0e, isPermanent: true },
    { flags: TCPRST_T_TRANSIENT, isPermanent: false },
    { flags: 0x0f, isPermanent: false },
  ]) {
    const script = MptcpScript.joined(2);
    script.events('');
    script.p1.exchange({ flags: 'R', options: (out, o) => writeTcprst(out, o, flags, RST_REASON.lackOfResources) });
    t.like(script.events('subflow-closed')[0], { why: 'reset (reason 2)', isPermanent });
  }
});

test('every reason that a RST can give is counted by itself and told with the end of the subflow, unknown ones too', (t) => {
  for (const reason of [...Object.values(RST_REASON), 7, 255]) {
    const script = MptcpScript.joined(2);
    script.events('');
    script.p1.exchange({ flags: 'R', options: (out, o) => writeTcprst(out, o, 0, reason) });
    const why = reason === RST_REASON.unspecified ? 'reset' : `reset (reason ${reason})`;
    t.like(script.events('subflow-closed')[0], { why, isPermanent: true });
    t.is(script.counter('MPTcpExtMPRstRx'), 1);
    t.is(script.counter(`rst_rx_reason_${reason <= 6 ? reason : 'unknown'}`), 1);
    t.is(script.c.state, 'established');
  }
});

test('of the reasons that we give, those of resources, room and speed are transient', (t) => {
  const flags = Object.values(RST_REASON).map((reason) => tcprstFlags(reason));
  t.deepEqual(flags, [0, 0, 1, 0, 1, 1, 0]);
});

// ---- which reason for what

const JOIN: Pick<Raw, 'from' | 'fromPort' | 'to' | 'toPort'> = {
  from: '203.0.113.9',
  fromPort: 1234,
  to: '10.0.1.1',
  toPort: 40_000,
};

function joinSyn(script: MptcpScript, token: number): Caught[] {
  const options = (out: Uint8Array, o: number) => writeJoinSyn(out, o, false, 5, token, 1);
  inject(script.engine, script.nowUs, 0, { ...JOIN, flags: 'S', seq: 1, options });
  return drain(script.engine, script.nowUs);
}

/** Options of the RST that answers what each case does. */
const reasons: Record<string, { reason: number; cause: (script: MptcpScript) => Caught[] }> = {
  'unknown token': {
    reason: RST_REASON.mptcpSpecific,
    cause: (script) => joinSyn(script, (script.c.keys.localToken ^ 1) >>> 0),
  },
  'a join that the limit forbids': {
    reason: RST_REASON.prohibited,
    cause: (script) => {
      Object.assign(script.c.settings, { maxSubflows: 1 });
      return joinSyn(script, script.c.keys.localToken);
    },
  },
  'wrong HMAC in the third packet': {
    reason: RST_REASON.mptcpSpecific,
    cause: (script) => {
      const [answer] = joinSyn(script, script.c.keys.localToken);
      const options = (out: Uint8Array, o: number) => writeJoinAck(out, o, new Uint8Array(20));
      inject(script.engine, script.nowUs, 0, { ...JOIN, flags: '.', seq: 2, ack: answer!.seg.seq + 1, options });
      return drain(script.engine, script.nowUs);
    },
  },
  'no MP_JOIN in the third packet': {
    reason: RST_REASON.mptcpSpecific,
    cause: (script) => {
      const [answer] = joinSyn(script, script.c.keys.localToken);
      inject(script.engine, script.nowUs, 0, { ...JOIN, flags: '.', seq: 2, ack: answer!.seg.seq + 1 });
      return drain(script.engine, script.nowUs);
    },
  },
  'no MP_JOIN in the SYN/ACK': {
    reason: RST_REASON.mptcpSpecific,
    cause: (script) => {
      const { c } = script;
      c.join(script.nowUs, { linkId: 1, localAddress: parseIp('10.0.2.1'), remote: c.remote });
      const { seg } = drain(script.engine, script.nowUs)[0]!;
      inject(script.engine, script.nowUs, 1, {
        from: c.remote.address.text,
        fromPort: seg.dstPort,
        to: '10.0.2.1',
        toPort: seg.srcPort,
        flags: 'S.',
        seq: 7,
        ack: seg.seq + 1,
      });
      return drain(script.engine, script.nowUs);
    },
  },
  'a DSS checksum that was not agreed': {
    reason: RST_REASON.mptcpSpecific,
    cause: (script) => {
      const { idsn } = script.peerKeys;
      const options = (out: Uint8Array, o: number) =>
        writeDss(out, o, 0, 0, 0, 8, idsn.hi, idsn.lo + 2, script.p0.nxt, 10, 0x1234, false);
      script.p0.send({ len: 10, options });
      return drain(script.engine, script.nowUs);
    },
  },
  'a subflow that an operator ends': {
    reason: RST_REASON.prohibited,
    cause: (script) => {
      script.c.closeSubflow(script.nowUs, script.c.subflows[0]!.id, 'reset');
      return drain(script.engine, script.nowUs);
    },
  },
};

for (const [name, { reason, cause }] of Object.entries(reasons)) {
  test(`the RST says why: ${name}`, (t) => {
    const script = MptcpScript.connected({ side: 'passive' });
    script.prove();
    const rst = cause(script).find((p) => (p.seg.flags & 4) !== 0);
    t.not(rst, undefined);
    t.not(rst!.seg.mptcp.present & MPO.tcprst, 0);
    t.is(rst!.seg.mptcp.tcprstReason, reason);
  });
}

test('a SYN where nobody listens gets a RST without MPTCP options', (t) => {
  const script = MptcpScript.connected();
  inject(script.engine, script.nowUs, 0, { ...JOIN, toPort: 9, flags: 'S', seq: 5 });
  const [rst] = drain(script.engine, script.nowUs);
  t.is(rst!.seg.flags & 4, 4);
  t.is(rst!.seg.mptcp.present, 0);
});
