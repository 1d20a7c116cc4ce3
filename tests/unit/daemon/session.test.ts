import { generateKeyPairSync } from 'node:crypto';
import * as tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { type IpAddress, parseIp } from '../../../src/core/base/ip.js';
import type { SubflowInfo } from '../../../src/core/engine/api.js';
import { CSUM_PARTIAL, CSUM_UNKNOWN, ReceiveBatch } from '../../../src/core/engine/ports.js';
import type { RouteEntry } from '../../../src/core/lanes/connect-ip.js';
import { BULK, PacketLane, SPARSE } from '../../../src/core/lanes/packet-lane.js';
import { ALL_LANES } from '../../../src/core/lanes/policy.js';
import { schedulerOf, type TrafficMode } from '../../../src/core/scheduler/modes.js';
import { ClientSession, type ClientSessionEvents } from '../../../src/daemon/client-session.js';
import type { KnownClient } from '../../../src/daemon/server-handshakes.js';
import { type ClientOfServer, ServerSessions } from '../../../src/daemon/server-sessions.js';
import { identityFor, type TlsIdentity } from '../../../src/daemon/tls.js';
import { TunWriter } from '../../../src/daemon/tun-writer.js';
import { LoopbackConnection, LoopbackStream, loopbackPair, MemoryTun } from '../../support/loopback.js';
import { bytes, ping, tcp, udp } from '../lanes/packets.js';

const MTU = 1500;

