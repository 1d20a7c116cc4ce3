/**
 * What bytes from outside are given to, one target for each parser and one for the whole engine. Each checks what must hold
 * whatever the bytes are, and names the outcome.
 */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { ConfigErrors } from '../../src/config/errors.js';
import { parseConfig } from '../../src/config/load.js';
import { parsePathChange } from '../../src/control/protocol.js';
import { parseIp } from '../../src/core/base/ip.js';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_DATAGRAM,
  CAPSULE_POLICY,
  CapsuleDecoder,
  CapsuleValue,
  encodeCapsule,
  writeDatagramHeader,
} from '../../src/core/lanes/capsule.js';
import {
  encodeAddresses,
  encodeRoutes,
  everything,
  parseAddresses,
  parseRoutes,
} from '../../src/core/lanes/connect-ip.js';
import { BULK, PacketLane, SPARSE, WRITE_MAX_BYTES, WRITE_ROOM_BYTES } from '../../src/core/lanes/packet-lane.js';
import { encodePolicy, parsePolicy } from '../../src/core/lanes/policy.js';
import { formatSegment } from '../../src/core/wire/format.js';
import { IcmpErrorView, MAX_ICMP_ERROR_BYTES, parseIcmpError, writeIcmpError } from '../../src/core/wire/icmp.js';
import { IpHeader, parseIpHeader } from '../../src/core/wire/ip.js';
import { MptcpOptions, parseMptcpOption } from '../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, verifyTcpChecksum } from '../../src/core/wire/segment.js';
import { parseAnswer, parseNames } from '../../src/daemon/dns-message.js';
import { HeadError, HeadReader } from '../../src/daemon/http-head.js';
import { TunWriter } from '../../src/daemon/tun-writer.js';
import { mptcpModel, packetModel } from '../support/arbitraries.js';
import { REPOSITORY } from '../support/files.js';
import { encodeMptcp, encodePacket } from '../support/oracle-codec.js';
import { convertTarget } from './convert-target.js';
import { engineTarget } from './engine-target.js';
import type { Target } from './fuzzer.js';
import { proxyTarget } from './proxy-target.js';

const SAMPLE_SEED = 1;

function check(isRight: boolean, what: string): void {
  if (!isRight) throw new Error(what);
}

const text = (s: string) => new Uint8Array(Buffer.from(s));
const packets = () => fc.sample(packetModel, { seed: SAMPLE_SEED, numRuns: 40 }).map(encodePacket);

// ---- Packets -----------------------------------------------------------------------------------------------------------

const packet: Target = {
  seeds: packets,
  run(bytes) {
    const seg = new SegmentView();
    const before = 7;
    const views = [0x00, 0xff].map((filler) => {
      const buf = new Uint8Array(bytes.length + 100).fill(filler);
      buf.set(bytes, before);
      const result = parseSegment(buf, before, bytes.length, 0, seg);
      if (result !== 'ok') return result;
      check(seg.ipStart === before && seg.l4Off >= before + 20 && seg.payloadOff >= seg.l4Off + 20, 'headers');
      check(seg.payloadLen >= 0 && seg.payloadOff + seg.payloadLen === seg.ipEnd, 'payload');
      check(seg.ipEnd <= before + bytes.length && seg.sackCount <= 4, 'end');
      return `ok ${verifyTcpChecksum(buf, seg)} ${formatSegment(seg)}`;
    });
    check(views[0] === views[1], `bytes outside were read: ${views.join(' / ')}`);
    return views[0]!.startsWith('ok') ? `ok ${seg.flags} ${seg.mptcp.present} ${seg.mptcp.skipped}` : views[0]!;
  },
};

