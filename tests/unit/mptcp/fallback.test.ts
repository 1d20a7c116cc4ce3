/** Fallback, MP_FAIL and the infinite mapping (RFC 8684 3.7), against a scripted peer and through middleboxes. */
import test from 'ava';
import { dsnHi, dsnLo } from '../../../src/core/base/seq.js';
import { writeFail } from '../../../src/core/wire/mptcp-options.js';
import { TCP_RST } from '../../../src/core/wire/segment.js';
import { HandJoin } from '../../support/hand-join.js';
import { stripped } from '../../support/middlebox-cases.js';
import { MptcpScript } from '../../support/mptcp-script.js';
import { streamOf, throughBoxes } from '../../support/through-boxes.js';

const S = 1_000_000;
const MIDDLEBOX = 6;
const SHORT = 20_000;

/** MP_FAIL of the peer's, about our data from `dsn` on. */
const failing = (s: MptcpScript, dsn: number) => (out: Uint8Array, o: number) =>
  writeFail(out, o, dsnHi(dsn, s.c.keys.idsnLocal), dsnLo(dsn, s.c.keys.idsnLocal));

function proven(options: Parameters<typeof MptcpScript.connected>[0] = {}): MptcpScript {
  const s = MptcpScript.connected(options);
  s.prove();
  return s;
}

/** All new data goes over the second path. */
function onSecondPath(options: Parameters<typeof MptcpScript.joined>[1] = {}): MptcpScript {
  const s = MptcpScript.joined(2, options);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  return s;
}

test('a wrong checksum on one of several subflows: RST with MP_FAIL, and the data is not DATA_ACKed', (t) => {
  const s = MptcpScript.joined(2, { checksum: true });
  const [rst] = s.p1.exchange({ len: 100, dss: { ack: 2, dsn: 2, checksum: 1 } });
  t.like(rst, { path: 1, flags: 'R.', fail: 2, tcprst: MIDDLEBOX });
  t.is(s.received, 1);
  const [ack] = s.p0.exchange({ len: 10, dss: { ack: 2, dsn: 102 } });
  t.is(ack?.dss?.ack ?? s.c.receiver.rcvNxt, 2);
  t.is(s.counter('MPTcpExtDataCsumErr'), 1);
});

test('RST with MP_FAIL received: what the subflow had delivered goes elsewhere at once, not after a timeout', (t) => {
  const s = onSecondPath();
  t.true(s.write(3000).every(({ path }) => path === 1));
  s.p1.ack(2);
  const sent = s.p1.exchange({ flags: 'R.', options: failing(s, 2) });
  sent.push(...s.advance(1000));
  const again = sent.filter(({ path, len }) => path === 0 && len > 0);
  t.is(again[0]?.dss?.dsn, 2);
  t.is(
    again.reduce((sum, { len }) => sum + len, 0),
    3000,
  );
  t.is(s.counter('MPTcpExtMPFailRx'), 1);
});

test('a wrong checksum on the only subflow: MP_FAIL on an ACK, the bytes go up, our next data has the infinite mapping', (t) => {
  const s = proven({ checksum: true });
  const answer = s.p0.exchange({ len: 100, dss: { ack: 2, dsn: 2, checksum: 1 } });
  t.true(answer.some(({ flags, fail }) => flags === '.' && fail === 2));
  t.is(s.received, 101);
  const [data] = s.write(500);
  t.like(data?.dss, { dll: 0, checksum: 0, dsn: 2, ssn: 2 });
  s.p0.ack();
  t.true(s.write(500).every(({ present }) => present === 0));
  t.is(s.counter('MPTcpExtInfiniteMapTx'), 1);
});

test('the infinite mapping begins where data was last known to be intact, not at its own bytes', (t) => {
  const s = proven({ checksum: true });
  s.write(1000);
  s.p0.exchange({ dss: { ack: 2 }, options: failing(s, 2) });
  const [data] = s.write(500);
  t.is(data?.seq, 1002);
  t.like(data?.dss, { dll: 0, dsn: 2, ssn: 2 });
});