async function newIdentity(): Promise<TlsIdentity> {
  return identityFor(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
}

/** A queue of things that happen, to be awaited in order. */
class Happenings {
  readonly all: string[] = [];
  private wake: (() => void)[] = [];

  add(what: string): void {
    this.all.push(what);
    for (const w of this.wake.splice(0)) w();
  }

  async until(pattern: RegExp, count = 1): Promise<string> {
    for (;;) {
      const matching = this.all.filter((what) => pattern.test(what));
      if (matching.length >= count) return matching.at(-1)!;
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
  }
}

class TestServer {
  readonly happenings = new Happenings();
  readonly tun = new MemoryTun();
  readonly writer = new TunWriter(this.tun, MTU);
  readonly sessions: ServerSessions;

  constructor(
    readonly identity: TlsIdentity,
    clients: readonly KnownClient[],
    families: readonly (4 | 6)[] = [4, 6],
  ) {
    const h = this.happenings;
    this.sessions = new ServerSessions({
      identity,
      clients,
      writer: this.writer,
      mtuBytes: MTU,
      families,
      now: () => 0,
      congestion: () => 'bbr',
      hashSeed: 1,
      relay: {
        carry: () => {},
        countMalformed: () => {},
        connectionsOf: (pin) => this.relayed.get(pin) ?? [],
        ownerOf: (id) => {
          for (const [pin, connections] of this.relayed) {
            const connection = connections.find((c) => c.id === id);
            if (connection !== undefined) return { pin, connection };
          }
          return null;
        },
        keepOnly: () => {},
        setModes: () => {},
        close: () => {},
      },
      openStream: (connection) => new LoopbackStream(connection as LoopbackConnection),
      events: {
        onSessionUp: (s) => h.add(`session-up ${s.client.name}`),
        onSessionDown: (s, why) => h.add(`session-down ${s.client.name} ${why}`),
        onConnectionUp: (s, lane) => h.add(`up ${s.client.name} ${lane}`),
        onConnectionDown: (s, lane, _c, why) => h.add(`down ${s.client.name} ${lane} ${why}`),
        onRefused: (_c, why) => h.add(`refused ${why}`),
        onPeerPolicy: (s, m) => h.add(`policy ${s.client.name} ${m.serial}`),
        onDelivered: () => {},
      },
    });
  }

  /** Connections of the relay, by pin. */
  readonly relayed = new Map<string, LoopbackConnection[]>();

  get only(): ClientOfServer {
    return this.sessions.sessions[0]!;
  }
}

class TestClient {
  readonly happenings = new Happenings();
  readonly tun = new MemoryTun();
  readonly writer = new TunWriter(this.tun, MTU);
  readonly lane = new PacketLane({ mtuBytes: MTU, hashSeed: 2 });
  readonly connections: LoopbackConnection[] = [];
  addresses: readonly IpAddress[] = [];
  routes: readonly RouteEntry[] = [];
  hasLink = true;
  readonly companions: LoopbackConnection[] = [];
  readonly session: ClientSession;

  constructor(identity: TlsIdentity, server: TestServer, serverPin = server.identity.pin, id = '0'.repeat(32)) {
    const h = this.happenings;
    const events: ClientSessionEvents = {
      onConnectionUp: (lane) => h.add(`up ${lane}`),
      onConnectionDown: (lane, _c, why) => h.add(`down ${lane} ${why}`),
      onAttemptFailed: (lane, why, isAuthentication) => h.add(`failed ${lane} auth=${isAuthentication} ${why}`),
      onAddresses: (addresses) => {
        this.addresses = addresses;
        h.add(`addresses ${addresses.map((a) => a.text).join()}`);
      },
      onRoutes: (routes) => {
        this.routes = routes;
        h.add('routes');
      },
      onPeerPolicy: (m) => h.add(`policy ${m.serial}`),
      onDelivered: () => {},
    };
    this.session = new ClientSession({
      lane: this.lane,
      writer: this.writer,
      identity,
      serverHost: 'server.example',
      serverPin,
      sessionId: id,
      mtuBytes: MTU,
      retryMaxMs: 200,
      now: () => 0,
      random: () => 0,
      dial: () => {
        if (!this.hasLink) return Promise.resolve(null);
        const [ours, theirs] = loopbackPair();
        this.connections.push(ours);
        setImmediate(() => server.sessions.accept(theirs));
        return Promise.resolve(ours);
      },
      openStream: (connection) => new LoopbackStream(connection as LoopbackConnection),
      companions: () => this.companions,
      events,
    });
    this.session.start();
  }

  send(packet: Uint8Array, gsoSize = 0, unfinished = false): void {
    this.lane.enqueue(0, packet, 0, packet.length, gsoSize, unfinished);
    this.session.kick();
  }
}

function toServerTun(server: TestServer, packet: Uint8Array, gsoSize = 0, unfinished = false): void {
  const batch = new ReceiveBatch(1, 66_000);
  batch.slab.set(packet);
  batch.length[0] = packet.length;
  batch.gsoSize[0] = gsoSize;
  batch.checksum[0] = unfinished ? CSUM_PARTIAL : CSUM_UNKNOWN;
  batch.count = 1;
  server.sessions.onTun(0, batch);
}

async function setUp(t: ExecutionContext, families?: readonly (4 | 6)[]) {
  const [serverId, clientId] = await Promise.all([newIdentity(), newIdentity()]);
  const known = { name: 'laptop', pin: clientId.pin, addresses: [parseIp('10.7.0.2'), parseIp('fd00::2')] };
  const server = new TestServer(serverId, [known], families);
  const client = new TestClient(clientId, server);
  t.teardown(() => {
    client.session.close('test over');
    server.sessions.close('test over');
  });
  await Promise.all([client.happenings.until(/^up 0/), client.happenings.until(/^up 1/)]);
  return { server, client, known, clientId };
}

test('join keys come from TLS: mirrored at the ends of a connection, different for each connection', async (t) => {
  const { client } = await setUp(t);
  const keys = client.connections.map((c) => [c.exportedKeys!, c.peer!.exportedKeys!] as const);
  t.is(keys.length, 2);
  for (const [ours, theirs] of keys) {
    t.deepEqual(ours.local, theirs.remote);
    t.deepEqual(ours.remote, theirs.local);
    t.deepEqual(ours.fastcloseLocal, theirs.fastcloseRemote);
    t.deepEqual(ours.fastcloseRemote, theirs.fastcloseLocal);
    t.notDeepEqual(ours.local, ours.remote);
  }
  t.notDeepEqual(keys[0]![0].local, keys[1]![0].local);
});

test('a session: two connections, addresses and routes, packets both ways', async (t) => {
  const { server, client } = await setUp(t);
  await client.happenings.until(/^addresses/);
  await client.happenings.until(/^routes/);
  t.deepEqual(
    client.addresses.map((a) => a.text),
    ['10.7.0.2', 'fd00::2'],
  );
  t.deepEqual(
    client.routes.map((r) => r.start.family),
    [4, 6],
  );
  t.deepEqual(server.happenings.all.filter((h) => /^(session-)?up/.test(h)).sort(), [
    'session-up laptop',
    'up laptop 0',
    'up laptop 1',
  ]);

  client.send(ping());
  await server.tun.until(1);
  t.deepEqual(server.tun.sent[0]!.bytes, ping());
  t.is(server.tun.sent[0]!.csumOffset, -1);

  const answer = udp(bytes(200), { src: '192.0.2.9', dst: '10.7.0.2' });
  toServerTun(server, answer);
  await client.tun.until(1);
  t.deepEqual(client.tun.sent[0]!.bytes, answer);
});

test('a super-packet crosses whole, and gets its vnet header from the receiver', async (t) => {
  const { server, client } = await setUp(t);
  for (const c of client.connections) c.deliveryRateBytesPerS = 125_000_000;
  client.send(ping());
  await server.tun.until(1);
  const packet = tcp({ payload: bytes(60_000) });
  client.send(packet, 1400, true);
  await server.tun.until(2);
  const got = server.tun.sent[1]!;
  t.is(got.gsoSize, 1400);
  t.is(got.csumOffset, 16);
  t.deepEqual(got.bytes.subarray(52), packet.subarray(52));
});

test('a client cannot send from an address that is not its own', async (t) => {
  const { server, client } = await setUp(t);
  client.send(tcp({ src: '10.7.0.99', payload: bytes(10) }));
  client.send(ping());
  await server.tun.until(1);
  t.is(server.tun.sent.length, 1);
  t.is(server.writer.refused.inner_source, 1);
});

test('where the server has no IPv6, its routes say so', async (t) => {
  const { client } = await setUp(t, [4]);
  await client.happenings.until(/^routes/);
  t.deepEqual(
    client.routes.map((r) => r.start.family),
    [4],
  );
});

test('a wrong server key: refused by the client, and the server learns why', async (t) => {
  const [serverId, clientId, other] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
  const server = new TestServer(serverId, [{ name: 'laptop', pin: clientId.pin, addresses: [] }]);
  const client = new TestClient(clientId, server, other.pin);
  t.teardown(() => client.session.close('test over'));
  const failure = await client.happenings.until(/^failed/);
  t.regex(failure, /auth=true the server's key is sha256\/.* but the configuration pins sha256\//);
  t.true(failure.includes(serverId.pin) && failure.includes(other.pin));
  t.regex(await server.happenings.until(/^refused/), /the client refuses us: server-pin/);
  t.is(server.sessions.sessions.length, 0);
});

test('an unknown client: refused by the server, and the client learns why', async (t) => {
  const [serverId, clientId] = await Promise.all([newIdentity(), newIdentity()]);
  const server = new TestServer(serverId, []);
  const client = new TestClient(clientId, server);
  t.teardown(() => client.session.close('test over'));
  const failure = await client.happenings.until(/^failed/);
  t.regex(failure, /auth=true the server refuses us: unknown-client; key sha256\//);
  t.true(failure.includes(clientId.pin));
  t.true((await server.happenings.until(/^refused/)).includes(clientId.pin));
});

test('no client certificate: refused with words', async (t) => {
  const serverId = await newIdentity();
  const server = new TestServer(serverId, []);
  const [ours, theirs] = loopbackPair();
  server.sessions.accept(theirs);
  const socket = tls.connect({
    socket: new LoopbackStream(ours),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: false,
  });
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  const answer = await new Promise<string>((resolve) => socket.once('data', (d: Buffer) => resolve(d.toString())));
  t.regex(answer, /^HTTP\/1\.1 401 /);
  t.regex(answer, /no-client-certificate/);
  t.regex(await server.happenings.until(/^refused/), /no certificate/);
});

test('TLS below 1.3 is refused', async (t) => {
  const server = new TestServer(await newIdentity(), []);
  const [ours, theirs] = loopbackPair();
  server.sessions.accept(theirs);
  const socket = tls.connect({ socket: new LoopbackStream(ours), maxVersion: 'TLSv1.2', rejectUnauthorized: false });
  socket.on('error', () => {});
  let isSecure = false;
  socket.on('secureConnect', () => {
    isSecure = true;
  });
  await new Promise((resolve) => socket.once('close', resolve));
  t.false(isSecure);
  t.regex(await server.happenings.until(/^refused/), /TLS: .*protocol/);
});

test('connections that wait for a request, as those in a client’s store do, are over when the server closes', async (t) => {
  const { server, clientId } = await setUp(t);
  const [ours, theirs] = loopbackPair();
  server.sessions.accept(theirs);
  const socket = tls.connect({
    socket: new LoopbackStream(ours),
    key: clientId.keyPem,
    cert: clientId.certificatePem,
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: false,
  });
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  t.is(theirs.state, 'established');
  server.sessions.close('over');
  t.is(theirs.state, 'closed');
  t.false(
    server.happenings.all.some((h) => h.startsWith('refused')),
    'nothing to tell of',
  );
});

test('a known key with a bad request gets 400, a malformed capsule ends only its connection', async (t) => {
  const { server, client, clientId } = await setUp(t);
  const [ours, theirs] = loopbackPair();
  server.sessions.accept(theirs);
  const socket = tls.connect({
    socket: new LoopbackStream(ours),
    key: clientId.keyPem,
    cert: clientId.certificatePem,
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: false,
  });
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  socket.write('GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n');
  const answer = await new Promise<string>((resolve) => socket.once('data', (d: Buffer) => resolve(d.toString())));
  t.regex(answer, /^HTTP\/1\.1 400 /);

  // ADDRESS_REQUEST without entries (RFC 9484 §4.7.2).
  client.session.session.connections[BULK]!.pump.sendControl(Uint8Array.of(2, 0));
  t.regex(await server.happenings.until(/^down laptop 1/), /malformed capsule type 2/);
  t.is(server.sessions.sessions.length, 1);
  await client.happenings.until(/^up 1/, 2);
});

test('lost connections come back by themselves, in the same session', async (t) => {
  const { server, client } = await setUp(t);
  const before = server.only;
  server.only.session.detach(SPARSE, 'for the test');
  await client.happenings.until(/^down 0/);
  await client.happenings.until(/^up 0/, 2);
  t.is(server.only, before);
  client.send(ping());
  await server.tun.until(1);
  t.pass();
});

test('without a way to the server it waits until it is told to dial', async (t) => {
  const { server, client } = await setUp(t);
  client.hasLink = false;
  server.sessions.close('server restarts');
  await client.happenings.until(/^down 0/);
  await client.happenings.until(/^down 1/);
  client.hasLink = true;
  client.session.dialNow();
  await client.happenings.until(/^up [01]/, 4);
  t.pass();
});

test('several clients, each with its own addresses; a new session of one replaces its old one', async (t) => {
  const [serverId, a, b] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
  const server = new TestServer(serverId, [
    { name: 'a', pin: a.pin, addresses: [parseIp('10.7.0.2')] },
    { name: 'b', pin: b.pin, addresses: [parseIp('10.7.0.3')] },
  ]);
  const clientA = new TestClient(a, server, serverId.pin, 'a'.repeat(32));
  const clientB = new TestClient(b, server, serverId.pin, 'b'.repeat(32));
  t.teardown(() => {
    clientA.session.close('over');
    clientB.session.close('over');
    server.sessions.close('over');
  });
  await clientA.happenings.until(/^addresses 10\.7\.0\.2/);
  await clientB.happenings.until(/^addresses 10\.7\.0\.3/);
  toServerTun(server, udp(bytes(1), { src: '192.0.2.1', dst: '10.7.0.3' }));
  await clientB.tun.until(1);
  toServerTun(server, udp(bytes(2), { src: '192.0.2.1', dst: '10.7.0.2' }));
  await clientA.tun.until(1);
  t.is(clientA.tun.sent.length + clientB.tun.sent.length, 2);
  toServerTun(server, udp(bytes(2), { src: '192.0.2.1', dst: '10.7.0.4' }));
  t.is(server.sessions.packetsWithoutSession, 1);

  clientA.session.close('power cut');
  const again = new TestClient(a, server, serverId.pin, 'c'.repeat(32));
  t.teardown(() => again.session.close('over'));
  await again.happenings.until(/^addresses 10\.7\.0\.2/);
  t.is(server.sessions.sessions.filter((s) => s.client.name === 'a').length, 1);
});

test('policy goes to all connections of the session, and is told to new ones', async (t) => {
  const { server, client } = await setUp(t);
  const lanes = server.only.session.connections.map((c) => c!.connection as LoopbackConnection);
  for (const [i, lane] of lanes.entries()) {
    const common = {
      isBackupLocal: false,
      isStalled: false,
      srttUs: 1000,
      remote: { address: parseIp('192.0.2.7') },
    };
    lane.subflows = [
      { ...common, id: 10 + i, remoteAddressId: 1, localAddressId: 0 } as unknown as SubflowInfo,
      { ...common, id: 20 + i, remoteAddressId: 2, localAddressId: 0 } as unknown as SubflowInfo,
      // From the same address of the client as the first, to another of the server: another path.
      { ...common, id: 30 + i, remoteAddressId: 1, localAddressId: 5 } as unknown as SubflowInfo,
    ];
  }
  const path = (name: string, addressId: number) => ({
    name,
    rateLimitBytesPerS: 0,
    congestion: '',
    addressIds: [0, 1].map((lane) => ({ lane, addressId, serverAddressId: 0 })),
  });
  client.session.session.sendPolicy({
    paths: [
      { ...path('wlan0', 1), role: 'always', state: 'gone' },
      { ...path('wwan0', 2), rateLimitBytesPerS: 125_000, role: 'backup', state: 'ok' },
    ],
    modes: [{ lane: ALL_LANES, mode: 'auto', scheduler: 'round-robin' }],
  });
  await server.happenings.until(/^policy laptop 1/);
  for (const [i, lane] of lanes.entries()) {
    t.deepEqual(lane.calls, [
      'scheduler round-robin',
      `suspect ${10 + i}: the peer says that wlan0 is gone`,
      `setLocalBackup ${20 + i} true`,
    ]);
    t.deepEqual(
      [...lane.limits].map(([id, limit]) => [id, limit?.rateBytesPerS ?? null]),
      [
        [10 + i, null],
        [20 + i, 125_000],
      ],
    );
  }
  t.is(lanes[0]!.limits.get(20), lanes[1]!.limits.get(21), 'one limit for all connections');
  // The same picture again is no news: wlan0 may have recovered since.
  client.session.session.sendPolicy({
    paths: [{ ...path('wlan0', 1), role: 'always', state: 'gone' }],
    modes: [{ lane: ALL_LANES, mode: 'auto', scheduler: 'round-robin' }],
  });
  await server.happenings.until(/^policy laptop 2/);
  for (const lane of lanes) t.is(lane.calls.length, 3);
  server.only.session.detach(BULK, 'for the test');
  await client.happenings.until(/^up 1/, 2);
  await server.happenings.until(/^up laptop 1/, 2);
  const fresh = server.only.session.connections[BULK]!.connection as LoopbackConnection;
  t.deepEqual(fresh.calls, ['scheduler round-robin'], 'what is known is applied to a new connection at once');
});

test('policy goes to the connections of flows as well, path by path as their addresses tell', async (t) => {
  const { server, client } = await setUp(t);
  const [wlan, wwan, shared] = ['192.0.2.7', '192.0.2.8', '192.0.2.9'].map((text) => ({ address: parseIp(text) }));
  const common = { isBackupLocal: false, isStalled: false, srttUs: 1000, inFlightBytes: 1 };
  const subflow = (id: number, remoteAddressId: number, remote: unknown) =>
    ({ ...common, id, remoteAddressId, localAddressId: 0, remote }) as unknown as SubflowInfo;
  const lane = server.only.session.connections[BULK]!.connection as LoopbackConnection;
  lane.subflows = [subflow(1, 1, wlan), subflow(2, 2, wwan), subflow(3, 3, shared), subflow(4, 4, shared)];
  const [flow, late] = [new LoopbackConnection(), new LoopbackConnection()];
  // Other address ids than in the lane, as each connection has its own.
  flow.subflows = [subflow(5, 0, wwan), subflow(6, 1, wlan), subflow(7, 2, shared)];
  late.subflows = flow.subflows;
  server.relayed.set(server.only.client.pin, [flow]);
  const paths = (state: 'ok' | 'gone', ids = [1, 2, 3, 4]) =>
    (['wlan0', 'wwan0', 'eth0', 'eth1'] as const).map((name, i) => ({
      name,
      role: name === 'wwan0' ? ('backup' as const) : ('always' as const),
      state: name === 'wwan0' ? ('ok' as const) : state,
      rateLimitBytesPerS: 0,
      congestion: '',
      addressIds: ids.includes(i + 1) ? [{ lane: BULK, addressId: i + 1, serverAddressId: 0 }] : [],
    }));
  client.session.session.sendPolicy({ paths: paths('ok'), modes: [] });
  await server.happenings.until(/^policy laptop 1/);
  t.deepEqual(flow.calls, ['setLocalBackup 5 true']);
  // The lane's subflow on it is gone already.
  client.session.session.sendPolicy({ paths: paths('gone', [2, 3, 4]), modes: [] });
  await server.happenings.until(/^policy laptop 2/);
  t.deepEqual(flow.calls.slice(1), ['setLocalBackup 5 true', 'suspect 6: the peer says that wlan0 is gone']);
  // To one that comes later applies what lasts; its path is working for all that is known.
  server.only.session.welcome(late);
  t.deepEqual(late.calls, ['setLocalBackup 5 true']);
});

test('a mode change reaches each lane of the other end as its scheduler, and no connection is made anew', async (t) => {
  const { server, client } = await setUp(t);
  const lanes = server.only.session.connections.map((c) => c!.connection as LoopbackConnection);
  const say = (mode: TrafficMode) =>
    client.session.session.sendPolicy({
      paths: [],
      modes: [SPARSE, BULK].map((lane) => ({ lane, mode, scheduler: schedulerOf(mode, lane === SPARSE, 'adaptive') })),
    });
  say('auto');
  await server.happenings.until(/^policy laptop 1/);
  say('redundant');
  await server.happenings.until(/^policy laptop 2/);
  t.deepEqual(
    lanes.map((lane) => lane.calls),
    [
      ['scheduler interactive', 'scheduler redundant'],
      ['scheduler adaptive', 'scheduler redundant'],
    ],
  );
  t.deepEqual(
    server.only.session.connections.map((c) => c!.connection),
    lanes,
  );
});

test('bytes that nobody takes are not pushed: packets wait in FQ-CoDel', async (t) => {
  const { server, client } = await setUp(t);
  await client.happenings.until(/^addresses/);
  client.send(ping());
  await server.tun.until(1);
  for (const c of client.connections) c.isBlocked = true;
  for (let i = 0; i < 500; i++) client.send(udp(bytes(1200), { srcPort: 100 + i }));
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const unsent = client.connections.reduce((n, c) => n + c.unsentBytes, 0);
  t.true(unsent < 100_000, `${unsent} bytes below the lane`);
  t.true(client.lane.queueOf(SPARSE).backlogPackets > 400);
  for (const c of client.connections) c.unblock();
  await server.tun.until(501);
  t.is(server.tun.sent.length, 501);
});
