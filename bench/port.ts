/**
 * The packet port: AF_PACKET sockets on the two ends of a veth pair, both driven by this thread, which hands over a
 * batch at one end and takes it out at the other. So the cost of a packet here is that of sending it and of receiving it.
 */
import { parseIp } from '../src/core/base/ip.js';
import { HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES, ReceiveBatch, TransmitBatch } from '../src/core/engine/ports.js';
import { PROTO_TCP, pseudoHeaderSum, writeIpHeader } from '../src/core/wire/ip.js';
import { TCP_ACK } from '../src/core/wire/segment.js';
import { finishTcpHeader, putTcpChecksum, putTimestamps, writeTcpHeader } from '../src/core/wire/tcp.js';
import { NamespaceSet } from '../src/lab/namespaces.js';
import { inNamespace, openPacketPort, PACKET_SLOT_BYTES, type PacketSocketPort } from '../src/native/index.js';
import type { Section, SectionOptions } from './bench.js';
import { type Row, round3 } from './stats.js';

const NEAR = '10.9.0.1';
const FAR = '10.9.0.2';
/** Routed through FAR and belonging to nobody: the far kernel drops it after the packet socket has had it. */
const TARGET = '203.0.113.9';
const PORT = 8443;
const MTU_BYTES = 1500;
const SLOTS = 64;
const ROUND_MS = 1000;
const QUICK_ROUND_MS = 200;
const RESOLVE_PATIENCE_MS = 3000;

export async function openPortBench({ quick }: SectionOptions): Promise<Section> {
  const namespaces = new NamespaceSet('mtb-port-');
  const ports: PacketSocketPort[] = [];
  const close = async () => {
    for (const port of ports.splice(0)) port.close();
    await namespaces.dispose();
  };
  try {
    wire(namespaces);
    const open = (ns: string) =>
      inNamespace(namespaces.fullName(ns), () => openPacketPort({ interfaceName: 'eth0', ports: [PORT] }));
    const near = open('near');
    ports.push(near);
    const far = open('far');
    ports.push(far);
    await resolveNextHop(near);
    const roundMs = quick ? QUICK_ROUND_MS : ROUND_MS;
    const run = async () => [
      ...rows(`${MTU_BYTES}-byte packets`, carry(near, far, MTU_BYTES, 0, roundMs)),
      ...rows('super-packets of 64 KB', carry(near, far, 65_000, MTU_BYTES, roundMs)),
    ];
    return { title: 'packet port over veth, both ends in one thread', config: { roundMs, batch: SLOTS }, run, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Carried {
  readonly packets: number;
  readonly payloadBytes: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

function rows(what: string, c: Carried): Row[] {
  return [
    { name: `${what}: rate`, value: round3(c.packets / c.seconds), unit: 'packets/s' },
    { name: `${what}: payload`, value: round3((c.payloadBytes * 8) / c.seconds / 1e9), unit: 'Gbit/s' },
    { name: `${what}: cost`, value: round3((c.cpuSeconds * 1e9) / c.payloadBytes), unit: 'CPU s/GB' },
  ];
}

/** Batches from `near` to `far` for `roundMs`; throws when one is lost, since then nothing was measured. */
function carry(
  near: PacketSocketPort,
  far: PacketSocketPort,
  ipBytes: number,
  mtuBytes: number,
  roundMs: number,
): Carried {
  const sent = new TransmitBatch(SLOTS);
  const payloadBytes = fill(sent, SLOTS, ipBytes, mtuBytes);
  const received = new ReceiveBatch(SLOTS, PACKET_SLOT_BYTES);
  while (far.receive(received) > 0); // the probe
  const round = (untilMs: number): Carried => {
    const startMs = performance.now();
    const cpu = process.cpuUsage();
    let packets = 0;
    while (performance.now() - startMs < untilMs) {
      for (let taken = 0; taken < SLOTS; ) taken += near.send(sent, taken);
      let n = 0;
      while (far.receive(received) > 0) n += received.count;
      if (n !== SLOTS) throw new Error(`packet port: ${n} of ${SLOTS} packets arrived`);
      packets += n;
    }
    const { user, system } = process.cpuUsage(cpu);
    const seconds = (performance.now() - startMs) / 1000;
    return { packets, payloadBytes: packets * payloadBytes, seconds, cpuSeconds: (user + system) / 1e6 };
  };
  round(roundMs / 5); // warm-up
  return round(roundMs);
}

/** `count` TCP segments as the engine makes them; returns the payload of one. `mtuBytes` > 0: super-packets of such packets. */
function fill(batch: TransmitBatch, count: number, ipBytes: number, mtuBytes: number): number {
  const src = parseIp(NEAR);
  const dst = parseIp(TARGET);
  const payload = new Uint8Array(ipBytes);
  let payloadBytes = 0;
  for (let i = 0; i < count; i++) {
    const o = i * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES;
    const tcp = o + 20;
    const options = writeTcpHeader(batch.headers, tcp, 5000, PORT, i, 1, TCP_ACK, 500);
    const tcpBytes = finishTcpHeader(batch.headers, tcp, putTimestamps(batch.headers, options, 1, 1));
    payloadBytes = ipBytes - 20 - tcpBytes;
    putTcpChecksum(batch.headers, tcp, pseudoHeaderSum(src, dst, PROTO_TCP, ipBytes - 20));
    writeIpHeader(batch.headers, o, 4, src, dst, ipBytes - 20, PROTO_TCP, 0, i);
    batch.headerOffset[i] = o;
    batch.headerLength[i] = 20 + tcpBytes;
    batch.csumStart[i] = 20;
    batch.csumOffset[i] = 16;
    batch.gsoSize[i] = mtuBytes === 0 ? 0 : mtuBytes - 20 - tcpBytes;
    batch.family[i] = 4;
    batch.totalLength[i] = ipBytes;
    batch.partStart[i] = i;
    batch.partStart[i + 1] = i + 1;
    batch.parts[i] = payload;
    batch.partOffset[i] = 0;
    batch.partLength[i] = payloadBytes;
  }
  batch.count = count;
  batch.partCount = count;
  return payloadBytes;
}

function wire(namespaces: NamespaceSet): void {
  namespaces.add('near');
  namespaces.add('far');
  namespaces.ip('near', ['link add eth0 type veth peer name eth0 netns @far', `addr add ${NEAR}/24 dev eth0`]);
  namespaces.ip('far', [`addr add ${FAR}/24 dev eth0`, 'link set eth0 up']);
  namespaces.ip('near', ['link set eth0 up', `route add default via ${FAR}`]);
}

/** Sends until the kernel has found the gateway's address: its answer comes through the event loop. */
async function resolveNextHop(port: PacketSocketPort): Promise<void> {
  const probe = new TransmitBatch(1);
  fill(probe, 1, 100, 0);
  const startMs = performance.now();
  while (port.send(probe, 0) === 0) {
    if (performance.now() - startMs > RESOLVE_PATIENCE_MS) throw new Error('packet port: the next hop does not answer');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
