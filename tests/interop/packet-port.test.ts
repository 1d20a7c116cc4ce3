import { readFileSync } from 'node:fs';
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { CSUM_PARTIAL, ReceiveBatch, TransmitBatch } from '../../src/core/engine/ports.js';
import {
  addon,
  GuardPool,
  inNamespace,
  NUD_STALE,
  openPacketPort,
  openTun,
  PACKET_SLOT_BYTES,
  type PacketSocketPort,
  Poller,
  READABLE,
  Rtnetlink,
} from '../../src/native/index.js';
import { NextHops, REFRESH_US } from '../../src/native/next-hop.js';
import { run, TestNamespace } from '../support/netns.js';
import { ACK, addTcp, PSH, RST, type SeenPacket, SYN, seen, type TcpFields } from '../support/packets.js';
import { until } from '../support/until.js';

//  near (our port, on wlan0)  10.1.0.1, fd01::1 ── 10.1.0.2, fd01::2  far (the kernel's own TCP)
const near = new TestNamespace('pp-a');
const far = new TestNamespace('pp-b');
near.veth('wlan0', far, 'eth0');
near.ip('addr', 'add', '10.1.0.1/24', 'dev', 'wlan0');
near.ip('addr', 'add', 'fd01::1/64', 'dev', 'wlan0');
far.ip('addr', 'add', '10.1.0.2/24', 'dev', 'eth0');
far.ip('addr', 'add', 'fd01::2/64', 'dev', 'eth0');
near.ip('route', 'add', 'default', 'via', '10.1.0.2');
near.ip('-6', 'route', 'add', 'default', 'via', 'fd01::2');
const index = inNamespace(near.name, () => addon.ifNameToIndex('wlan0'));
test.after.always(() => {
  near.close();
  far.close();
});

const FAMILIES = [
  { family: 4, from: '10.1.0.1', to: '10.1.0.2', beyond: '203.0.113.1' },
  { family: 6, from: 'fd01::1', to: 'fd01::2', beyond: '2001:db8::1' },
] as const;

/** A port with everything that it received so far. */
class Tap {
  readonly port: PacketSocketPort;
  readonly packets: SeenPacket[] = [];
  writable = 0;
  readonly #batch = new ReceiveBatch(32, PACKET_SLOT_BYTES);
  readonly #poller: Poller;

