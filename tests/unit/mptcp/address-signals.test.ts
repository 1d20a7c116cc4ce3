/** ADD_ADDR and REMOVE_ADDR of a connection, both ways (RFC 8684 3.4). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { EngineConfig } from '../../../src/core/engine/config.js';
import { Engine } from '../../../src/core/engine/engine.js';
import { addAddrHmac } from '../../../src/core/mptcp/keys.js';
import { type AddAddrOption, MPO, writeAddAddr, writeRemoveAddr } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';
import { nodeEnv } from '../../support/node-env.js';
import { type Caught, drain, elapse, exchange } from '../../support/raw-host.js';

const A = parseIp('203.0.113.5');
const B = parseIp('203.0.113.6');
const V6 = parseIp('2001:db8::5');
const S = 1_000_000;

/** The peer announces; what the engine says to that. */
function announced(script: MptcpScript, addressId: number, address = A, port = -1, on = script.p0): Sent[] {
  const { keys } = script.c;
  const hmac = addAddrHmac(script.env, keys.authRemote, keys.authLocal, addressId, address, port);
  const options = (out: Uint8Array, o: number) => writeAddAddr(out, o, { echo: false, addressId, address, port, hmac });
  return on.exchange({ options });
}

function removed(script: MptcpScript, ids: number[], on = script.p0, more: { seq?: number } = {}): Sent[] {
  return on.exchange({ ...more, options: (out, o) => writeRemoveAddr(out, o, ids) });
}

/** The ADD_ADDRs that the engine sends now, with the segment of each. */
function sentNow(script: MptcpScript): { option: AddAddrOption; packet: Caught }[] {
  return drain(script.engine, script.nowUs).flatMap((packet) =>
    packet.seg.mptcp.addAddrs.map((option) => ({ option, packet })),
  );
}

const connected = () => {
  const script = MptcpScript.joined(1);
  script.advance(10_000);
  script.events('');
  return script;
};

function twoEngines(config: Partial<EngineConfig>) {
  const [client, server] = [new Engine(nodeEnv, config), new Engine(nodeEnv, config)];
  client.addLink(0, { id: 0, name: 'a', mtuBytes: 1500, addresses: [parseIp('198.51.100.1')], isUp: true });
  server.addLink(0, { id: 0, name: 'b', mtuBytes: 1500, addresses: [parseIp('192.0.2.1')], isUp: true });
  server.listen({ port: 5000, onAccept: () => {} });
  const localAddress = parseIp('198.51.100.1');
  const remote = { address: parseIp('192.0.2.1'), port: 5000 };
  const ours = client.connect(0, { linkId: 0, localAddress, localPort: 40_000, remote });
  ours.write(0, Uint8Array.of(1));
  exchange(client, server, 0);
  return { client, server, ours };
}

// ---- out

test('ADD_ADDR goes out alone on a pure ACK, with the HMAC of its sender', (t) => {
  const script = connected();
  const { c } = script;
  const addressId = c.announce(script.nowUs, { address: A, port: 8080 });
  const [sent] = sentNow(script);
  const { option, packet } = sent!;
  t.is(packet.payload.length, 0);
  t.is(packet.seg.mptcp.present & (MPO.removeAddr | MPO.prio), 0);
  t.deepEqual([option.echo, option.addressId, option.address.text, option.port], [false, addressId, A.text, 8080]);
  t.deepEqual(option.hmac, addAddrHmac(script.env, c.keys.local, c.keys.remote!, addressId, A, 8080));
});

test('address ids are unique to an address, and free again once it is withdrawn', (t) => {
  const { c, nowUs } = connected();
  const ids = [A, B, V6].map((address) => c.announce(nowUs, { address }));
  t.is(new Set([0, ...ids]).size, 4);
  t.is(c.announce(nowUs, { address: A }), ids[0]);
  c.withdraw(nowUs, ids[0]!);
  // The id of what was withdrawn may stand for another address; those of the others still stand for them.
  t.is(c.announce(nowUs, { address: B }), ids[1]);
  t.is(c.announce(nowUs, { address: parseIp('203.0.113.7') }), ids[0]);
});

test('ADD_ADDR is repeated until its echo comes, and not for ever', (t) => {
  const unanswered = connected();
  unanswered.c.announce(unanswered.nowUs, { address: A });
  const count = (segments: Sent[]) => segments.filter((s) => (s.present & MPO.addAddr) !== 0).length;
  t.is(count(unanswered.advance(60 * S)), 4);

  const answered = connected();
  const addressId = answered.c.announce(answered.nowUs, { address: A });
  t.is(count(answered.advance(100_000)), 1);
  const hmac = new Uint8Array(0);
  answered.p0.send({
    options: (out, o) => writeAddAddr(out, o, { echo: true, addressId, address: A, port: -1, hmac }),
  });
  t.is(count(answered.advance(60 * S)), 0);
});