test('MP_FAIL is answered with MP_FAIL, and the connection reverts to TCP', (t) => {
  const s = proven({ checksum: true });
  s.write(1000);
  const answer = s.p0.exchange({ dss: { ack: 2 }, options: failing(s, 2) });
  t.true(answer.some(({ fail, flags }) => fail === 2 && flags === '.'));
  s.write(100);
  t.is(s.c.mode, 'tcp');
  s.p0.ack();
  t.true(s.write(2000).every(({ present }) => present === 0));
  t.deepEqual(
    s.events('fallback').map(({ why }) => why),
    ['MP_FAIL received'],
  );
});

test('MP_FAIL without new data to follow: the connection still ends, by DATA_FIN', (t) => {
  const s = proven({ checksum: true });
  s.write(1000);
  s.p0.exchange({ dss: { ack: 2 }, options: failing(s, 2) });
  const fin = s.end().find(({ dss }) => dss?.fin === true);
  t.is(fin?.dss?.dsn, 1002);
  s.p0.exchange({ dss: { ack: 1003, dsn: 2, fin: true } });
  t.is(s.events('connection-closed')[0]?.why, 'done');
});

test('a wrong checksum over data that is not contiguous: RST with MP_FAIL although there is one subflow', (t) => {
  const s = proven({ checksum: true });
  const [rst] = s.p0.exchange({ len: 100, dss: { ack: 2, dsn: 302, ssn: 2, checksum: 1 } });
  t.like(rst, { flags: 'R.', fail: 302, tcprst: MIDDLEBOX });
  t.is(s.received, 1);
});

test('after the infinite mapping only subflow ACKs free the send buffer', (t) => {
  const s = proven({ checksum: true });
  s.write(1000);
  s.p0.exchange({ ack: 2, dss: { ack: 2 }, options: failing(s, 2) });
  s.write(500);
  s.p0.exchange({ ack: 2, dss: { ack: 1502 } });
  t.is(s.c.unackedBytes, 1500);
  s.p0.ack();
  t.is(s.c.unackedBytes, 0);
});

test('after MP_FAIL, too, until there is data for the infinite mapping: a DATA_ACK frees nothing', (t) => {
  const s = proven({ checksum: true });
  s.write(1000);
  s.p0.exchange({ ack: 2, dss: { ack: 2 }, options: failing(s, 2) });
  s.p0.exchange({ ack: 2, dss: { ack: 1002 } });
  t.is(s.c.unackedBytes, 1000);
  s.p0.ack();
  t.is(s.c.unackedBytes, 0);
});

test('after an infinite mapping was received there are no more DATA_ACKs', (t) => {
  const s = proven();
  const out = s.p0.exchange({ len: 10, dss: { ack: 2, dsn: 2, dll: 0 } });
  out.push(...s.p0.exchange({ len: 10 }), ...s.advance(S));
  t.true(out.length > 0);
  t.true(out.every(({ present }) => present === 0));
  t.is(s.counter('MPTcpExtInfiniteMapRx'), 1);
});

test('falling back ends a join that is under way, and no other is begun', (t) => {
  const s = proven();
  const { localAddress } = { localAddress: s.engine.link(1)!.addresses[0]! };
  const join = () => s.c.join(s.nowUs, { linkId: 1, localAddress, remote: s.c.remote });
  t.true(join() >= 0);
  t.is(s.out().filter(({ flags }) => flags === 'S').length, 1);
  s.p0.exchange({ len: 10, dss: { ack: 2, dsn: 2, dll: 0 } });
  t.deepEqual(
    s.c.subflows.filter(({ closeReason }) => closeReason === null).map(({ role }) => role),
    ['initial'],
  );
  t.is(join(), -1);
});