  constructor(ns: TestNamespace, interfaceName: string, ports: number[], receiveBufferBytes = 16 << 20) {
    this.port = inNamespace(ns.name, () =>
      openPacketPort({ interfaceName, ports, receiveBufferBytes, onWritable: () => this.writable++ }),
    );
    this.#poller = new Poller(this.port.fd, () => {
      const n = this.port.receive(this.#batch);
      for (let i = 0; i < n; i++) this.packets.push(seen(this.#batch, i));
    });
    this.#poller.watch(READABLE);
  }

  /** Sends, waiting for the neighbour if need be. */
  async send(...packets: TcpFields[]): Promise<void> {
    const batch = new TransmitBatch(Math.max(1, packets.length));
    for (const packet of packets) addTcp(batch, packet);
    let taken = 0;
    await until(() => (taken += this.port.send(batch, taken)) === packets.length, 'the packets to be taken');
  }

  async receive(what: string, match: (p: SeenPacket) => boolean): Promise<SeenPacket> {
    await until(() => this.packets.some(match), what);
    return this.packets.find(match)!;
  }

  close(): void {
    this.#poller.close();
    this.port.close();
  }
}

function withGuard(ns: TestNamespace): { port: number; close(): void } {
  const pool = new GuardPool();
  const guard = inNamespace(ns.name, () => pool.acquire(0));
  return { port: guard.port, close: () => pool.close() };
}

/** The kernel's listener in `ns`: completes handshakes by itself. */
function listener(ns: TestNamespace, port: number): number {
  return inNamespace(ns.name, () => {
    const fd = addon.socket(10, 1, 0);
    const name = Buffer.alloc(28);
    name.writeUInt16LE(10, 0);
    name.writeUInt16BE(port, 2);
    if (addon.bind(fd, name) < 0 || addon.listen(fd, 16) < 0) throw new Error('listen');
    return fd;
  });
}

const states = (ns: TestNamespace, port: number) => ns.run('ss', '-Htan', 'sport', '=', `:${port}`);

for (const { family, from, to } of FAMILIES) {
  test.serial(`IPv${family}: a handshake by hand with the kernel, our own kernel silent`, async (t) => {
    const fd = listener(far, 8_000 + family);
    const guard = withGuard(near);
    const tap = new Tap(near, 'wlan0', [guard.port]);
    const base = { from, to, fromPort: guard.port, toPort: 8_000 + family };
    await tap.send({ ...base, seq: 1000, flags: SYN });
    const answer = await tap.receive('SYN/ACK', (p) => p.flags === (SYN | ACK));
    t.like(answer, { family, protocol: 6, toPort: guard.port, ack: 1001 });
    await tap.send({ ...base, seq: 1001, ack: answer.seq + 1, flags: ACK });
    await until(() => states(far, 8_000 + family).includes('ESTAB'), 'the connection');

    // 30,000 bytes as one super-packet: the kernel cuts it and fills the checksums.
    await tap.send({
      ...base,
      seq: 1001,
      ack: answer.seq + 1,
      flags: ACK | PSH,
      gsoSize: 1400,
      payload: Buffer.alloc(30_000, 7),
    });
    const all = await tap.receive('the ACK of all of it', (p) => p.ack === 1001 + 30_000);
    t.is(all.flags & RST, 0);
    t.regex(states(far, 8_000 + family), /ESTAB\s+30000\s/);
    t.false(tap.packets.some((p) => (p.flags & RST) !== 0));
    t.deepEqual(tap.port.drops, { unreachable: 0, linkDown: 0, refused: 0 });
    await tap.send({ ...base, seq: 31_001, flags: RST });
    addon.close(fd);
    guard.close();
    tap.close();
  });

  test.serial(
    `IPv${family}: without a guard our own kernel answers with RST (so the guard is what keeps it silent)`,
    async (t) => {
      const fd = listener(far, 8_100 + family);
      const tap = new Tap(near, 'wlan0', [45_000]);
      const spy = new Tap(far, 'eth0', [8_100 + family]);
      await tap.send({ from, to, fromPort: 45_000, toPort: 8_100 + family, seq: 5, flags: SYN });
      await tap.receive('SYN/ACK', (p) => p.flags === (SYN | ACK));
      t.truthy(await spy.receive('RST', (p) => (p.flags & RST) !== 0 && p.fromPort === 45_000));
      addon.close(fd);
      spy.close();
      tap.close();
    },
  );

  test.serial(`IPv${family}: the filter admits our ports only, and may change at run time`, async (t) => {
    const tap = new Tap(near, 'wlan0', [1_000]);
    const sender = new Tap(far, 'eth0', []);
    const burst = (tag: number) =>
      sender.send(
        ...[999, 1_000, 1_001, 2_000, 2_001, 65_535].map((toPort) => ({
          from: to,
          to: from,
          fromPort: 80,
          toPort,
          seq: tag,
          flags: RST,
        })),
      );
    const got = (tag: number) => tap.packets.filter((p) => p.seq === tag).map((p) => p.toPort);
    await burst(1);
    await until(() => got(1).length === 1, 'the first');
    t.deepEqual(got(1), [1_000]);
    tap.port.setPorts([2_000, 999, 65_535, 3_000, 4_000, 5_000, 1]);
    await burst(2);
    await until(() => got(2).length === 3, 'the second');
    t.deepEqual(got(2), [999, 2_000, 65_535]);
    // Several hundred separate ranges: long jumps in the filter.
    tap.port.setPorts(Array.from({ length: 500 }, (_, i) => 999 + 2 * i));
    await burst(3);
    await until(() => got(3).length === 2, 'the third');
    t.deepEqual(got(3), [999, 1_001]);
    tap.port.setPorts([]);
    await burst(4);
    tap.port.setPorts([1_000]);
    await burst(5);
    await until(() => got(5).length === 1, 'the fifth');
    t.deepEqual(got(4), []);
    t.throws(() => tap.port.setPorts(Array.from({ length: 513 }, (_, i) => 2 * i)), { instanceOf: RangeError });
    sender.close();
    tap.close();
  });

  test.serial(`IPv${family}: ICMP errors that quote our segments come in, others do not`, async (t) => {
    const beyond = family === 4 ? '203.0.113.1' : '2001:db8::1';
    far.run(
      'sysctl',
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.ipv4.icmp_ratelimit=0',
      'net.ipv6.icmp.ratelimit=0',
    );
    far.ip(family === 4 ? '-4' : '-6', 'route', 'add', 'unreachable', beyond);
    const tap = new Tap(near, 'wlan0', [1_234]);
    await tap.send(
      { from, to: beyond, fromPort: 4_321, toPort: 443, flags: SYN },
      { from, to: beyond, fromPort: 1_234, toPort: 443, flags: SYN },
      { from, to: beyond, fromPort: 1_234, toPort: 444, flags: SYN, ttl: 1 },
    );
    const errors = () => tap.packets.filter((p) => p.protocol === (family === 4 ? 1 : 58));
    await until(() => errors().length >= 2, 'two errors');
    const quote = family === 4 ? 28 : 48;
    const ipBytes = family === 4 ? 20 : 40;
    t.true(errors().every((p) => p.ip.readUInt16BE(quote + ipBytes) === 1_234));
    t.deepEqual(
      errors()
        .map((p) => p.ip.readUInt16BE(quote + ipBytes + 2))
        .sort(),
      [443, 444],
    );
    tap.close();
  });
}

test.serial('what the kernel sends in super-packets is received so, with its checksum state', async (t) => {
  const guard = withGuard(near);
  const server = far.spawn('node', '-e', 'require("net").createServer(s=>s.end(Buffer.alloc(60000,9))).listen(8200)');
  await until(() => states(far, 8_200).includes('LISTEN'), 'the server');
  const tap = new Tap(near, 'wlan0', [guard.port]);
  const base = { from: '10.1.0.1', to: '10.1.0.2', fromPort: guard.port, toPort: 8_200 };
  await tap.send({ ...base, seq: 1, flags: SYN });
  const answer = await tap.receive('SYN/ACK', (p) => p.flags === (SYN | ACK));
  await tap.send({ ...base, seq: 2, ack: answer.seq + 1, flags: ACK });
  const big = await tap.receive('a super-packet', (p) => p.payload.length > 1400);
  t.is(big.gsoSize, 1400);
  t.is(big.checksum, CSUM_PARTIAL);
  t.true(big.payload.every((byte) => byte === 9));
  server.kill();
  guard.close();
  tap.close();
});

test.serial('a header-less device: super-packets are cut in software, both families', async (t) => {
  const tun = inNamespace(near.name, () => openTun({ name: 'wwan0', mode: 'tun', vnetHeader: false }));
  near.ip('addr', 'add', '10.5.0.1/24', 'dev', 'wwan0');
  near.ip('addr', 'add', 'fd05::1/64', 'dev', 'wwan0');
  near.ip('link', 'set', 'wwan0', 'up');
  const tap = new Tap(near, 'wwan0', [777]);
  t.is(tap.port.linkBytes, 0);
  const batch = new ReceiveBatch(64, 2_048);
  const out: SeenPacket[] = [];
  for (const [from, to] of [
    ['10.5.0.1', '10.5.0.2'],
    ['fd05::1', 'fd05::2'],
  ] as const) {
    await tap.send({
      from,
      to,
      fromPort: 777,
      toPort: 80,
      seq: 100,
      ack: 1,
      flags: ACK | PSH,
      gsoSize: 1_000,
      payload: Buffer.alloc(9_500, 3),
    });
  }
  await until(() => {
    for (let i = 0, n = tun.receive(batch); i < n; i++) {
      const p = seen(batch, i);
      if (p.protocol === 6) out.push(p);
    }
    return out.length >= 20;
  }, 'the segments');
  for (const family of [4, 6]) {
    const segments = out.filter((p) => p.family === family);
    t.deepEqual(
      segments.map((p) => p.seq),
      Array.from({ length: 10 }, (_, i) => 100 + 1_000 * i),
    );
    t.true(segments.every((p) => p.isChecksumRight));
    t.is(segments.at(-1)!.payload.length, 500);
  }
  // And inwards: what the device delivers has no link header either.
  const back = new TransmitBatch(1);
  addTcp(back, { from: '10.5.0.2', to: '10.5.0.1', fromPort: 80, toPort: 777, seq: 42, flags: RST });
  back.csumOffset[0] = -1;
  t.is(tun.send(back, 0), 1);
  t.like(await tap.receive('the answer', (p) => p.seq === 42), { family: 4, fromPort: 80, toPort: 777 });
  tap.close();
  tun.close();
});

test.serial('a full receive buffer is counted as ours, once', async (t) => {
  const tap = new Tap(near, 'wlan0', [5_000], 20_000);
  const sender = new Tap(far, 'eth0', []);
  t.is(tap.port.receiveBufferBytes, 20_000);
  tap.port.takeDrops();
  const batch = new TransmitBatch(64);
  for (let i = 0; i < 64; i++) {
    addTcp(batch, {
      from: '10.1.0.2',
      to: '10.1.0.1',
      fromPort: 1,
      toPort: 5_000,
      seq: i,
      flags: ACK,
      payload: Buffer.alloc(1_000),
    });
  }
  await sender.send({ from: '10.1.0.2', to: '10.1.0.1', fromPort: 1, toPort: 4_999, flags: RST });
  t.is(sender.port.send(batch, 0), 64);
  const drops = tap.port.takeDrops();
  t.true(drops > 10 && drops < 64, `${drops} drops`);
  t.is(tap.port.takeDrops(), 0);
  await until(() => tap.packets.length === 64 - drops, 'the others');
  sender.close();
  tap.close();
});

test.serial('bytes that wait in the qdisc are seen, and drain', async (t) => {
  near.run('tc', 'qdisc', 'add', 'dev', 'wlan0', 'root', 'tbf', 'rate', '2mbit', 'burst', '3000', 'limit', '1000000');
  const tap = new Tap(near, 'wlan0', []);
  t.is(tap.port.queuedBytes(), 0);
  const packet = { from: '10.1.0.1', to: '10.1.0.2', fromPort: 1, toPort: 9, flags: RST, payload: Buffer.alloc(1_200) };
  await tap.send(...Array.from({ length: 30 }, () => packet));
  const queued = tap.port.queuedBytes();
  t.true(queued > 20 * 1_200 && queued < 30 * 4_000, `${queued} bytes`);
  await until(() => tap.port.queuedBytes() === 0, 'the queue to drain');
  near.run('tc', 'qdisc', 'del', 'dev', 'wlan0', 'root');
  tap.close();
});

test.serial(
  'the next hop: its new address is used at once, its loss is noticed, an absent one is not waited for for ever',
  async (t) => {
    const tap = new Tap(near, 'wlan0', []);
    const spy = new Tap(far, 'eth0', [7]);
    const probe = (seq: number, to = '10.1.0.2') => ({ from: '10.1.0.1', to, fromPort: 7, toPort: 7, seq, flags: RST });
    await tap.send(probe(1));
    await spy.receive('the first', (p) => p.seq === 1);
    // The far end is replaced by another machine, which announces itself as gateways do on failover.
    far.ip('link', 'set', 'eth0', 'address', '02:00:00:00:00:42');
    near.ip('neigh', 'replace', '10.1.0.2', 'lladdr', '02:00:00:00:00:42', 'dev', 'wlan0', 'nud', 'stale');
    await until(() => {
      const batch = new TransmitBatch(1);
      addTcp(batch, probe(2));
      tap.port.send(batch, 0);
      return spy.packets.some((p) => p.seq === 2);
    }, 'a packet to reach the new address');
    near.ip('neigh', 'flush', 'dev', 'wlan0');
    await tap.send(probe(4));
    await spy.receive('the fourth', (p) => p.seq === 4);

    // Nobody there: back-pressure while it is being resolved, then dropped and counted; others are not held up for ever.
    const batch = new TransmitBatch(2);
    addTcp(batch, probe(5, '10.1.0.99'));
    addTcp(batch, probe(6));
    t.is(tap.port.send(batch, 0), 0);
    let taken = 0;
    await until(() => {
      taken += tap.port.send(batch, taken);
      return taken === 2;
    }, 'patience to end');
    t.is(tap.port.drops.unreachable, 1);
    await spy.receive('the sixth', (p) => p.seq === 6);
    spy.close();
    tap.close();
  },
);

test.serial('no route is a drop, an interface that is down too; neither throws or blocks', async (t) => {
  const tap = new Tap(near, 'wlan0', []);
  near.ip('route', 'del', 'default');
  const batch = new TransmitBatch(2);
  addTcp(batch, { from: '10.1.0.1', to: '192.0.2.1', fromPort: 7, toPort: 7, flags: RST });
  t.is(tap.port.send(batch, 0), 1);
  t.is(tap.port.drops.unreachable, 1);
  const big = new TransmitBatch(1);
  addTcp(big, { from: '10.1.0.1', to: '10.1.0.2', fromPort: 7, toPort: 7, flags: ACK, payload: Buffer.alloc(3_000) });
  await until(() => tap.port.send(big, 0) === 1, 'the refusal');
  t.is(tap.port.drops.refused, 1);
  const tun = inNamespace(near.name, () => openTun({ name: 'gone0', mode: 'tun', vnetHeader: false }));
  near.ip('link', 'set', 'gone0', 'up');
  near.ip('addr', 'add', '10.6.0.1/24', 'dev', 'gone0');
  const gone = new Tap(near, 'gone0', []);
  near.ip('link', 'set', 'gone0', 'down');
  batch.clear();
  addTcp(batch, { from: '10.6.0.1', to: '10.6.0.2', fromPort: 7, toPort: 7, flags: RST });
  t.is(gone.port.send(batch, 0), 1);
  tun.close();
  t.is(gone.port.send(batch, 0), 1);
  t.is(gone.port.drops.linkDown, 2);
  t.is(gone.port.queuedBytes(), 0);
  gone.close();
  tap.close();
});

test.serial('an interface that is not there is a clear error', (t) => {
  t.throws(() => openPacketPort({ interfaceName: 'wlan77' }), { instanceOf: RangeError, message: /wlan77/ });
});

test.serial(
  'a neighbour in use is announced to the kernel again, so that it is probed before it is believed dead or moved',
  (t) => {
    const [hops, netlink] = inNamespace(near.name, () => [new NextHops(index, () => undefined), new Rtnetlink()]);
    const address = parseIp('10.1.0.2');
    const packet = Buffer.concat([parseIp('10.1.0.1').bytes, address.bytes]);
    const set = (state: number) => netlink.setNeighbour(index, address, new Uint8Array([2, 0, 0, 0, 0, 0x42]), state);
    set(NUD_STALE);
    t.deepEqual([...(hops.lookup(packet, 0, 4, 4, 1_000_000) as Uint8Array)], [2, 0, 0, 0, 0, 0x42]);
    t.not(netlink.neighbour(index, address)!.state, NUD_STALE, 'the first use starts the probing');
    set(NUD_STALE);
    hops.lookup(packet, 0, 4, 4, 1_000_000 + REFRESH_US - 1);
    t.is(netlink.neighbour(index, address)!.state, NUD_STALE, 'not with every packet');
    hops.lookup(packet, 0, 4, 4, 1_000_000 + REFRESH_US);
    t.not(netlink.neighbour(index, address)!.state, NUD_STALE);
    hops.close();
    netlink.close();
  },
);

test.serial('in a user namespace of its own everything opens, with the receive buffer that the system allows', (t) => {
  const script = `
    import { execFileSync } from 'node:child_process';
    import { GuardPool, openPacketPort, openTun } from ${JSON.stringify(new URL('../../src/native/index.js', import.meta.url).href)};
    execFileSync('ip', ['link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1']);
    execFileSync('ip', ['link', 'set', 'v0', 'up']);
    const port = openPacketPort({ interfaceName: 'v0', ports: [1] });
    const tun = openTun({ name: 'tun0', mode: 'tun', vnetHeader: true });
    const pool = new GuardPool();
    console.log(JSON.stringify([port.receiveBufferBytes, tun.name, pool.acquire(0).port > 0]));
    pool.close(); tun.close(); port.close();`;
  const out = run('unshare', '-Urn', process.execPath, '--input-type=module', '-e', script);
  const limit = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
  t.deepEqual(JSON.parse(out), [Math.min(limit, 16 << 20), 'tun0', true]);
});