test('an ADD_ADDR with an IPv6 address and a port fits beside timestamps', (t) => {
  for (const useTimestamps of [true, false]) {
    const { client, server, ours } = twoEngines({ tcp: { useTimestamps } });
    ours.announce(S, { address: V6, port: 8443 });
    const announcement = exchange(client, server, S).find((p) => p.seg.mptcp.addAddrs.length > 0)!;
    t.is(announcement.seg.mptcp.addAddrs[0]!.port, 8443);
    t.is(announcement.seg.hasTs, useTimestamps);
    t.is(server.counters().MPTcpExtPortAdd, 1);
    t.is(client.counters().MPTcpExtEchoAdd, 1);
  }
});

test('reserved bits of ADD_ADDR are zero in ours and ignored in theirs', (t) => {
  const script = connected();
  script.c.announce(script.nowUs, { address: A });
  const { packet } = sentNow(script)[0]!;
  const at = packet.bytes.findIndex((b, i) => i >= 40 && b === 30 && packet.bytes[i + 2]! >> 4 === 3);
  t.is(packet.bytes[at + 2], 0x30);

  const { keys } = script.c;
  const hmac = addAddrHmac(script.env, keys.remote!, keys.local, 7, B, -1);
  script.p0.exchange({
    options: (out, o) => {
      const end = writeAddAddr(out, o, { echo: false, addressId: 7, address: B, port: -1, hmac });
      out[o + 2]! |= 0x0e;
      return end;
    },
  });
  t.is(script.c.addresses.remoteEndpoint(7)?.address.text, B.text);
});

// ---- in

test('a fresh ADD_ADDR is echoed without its HMAC, port kept, and told of', (t) => {
  const script = connected();
  const { c, p0 } = script;
  const hmac = addAddrHmac(script.env, c.keys.remote!, c.keys.local, 3, A, 8080);
  p0.send({
    options: (out, o) => writeAddAddr(out, o, { echo: false, addressId: 3, address: A, port: 8080, hmac }),
  });
  const [sent] = sentNow(script);
  t.like(sent!.option, { echo: true, addressId: 3, port: 8080 });
  t.is(sent!.option.address.text, A.text);
  t.is(sent!.option.hmac.length, 0);
  const [event] = script.events('address-announced');
  t.like(event, { addressId: 3, endpoint: { port: 8080 } });
});

test('ADD_ADDR without a port means the port of the subflow that it came on', (t) => {
  const script = connected();
  announced(script, 3);
  t.is(script.c.addresses.remoteEndpoint(3)?.port, script.p0.sf.flow.remotePort);
});

test('an address of the other family is learnt like any other', (t) => {
  const script = connected();
  announced(script, 4, V6);
  t.is(script.c.addresses.remoteEndpoint(4)?.address.text, V6.text);
  t.is(script.events('address-announced').length, 1);
});

test('an id keeps its address until removed; its port may change', (t) => {
  const script = connected();
  const { addresses } = script.c;
  announced(script, 3, A);
  const echoes = announced(script, 3, B).filter((s) => (s.present & MPO.addAddr) !== 0);
  t.deepEqual(echoes, []);
  t.is(addresses.remoteEndpoint(3)?.address.text, A.text);
  t.is(script.counter('MPTcpExtAddAddrDrop'), 1);
  script.events('');
  announced(script, 3, A, 9000);
  t.is(addresses.remoteEndpoint(3)?.port, 9000);
  t.is(script.events('address-announced').length, 1);
  removed(script, [3]);
  announced(script, 3, B);
  t.is(addresses.remoteEndpoint(3)?.address.text, B.text);
});

test('what is announced again while no subflow goes there is told of again: it may be tried once more', (t) => {
  const script = connected();
  announced(script, 3);
  announced(script, 3);
  t.is(script.events('address-announced').length, 2);
  const endpoint = script.c.addresses.remoteEndpoint(3)!;
  script.c.join(script.nowUs, { linkId: 1, localAddress: parseIp('10.0.2.1'), remote: endpoint });
  announced(script, 3);
  t.is(script.events('address-announced').length, 0);
});

test('ids of joins are remembered too, and an ADD_ADDR of an address that has joined opens nothing twice', (t) => {
  const script = MptcpScript.connected({ side: 'passive' });
  script.prove();
  script.join(1, { byPeer: true });
  script.events('');
  const { addresses, subflows } = script.c;
  t.is(addresses.remoteEndpoint(1)?.address.text, subflows[1]!.flow.remoteAddress.text);
  // Under a private address, as behind a translator.
  const echoed = announced(script, 1, parseIp('192.168.1.7')).filter((s) => (s.present & MPO.addAddr) !== 0);
  t.is(echoed.length, 1);
  t.deepEqual(script.events('address-announced'), []);
});