/** The first byte chooses: the bytes behind are one MPTCP option, or all options of a segment (its flags are that byte). */
const options: Target = {
  seeds: () =>
    fc.sample(mptcpModel, { seed: SAMPLE_SEED, numRuns: 60 }).map((m) => Buffer.concat([Buffer.of(0), encodeMptcp(m)])),
  run(bytes) {
    const flags = bytes[0] ?? 0;
    const rest = bytes.subarray(1);
    if (flags === 0) {
      if (rest.length < 3) return 'short';
      const o = new MptcpOptions();
      parseMptcpOption(rest, 0, Math.min(rest.length, 40), o);
      check((o.present !== 0) !== (o.skipped !== 0), 'neither taken nor skipped, or both');
      return `${o.present} ${o.present === 0 ? rest[2]! >> 4 : rest.length}`;
    }
    const optionBytes = Math.min(40, (rest.length + 3) & ~3);
    const whole = new Uint8Array(40 + optionBytes + 10);
    whole.set([0x45, 0, whole.length >> 8, whole.length & 255, 0, 0, 0x40, 0, 64, 6]);
    whole[32] = ((20 + optionBytes) / 4) << 4;
    whole[33] = flags;
    whole.set(rest.subarray(0, optionBytes), 40);
    repairIpChecksum(whole);
    const seg = new SegmentView();
    const result = parseSegment(whole, 0, whole.length, 0, seg);
    if (result !== 'ok') return result;
    check(seg.payloadLen === 10 && seg.sackCount <= 4, 'payload');
    check(seg.mptcp.addAddrs.length <= 4, 'ADD_ADDRs');
    formatSegment(seg);
    return `${seg.mptcp.present} ${seg.mptcp.skipped} ${seg.sackCount}`;
  },
};

const icmp: Target = {
  seeds: packets,
  run(bytes) {
    const ip = new IpHeader();
    const error = new IcmpErrorView();
    const result = parseIpHeader(bytes, 0, bytes.length, ip);
    if (result !== 'ok') return result;
    const verdict = parseIcmpError(ip, error);
    if (verdict === 'ok') {
      check(error.quotedDstOff + (error.family === 4 ? 4 : 16) <= ip.ipEnd, 'the quote ends in the packet');
    }
    const out = new Uint8Array(MAX_ICMP_ERROR_BYTES);
    const source = parseIp(ip.family === 4 ? '192.0.2.1' : '2001:db8::1');
    const length = writeIcmpError(out, 0, 'too-big', 1280, source, ip);
    check(length <= MAX_ICMP_ERROR_BYTES, 'answer too long');
    if (length > 0) {
      const back = new IpHeader();
      check(parseIpHeader(out, 0, length, back) === 'ok', 'our own error is a packet');
    }
    return `${verdict} ${error.errorClass} ${length > 0}`;
  },
};

// ---- The tunnel --------------------------------------------------------------------------------------------------------

const RULE = { field: 'source', addresses: [parseIp('10.0.0.1'), parseIp('fd00::1')] } as const;

function decode(
  bytes: Uint8Array,
  cuts: (at: number) => number,
): { list: string[]; error: string | null; atBoundary: boolean } {
  const decoder = new CapsuleDecoder();
  const list: string[] = [];
  const sink = {
    onCapsule: (type: number, value: CapsuleValue) => {
      list.push(`${type}:${Buffer.from(value.bytes()).toString('hex')}`);
    },
  };
  for (let at = 0; at < bytes.length; ) {
    const count = Math.min(cuts(at), bytes.length - at);
    decoder.push(bytes.slice(at, at + count), 0, count, sink);
    at += count;
  }
  return { list, error: decoder.error, atBoundary: decoder.isAtBoundary };
}

