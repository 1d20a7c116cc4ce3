import test from 'ava';
import { CSUM_PARTIAL, CSUM_UNKNOWN, ReceiveBatch, TransmitBatch } from '../../src/core/engine/ports.js';
import { inNamespace, openTun, SystemError, TUN_SLOT_BYTES, type TunDevice } from '../../src/native/index.js';
import { TestNamespace } from '../support/netns.js';
import { until } from '../support/until.js';

const ns = new TestNamespace('tun');
test.after.always(() => ns.close());

function receiveAll(device: TunDevice, batch: ReceiveBatch): Buffer[] {
  device.receive(batch);
  return Array.from({ length: batch.count }, (_, i) =>
    Buffer.from(batch.slab.slice(batch.offset[i]!, batch.offset[i]! + batch.length[i]!)),
  );
}

test.serial('a TUN device: ping out is read whole, and a written reply is received', async (t) => {
  const tun = inNamespace(ns.name, () => openTun({ name: 'tun%d', mode: 'tun', vnetHeader: true }));
  t.is(tun.name, 'tun0');
  ns.ip('addr', 'add', '10.9.0.1/24', 'dev', tun.name);
  ns.ip('link', 'set', tun.name, 'up');
  const ping = ns.spawn('ping', '-c1', '-W3', '-s1000', '10.9.0.2');
  let output = '';
  ping.stdout!.on('data', (data) => (output += data));
  const batch = new ReceiveBatch(8, TUN_SLOT_BYTES);
  let request: Buffer | undefined;
  await until(() => {
    request ??= receiveAll(tun, batch).find((p) => p[0] === 0x45 && p[9] === 1);
    return request !== undefined;
  }, 'the echo request');
  t.is(request!.length, 1028);
  // Reply: addresses swapped, type 0, checksum adjusted for the changed type; head and payload as separate pieces.
  const out = new TransmitBatch(4);
  const head = out.headers.subarray(32, 60);
  head.set(request!.subarray(0, 28));
  head.copyWithin(12, 16, 20);
  head.set(request!.subarray(12, 16), 16);
  head[20] = 0;
  const sum = ((head[22]! << 8) | head[23]!) + 0x0800;
  head[22] = ((sum & 0xffff) + (sum >>> 16)) >> 8;
  head[23] = (sum & 0xffff) + (sum >>> 16);
  out.headerOffset[0] = 32;
  out.headerLength[0] = 28;
  out.csumOffset[0] = -1;
  out.family[0] = 4;
  out.parts.push(request!);
  out.partOffset[0] = 28;
  out.partLength[0] = 1000;
  out.partStart[1] = 1;
  out.partCount = 1;
  out.count = 1;
  t.is(tun.send(out, 0), 1);
  await until(() => ping.exitCode !== null, 'ping to end');
  t.regex(output, /1 received/);
  t.is(tun.refusedPackets, 0);
  tun.close();
});