test('an ADD_ADDR before any data shows the peer to have our key: the next data is a plain DSS', (t) => {
  const script = MptcpScript.connected();
  announced(script, 1);
  const data = script.write(10).filter((s) => s.len > 0);
  t.is(data.length, 1);
  t.is(data[0]!.present & MPO.capable, 0);
  t.is(data[0]!.dss?.dll, 10);
});

// ---- REMOVE_ADDR

test('withdrawing announces the removal, of several ids in one option and on a subflow that stays', (t) => {
  const script = MptcpScript.joined(2);
  const { c } = script;
  const ids = [A, B].map((address) => c.announce(script.nowUs, { address }));
  script.advance(100_000);
  const local = c.subflows[1]!.localAddressId;
  c.withdraw(script.nowUs, local, ...ids);
  // After two pure ACKs with signals in a row it waits a moment for its turn (RFC 8684 4).
  const all = [...drain(script.engine, script.nowUs), ...elapse(script.engine, script.nowUs, script.nowUs + S)];
  script.nowUs += S;
  const sent = all.filter((p) => (p.seg.mptcp.present & MPO.removeAddr) !== 0);
  t.is(sent.length, 1);
  t.is(sent[0]!.linkId, 0);
  t.deepEqual(sent[0]!.seg.mptcp.removeIds, [local, ...ids]);
  // Nothing is announced any more (3.4.2).
  t.false(script.advance(60 * S).some((s) => (s.present & MPO.addAddr) !== 0));
});

test('REMOVE_ADDR: the path is asked at once, and reset when it does not answer', (t) => {
  const script = MptcpScript.joined(2);
  const { c } = script;
  script.write(1000);
  const sent = [...removed(script, [c.subflows[1]!.remoteAddressId]), ...script.advance(400_000)];
  t.true(sent.some((s) => s.path === 1 && s.flags === '.'));
  t.is(c.subflows.length, 2);
  const later = script.advance(2 * S);
  const rst = later.find((s) => s.path === 1 && s.flags.includes('R'));
  t.not(rst, undefined);
  t.is(rst!.tcprst, 0);
  t.deepEqual(
    c.subflows.map((sf) => sf.flow.linkId),
    [0],
  );
});

test('REMOVE_ADDR: a path that answers is not removed, but its address is used for nothing new', (t) => {
  const script = MptcpScript.joined(2);
  const { c, p1 } = script;
  const addressId = c.subflows[1]!.remoteAddressId;
  removed(script, [addressId]);
  t.false(script.write(1000).some((s) => s.path === 1 && s.len > 0));
  script.advance(300_000);
  p1.ack(c.sender.sndUna);
  script.advance(5 * S);
  t.is(c.subflows.length, 2);
  t.is(p1.sf.tcp.state, 'established');
  t.is(c.addresses.remoteEndpoint(addressId), undefined);
  // A working subflow is ended by a FIN.
  p1.exchange({ flags: 'F.', dss: { ack: c.sender.sndUna } });
  t.true(p1.sf.isClosing);
});

test('REMOVE_ADDR of several ids, of id 0, and of an unknown id', (t) => {
  const script = MptcpScript.joined(3);
  const { c } = script;
  removed(script, [77], script.p1);
  t.is(script.c.subflows.filter((sf) => sf.isStalled).length, 0);
  removed(script, [0, 2, 99], script.p1);
  t.deepEqual(
    c.subflows.filter((sf) => sf.isStalled).map((sf) => sf.flow.linkId),
    [0, 2],
  );
  t.is(script.counter('MPTcpExtRmAddr'), 4);
});

test('REMOVE_ADDR in a segment outside the window is not read', (t) => {
  const script = MptcpScript.joined(2);
  removed(script, [1], script.p0, { seq: 2 ** 30 });
  t.is(script.counter('MPTcpExtRmAddr'), 0);
  t.false(script.p1.sf.isStalled);
});

test('a subflow that is given up while its link is away: the peer hears on another one that the address is gone', (t) => {
  const s = MptcpScript.joined(2);
  const id = s.p1.sf.localAddressId;
  s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, isUp: false });
  s.out();
  s.c.closeSubflow(s.nowUs, s.p1.sf.id, 'reset');
  const said = drain(s.engine, s.nowUs);
  t.deepEqual(
    said.map((p) => [p.linkId, p.seg.mptcp.removeIds]),
    [[0, [id]]],
  );
  t.is(s.c.subflows.length, 1);
});