const capsule: Target = {
  seeds() {
    const good = [
      encodeCapsule(
        CAPSULE_ADDRESS_ASSIGN,
        encodeAddresses([{ requestId: 1, address: parseIp('10.0.0.2'), prefixLength: 32 }]),
      ),
      encodeCapsule(3, encodeRoutes([everything(4), everything(6)])),
      encodeCapsule(CAPSULE_POLICY, encodePolicy(POLICY)),
      encodeCapsule(0x1234, new Uint8Array(9)),
      ...packets().slice(0, 10).map(datagram),
    ];
    return [...good, new Uint8Array(Buffer.concat(good))];
  },
  run(bytes) {
    const whole = decode(bytes, () => bytes.length);
    const dripped = decode(bytes, () => 1);
    const uneven = decode(bytes, (at) => 1 + ((at * 7) % 23));
    check(JSON.stringify(whole) === JSON.stringify(dripped), 'byte by byte it is something else');
    check(JSON.stringify(whole) === JSON.stringify(uneven), 'in pieces it is something else');
    const writer = new TunWriter(
      { receive: () => 0, send: (batch, from) => batch.count - from, close: () => undefined },
      1500,
    );
    const outcomes = new Set<string>();
    for (const entry of whole.list) {
      const colon = entry.indexOf(':');
      const value = new Uint8Array(Buffer.from(entry.slice(colon + 1), 'hex'));
      const type = Number(entry.slice(0, colon));
      if (type === CAPSULE_DATAGRAM) {
        const v = new CapsuleValue();
        v.add(value, 0, value.length);
        writer.write(v, RULE);
      } else if (type === CAPSULE_POLICY) outcomes.add(`policy ${parsePolicy(value) !== null}`);
      else outcomes.add(`${type} ${type === 3 ? parseRoutes(value) !== null : parseAddresses(value) !== null}`);
    }
    return `${whole.error === null} ${whole.atBoundary} ${[...outcomes].sort()} ${Object.keys(writer.refused).sort()}`;
  },
};

const POLICY = {
  serial: 7,
  isFull: true,
  paths: [
    {
      name: 'wlan0',
      role: 'always',
      state: 'ok',
      rateLimitBytesPerS: 1000,
      congestion: 'bbr',
      addressIds: [{ lane: 0, addressId: 1, serverAddressId: 0 }],
    },
  ],
  modes: [{ lane: 255, mode: 'auto', scheduler: 'blest' }],
} as const;

function datagram(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + bytes.length);
  out.set(bytes, 16);
  return out.slice(writeDatagramHeader(out, 16, bytes.length, -1));
}

/** What is understood is written again and understood in the same way. */
function stable<T>(parse: (b: Uint8Array) => T | null, write: (value: T) => Uint8Array, seeds: Uint8Array[]): Target {
  return {
    seeds: () => seeds,
    run(bytes) {
      const value = parse(bytes);
      if (value === null) return 'malformed';
      const again = parse(write(value));
      check(JSON.stringify(again, textOf) === JSON.stringify(value, textOf), 'not stable');
      return `${bytes.length >> 3}`;
    },
  };
}

function textOf(_key: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'text' in value ? value.text : value;
}

/** gso size (2 bytes), "unfinished" (1), and a packet as the TUN gives it. */
const tun: Target = {
  seeds: () =>
    packets().flatMap((p) => [Buffer.concat([Buffer.of(0, 0, 0), p]), Buffer.concat([Buffer.of(2, 0x58, 1), p])]),
  run(bytes) {
    if (bytes.length < 3) return 'short';
    const lane = new PacketLane({ mtuBytes: 1400, hashSeed: 1, memoryBytes: 1 << 20 });
    lane.peerTakesSuper = (bytes[2]! & 2) !== 0;
    lane.setUp(SPARSE);
    lane.setUp(BULK);
    lane.enqueue(0, bytes, 3, bytes.length - 3, (bytes[0]! << 8) | bytes[1]!, (bytes[2]! & 1) !== 0);
    const out = new Uint8Array(WRITE_ROOM_BYTES);
    const sizes: number[] = [];
    for (const index of [SPARSE, BULK] as const) {
      const filled = lane.pull(1, index, out, WRITE_MAX_BYTES);
      const { list, error, atBoundary } = decode(out.subarray(0, filled), () => 65_536);
      check(error === null && atBoundary, 'what is pulled is capsules');
      sizes.push(list.length);
    }
    const { counters } = lane;
    const dropped = counters.droppedMalformed + counters.droppedNotOffloadable + counters.droppedNoMemory;
    check((dropped === 0) === sizes[0]! + sizes[1]! > 0, 'dropped, or queued');
    check(counters.packetsOut === sizes[0]! + sizes[1]!, 'all that was queued is pulled');
    return `${counters.droppedMalformed} ${counters.droppedNotOffloadable} ${Math.min(9, sizes[0]! + sizes[1]!)}`;
  },
};

// ---- Text --------------------------------------------------------------------------------------------------------------