test.serial('with offloads, TCP between two TUN devices crosses as super-packets with partial checksums', async (t) => {
  const [a, b] = inNamespace(ns.name, () => [
    openTun({ name: 'big0', mode: 'tun', vnetHeader: true }),
    openTun({ name: 'big1', mode: 'tun', vnetHeader: true }),
  ]);
  const far = new TestNamespace('far');
  try {
    ns.ip('link', 'set', 'big1', 'netns', far.name);
    ns.ip('addr', 'add', '10.8.0.1/24', 'dev', 'big0');
    ns.ip('link', 'set', 'big0', 'up');
    far.ip('addr', 'add', '10.8.0.2/24', 'dev', 'big1');
    far.ip('link', 'set', 'big1', 'up');
    const server = far.spawn('iperf3', '-s', '-1');
    await until(() => far.run('ss', '-Hltn').includes(':5201'), 'iperf3 to listen');
    const client = ns.spawn('iperf3', '-c', '10.8.0.2', '-n', '20M');
    const batch = new ReceiveBatch(16, TUN_SLOT_BYTES);
    const out = new TransmitBatch(16);
    let superPackets = 0;
    let partial = 0;
    const forward = (from: TunDevice, to: TunDevice) => {
      from.receive(batch);
      out.clear();
      for (let i = 0; i < batch.count; i++) {
        const p = batch.slab.subarray(batch.offset[i]!, batch.offset[i]! + batch.length[i]!);
        if (p[0] !== 0x45 || p[9] !== 6) continue;
        const headerBytes = 20 + (p[32]! >> 4) * 4;
        const k = out.count++;
        out.headerOffset[k] = k * 160 + 32;
        out.headerLength[k] = headerBytes;
        out.headers.set(p.subarray(0, headerBytes), k * 160 + 32);
        out.csumStart[k] = 20;
        out.csumOffset[k] = batch.checksum[i] === CSUM_PARTIAL ? 16 : -1;
        out.gsoSize[k] = batch.gsoSize[i]!;
        out.family[k] = 4;
        if (batch.gsoSize[i]! > 0) superPackets++;
        if (batch.checksum[i] === CSUM_PARTIAL) partial++;
        out.partStart[k] = out.parts.length;
        out.partOffset[out.parts.length] = headerBytes;
        out.partLength[out.parts.length] = p.length - headerBytes;
        out.parts.push(p);
        out.partStart[k + 1] = out.parts.length;
      }
      to.send(out, 0);
    };
    await until(
      () => {
        forward(a, b);
        forward(b, a);
        return client.exitCode !== null;
      },
      'iperf3 to end',
      20_000,
    );
    t.is(client.exitCode, 0);
    t.true(superPackets > 50, `${superPackets} super-packets`);
    t.true(partial >= superPackets);
    t.is(a.refusedPackets + b.refusedPackets, 0);
    server.kill();
  } finally {
    a.close();
    b.close();
    far.close();
  }
});

test.serial('a TAP device carries frames, and its carrier can be cut and restored', async (t) => {
  const tap = inNamespace(ns.name, () => openTun({ name: 'tap0', mode: 'tap', vnetHeader: false }));
  ns.ip('addr', 'add', '10.7.0.1/24', 'dev', 'tap0');
  ns.ip('link', 'set', 'tap0', 'up');
  t.regex(ns.ip('link', 'show', 'tap0'), /LOWER_UP/);
  tap.setCarrier(false);
  t.regex(ns.ip('link', 'show', 'tap0'), /NO-CARRIER/);
  tap.setCarrier(true);
  t.regex(ns.ip('link', 'show', 'tap0'), /LOWER_UP/);

  const ping = ns.spawn('ping', '-c1', '-W2', '10.7.0.2');
  const batch = new ReceiveBatch(8, 2_048);
  let arp: Buffer | undefined;
  await until(() => {
    arp ??= receiveAll(tap, batch).find((f) => f.readUInt16BE(12) === 0x0806);
    return arp !== undefined;
  }, 'the ARP request');
  t.is(batch.checksum[0], CSUM_UNKNOWN);
  const reply = Buffer.from(arp!);
  reply.set(arp!.subarray(6, 12), 0);
  reply.set([2, 0, 0, 0, 0, 9], 6);
  reply[21] = 2;
  reply.set([2, 0, 0, 0, 0, 9, 10, 7, 0, 2], 22);
  reply.set(arp!.subarray(22, 32), 32);
  t.is(tap.sendFrames(reply, new Int32Array([0]), new Int32Array([42]), 0, 1), 1);
  await until(() => ns.ip('neigh', 'show', 'dev', 'tap0').includes('02:00:00:00:00:09'), 'the neighbour');
  ping.kill();
  t.is(tap.sendFrames(new Uint8Array(3), new Int32Array([0]), new Int32Array([3]), 0, 1), 1, 'refused is taken');
  t.is(tap.refusedPackets, 1);
  tap.close();
});

test.serial('errors are clear: a bad name, a device in use', (t) => {
  t.throws(() => openTun({ name: 'much-too-long-a-name', mode: 'tun', vnetHeader: true }), { instanceOf: RangeError });
  inNamespace(ns.name, () => {
    const first = openTun({ name: 'only', mode: 'tun', vnetHeader: false });
    const error = t.throws(() => openTun({ name: 'only', mode: 'tun', vnetHeader: false }), {
      instanceOf: SystemError,
    });
    t.is((error as SystemError).code, 'EBUSY');
    first.close();
  });
  t.throws(() => inNamespace('mtn-absent', () => 0), { message: /mtn-absent: ENOENT/ });
});
