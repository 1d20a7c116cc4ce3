import test from 'ava';
import { parsePrefix } from '../../../src/config/prefix.js';
import type { FlowRule, FlowsConfig } from '../../../src/config/types.js';
import { BULK, SPARSE } from '../../../src/core/lanes/packet-lane.js';
import { FlowDesk } from '../../../src/daemon/flows/flow-desk.js';
import { bytes, ping, tcp, udp, V4_DST, V6_DST, V6_SRC, view } from '../lanes/packets.js';

function rule(match: Partial<FlowRule['match']>, mode: FlowRule['mode'], use: FlowRule['use'] = 'packet'): FlowRule {
  const everything = {
    protocol: null,
    to: [],
    port: [],
    domain: [],
    app: { cgroup: null, uid: null },
    dscp: [],
    bytesOver: null,
  };
  return { match: { ...everything, ...match }, use, mode, copiesBytes: null };
}

function desk(rules: FlowRule[]): FlowDesk {
  return new FlowDesk({ default: 'packet', rules } as unknown as FlowsConfig, {
    nowUs: () => 0,
    mode: () => 'auto',
    scheduler: () => 'adaptive',
    dialer: () => undefined,
    isMetered: () => false,
    tellServer: () => {},
    onBypassChanged: () => {},
    sources: [],
  });
}

test('rules for packets choose the lane: by port, prefix, code point and protocol; modes that have no lane leave it', (t) => {
  const d = desk([
    rule({ port: [{ from: 5060, to: 5061 }] }, 'interactive'),
    rule({ to: [parsePrefix('2001:db8::/32')!] }, 'aggregate'),
    rule({ dscp: [46] }, 'interactive'),
    rule({ port: [{ from: 22, to: 22 }] }, 'redundant', 'direct'),
    rule({ protocol: 'udp', port: [{ from: 443, to: 443 }] }, 'aggregate'),
  ]);
  const laneOf = (packet: Uint8Array) => d.laneOf(packet, 0, view(packet));
  t.is(laneOf(udp(bytes(100), { dstPort: 5060 })), SPARSE);
  t.is(laneOf(udp(bytes(100), { src: V6_SRC, dst: V6_DST, dstPort: 9 })), BULK);
  t.is(laneOf(udp(bytes(100), { dst: V4_DST, dstPort: 443 })), BULK);
  t.is(laneOf(tcp({ payload: bytes(10), dstPort: 443 })), null);
  t.is(laneOf(tcp({ payload: bytes(10), dstPort: 22 })), null, 'one connection of its own cannot be had as packets');
  t.is(laneOf(ping()), null);
  const marked = udp(bytes(10), { dstPort: 7 });
  marked[1] = 46 << 2;
  t.is(laneOf(marked), SPARSE);
  d.close();
});

test('without rules for packets nobody is asked', (t) => {
  const d = desk([rule({ protocol: 'tcp' }, 'interactive', 'relay')]);
  t.false(d.judge.rules.hasPacketRules);
  const packet = udp(bytes(100), { dstPort: 5060 });
  t.is(d.laneOf(packet, 0, view(packet)), null);
  d.close();
});