const config: Target = {
  seeds: () => ['client', 'server'].map((name) => text(readFileSync(`${REPOSITORY}/configs/${name}.yaml`, 'utf8'))),
  run(bytes) {
    try {
      parseConfig('/fuzz/config.yaml', Buffer.from(bytes).toString('utf8'));
      return 'good';
    } catch (error) {
      if (!(error instanceof ConfigErrors)) throw error;
      check(error.errors.length > 0, 'an error that says nothing');
      for (const e of error.errors) check(e.line >= 0 && e.message !== '' && e.message.length < 8192, 'no message');
      return error.errors[0]!.path.replace(/\d+/g, '#').slice(0, 40);
    }
  },
};

const control: Target = {
  seeds: () => ['{"role":"backup"}', '{"role":null,"limit_bps":1000000}', '{}', '[]', '{"limit_bps":-1}'].map(text),
  run(bytes) {
    let body: unknown;
    try {
      body = JSON.parse(Buffer.from(bytes).toString('utf8'));
    } catch {
      return 'not JSON';
    }
    const change = parsePathChange(body);
    return typeof change === 'string' ? change.replace(/unknown key .*/, 'unknown key') : Object.keys(change).join();
  },
};

const httpHead: Target = {
  seeds: () =>
    [
      'GET /.well-known/masque/ip/*/*/ HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: connect-ip\r\n\r\nrest',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: connect-ip\r\nCapsule-Protocol: ?1\r\n\r\n',
    ].map(text),
  run(bytes) {
    const whole = readHead(bytes, bytes.length);
    check(whole === readHead(bytes, 1), 'byte by byte it is something else');
    return whole.replace(/:.*/s, '');
  },
};

function readHead(bytes: Uint8Array, step: number): string {
  const reader = new HeadReader();
  try {
    for (let at = 0; at < bytes.length; at += step) {
      if (!reader.push(Buffer.from(bytes.subarray(at, at + step)))) continue;
      return `head ${reader.head!.fields.size}: ${reader.head!.startLine} ${JSON.stringify([...reader.head!.fields])}`;
    }
    return 'more';
  } catch (error) {
    if (!(error instanceof HeadError)) throw error;
    return error.message.replace(/repeated.*/, 'repeated');
  }
}

/** An answer to query 0x1234 for example.org: A 192.0.2.1 behind a CNAME. */
const DNS_ANSWER =
  '1234818000010002000000000765786d61706c65036f72670000010001c00c0005000100000e100002c00cc00c0001000100000e100004c0000201';

const dns: Target = {
  seeds: () => [new Uint8Array(Buffer.from(DNS_ANSWER, 'hex'))],
  run(bytes) {
    const answers = ([4, 6] as const).map((family) => parseAnswer(Buffer.from(bytes), 0x1234, family));
    for (const addresses of answers) check((addresses?.length ?? 0) <= 16, 'more addresses than wanted');
    const named = parseNames(bytes);
    for (const { names } of named ?? []) check(names.length > 0 && names.every((n) => n.length <= 255), 'names');
    return `${answers.map((a) => a?.length ?? 'none').join()} ${named?.length ?? 'none'}`;
  },
};

function repairIpChecksum(b: Uint8Array): void {
  b[10] = 0;
  b[11] = 0;
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += b[i]! * 256 + b[i + 1]!;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
  b[10] = sum >> 8;
  b[11] = sum & 0xff;
}

export const TARGETS: Readonly<Record<string, Target>> = {
  packet,
  options,
  icmp,
  engine: engineTarget,
  capsule,
  policy: stable(parsePolicy, encodePolicy, [encodePolicy(POLICY)]),
  addresses: stable(parseAddresses, encodeAddresses, [
    encodeAddresses([
      { requestId: 0, address: parseIp('10.0.0.2'), prefixLength: 32 },
      { requestId: 3, address: parseIp('fd00::2'), prefixLength: 128 },
    ]),
  ]),
  routes: stable(parseRoutes, encodeRoutes, [encodeRoutes([everything(4), everything(6)])]),
  tun,
  config,
  control,
  'http-head': httpHead,
  dns,
  convert: convertTarget,
  proxy: proxyTarget,
};