test('a join whose SYN was answered before the fallback is refused at its third packet', (t) => {
  const s = proven({ side: 'passive' });
  const join = new HandJoin(s, 1, undefined, { address: '10.9.2.1', port: 6001 });
  join.syn();
  s.p0.exchange({ len: 10, dss: { ack: 2, dsn: 2, dll: 0 } });
  t.false(s.c.isMptcp);
  const [rst] = join.third();
  t.true((rst!.seg.flags & TCP_RST) !== 0);
  t.is(s.c.subflows.length, 1);
});

test('an infinite mapping where a second subflow has been in use: that subflow is reset', (t) => {
  const s = MptcpScript.joined(2);
  const [rst] = s.p1.exchange({ len: 10, dss: { ack: 2, dsn: 2, dll: 0 } });
  t.like(rst, { path: 1, flags: 'R.', tcprst: 1 });
  t.true(s.c.isMptcp);
});

test('a SYN or SYN/ACK without MP_CAPABLE: plain TCP', (t) => {
  for (const what of stripped.filter(({ name }) => /from the SYN/.test(name))) {
    const { client, server } = throughBoxes({ ...what, bytes: SHORT });
    t.false(client.info.isMptcp || server.info.isMptcp, what.name);
    t.is(client.info.fallbackReason, 'no acceptable MP_CAPABLE in the SYN/ACK', 'at once, not when data shows it');
    t.true(client.hasEnded && server.hasEnded);
  }
});

test('our data acknowledged without DATA_ACK on the first subflow: plain TCP', (t) => {
  const s = MptcpScript.connected();
  s.write(1000);
  s.p0.ack();
  t.false(s.c.isMptcp);
  t.is(s.c.unackedBytes, 0);
});

test('then the next data says so by an infinite mapping, also when it is sent again, and nothing follows it', (t) => {
  const s = MptcpScript.connected();
  s.write(1000);
  s.p0.ack();
  const [data] = s.write(500);
  t.like(data?.dss, { dll: 0, dsn: 1, ssn: 1, ackBytes: 0 });
  t.true(s.write(500).every(({ present }) => present === 0));
  const again = s.advance(2 * S).filter(({ seq, len }) => seq === 1001 && len > 0);
  t.true(again.length > 0);
  t.true(again.every(({ dss }) => dss?.dll === 0));
});

test('our data acknowledged without DATA_ACK on a joined subflow: RST, middlebox interference', (t) => {
  const s = onSecondPath();
  s.write(1000);
  const sent = s.p1.ack();
  t.like(
    sent.find(({ flags }) => flags === 'R.'),
    { path: 1, tcprst: MIDDLEBOX },
  );
  t.true(s.c.isMptcp);
});

test('options that vanish mid-life: RST once the bytes without mapping fill the window', (t) => {
  const s = proven({ config: { receiveBufferBytes: 20_000 } });
  const out = [];
  for (let i = 0; i < 10; i++) out.push(...s.p0.exchange({ len: 1400 }));
  t.true(out.every(({ flags }) => flags === '.'));
  for (let i = 0; i < 10; i++) out.push(...s.p0.exchange({ len: 1400 }));
  t.like(
    out.find(({ flags }) => flags === 'R.'),
    { tcprst: MIDDLEBOX },
  );
  t.is(s.received, 1);
});

test('DATA_ACKs that vanish mid-life: RST when nothing moves for a data-level timeout', (t) => {
  const s = proven();
  for (let i = 0; i < 4; i++) {
    s.write(1000);
    s.p0.ack();
  }
  const rst = s.advance(3 * S).find(({ flags }) => flags === 'R.');
  t.is(rst?.tcprst, MIDDLEBOX);
});

test('a server whose first data has no option falls back', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.exchange({ len: 100 });
  t.is(s.received, 100);
  t.false(s.c.isMptcp);
});

test('data without option that overtook its mapping is no reason to fall back', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.exchange({ seq: 101, len: 100 });
  t.true(s.c.isMptcp);
  s.p0.exchange({ seq: 1, len: 100, dss: { ack: 1, dsn: 1, dll: 200 } });
  t.is(s.received, 200);
  t.true(s.c.isMptcp);
});

test('after an infinite mapping all bytes are the stream, in whatever order they come', (t) => {
  const s = proven();
  s.p0.exchange({ seq: 12, len: 10, dss: { ack: 2, dsn: 12, dll: 0 } });
  s.p0.exchange({ seq: 32, len: 10 });
  s.p0.exchange({ seq: 2, len: 10 });
  t.is(s.received, 21);
  s.p0.exchange({ seq: 22, len: 10 });
  t.is(s.received, 41);
  t.is(s.mismatches, 0);
});

test('a FIN without options ends the stream only if everything before it was DATA_ACKed', (t) => {
  const early = MptcpScript.connected();
  early.write(1000);
  early.p0.exchange({ flags: 'F.' });
  t.is(early.ends, 1);
  const late = proven();
  late.write(1000);
  const [rst] = late.p0.exchange({ flags: 'F.' });
  t.like(rst, { flags: 'R.', tcprst: MIDDLEBOX });
  t.is(late.ends, 0);
});

test('a DATA_FIN acknowledged before the fallback does not spare the FIN', (t) => {
  const s = MptcpScript.connected();
  s.write(1000);
  s.p0.ack(1001);
  s.end();
  s.p0.ack(1002);
  // In-order data without a mapping, where none has ever come: the peer's options do not pass.
  const sent = s.p0.exchange({ len: 500 });
  t.false(s.c.isMptcp);
  t.true(
    sent.some(({ flags }) => flags.includes('F')),
    JSON.stringify(sent),
  );
});

test('data without options after some that had them, from a peer that may not know that they pass: taken, with MP_FAIL', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.exchange({ len: 100, dss: { dsn: 1, ack: 1 } });
  const sent = s.p0.exchange({ len: 50 });
  t.is(s.received, 150);
  t.false(s.c.isMptcp);
  t.is(sent[0]!.fail, 101);
  t.true(
    s.p0.exchange({ len: 50 }).every(({ present }) => present === 0),
    'said once',
  );
  t.is(s.received, 200);
});

test('a mapping after a fallback that moves bytes is data sent again: RST, and nothing is taken twice', (t) => {
  const s = MptcpScript.connected({ side: 'passive' });
  s.p0.exchange({ len: 100, dss: { dsn: 1, ack: 1 } });
  s.p0.exchange({ len: 50 });
  // In the order of the stream it does no harm.
  s.p0.exchange({ len: 50, dss: { dsn: 151, ack: 1 } });
  t.is(s.received, 200);
  const sent = s.p0.exchange({ len: 50, dss: { dsn: 151, ack: 1 } });
  t.like(sent[0]!, { flags: 'R.' });
  t.is(s.received, 200);
});

test('one ACK without DATA_ACK, and nothing moves: RST, and the data does not go again on that subflow', (t) => {
  const s = proven();
  s.write(1000);
  s.p0.ack();
  const sent = s.advance(3 * S);
  t.deepEqual(
    sent.map(({ flags, len, tcprst }) => [flags, len, tcprst]),
    [['R.', 0, MIDDLEBOX]],
  );
});

test('after MP_FAIL a DATA_FIN that stays unanswered is followed by the FIN', (t) => {
  const s = proven();
  s.p0.exchange({ dss: { ack: 2 }, options: failing(s, 2) });
  s.end();
  const sent = s.advance(3 * S);
  t.is(s.c.mode, 'tcp');
  t.true(sent.some(({ flags }) => flags.includes('F')));
});

test('payload survives every fallback', (t) => {
  for (const what of stripped.filter(({ paths }) => paths === undefined)) {
    const { client, server } = throughBoxes({ ...what, bytes: SHORT });
    t.deepEqual(server.received, streamOf('client', SHORT), what.name);
    t.deepEqual(client.received, streamOf('server', SHORT), what.name);
    t.false(client.info.isMptcp, what.name);
  }
});
