/** TCP ended at the TUN, in virtual time: what an application's TCP sees, rule by rule. */
import test from 'ava';
import fc from 'fast-check';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import type { TerminatedFlow } from '../../../src/core/flows/flow.js';
import { FIRST_WINDOW_BYTES, MAX_FLIGHT_BYTES, MAX_WINDOW_BYTES } from '../../../src/core/flows/settings.js';
import { ACK, FIN, PSH, RST, SYN } from '../../support/packets.js';
import { APP, TARGET, TunPair } from '../../support/tun-pair.js';

const S = 1_000_000;
const URG = 0x20;

/** Collects what a side receives. */
function sink(side: ConnectionApi | TerminatedFlow) {
  const parts: Buffer[] = [];
  const got = {
    /** How many, and all of them in one. */
    count: 0,
    get bytes() {
      return Buffer.concat(parts);
    },
    hasEnded: false,
    takes: Number.POSITIVE_INFINITY,
  };
  side.setReader({
    onBytes: (buf, offset, lengthBytes) => {
      const n = Math.max(0, Math.min(lengthBytes, got.takes - got.count));
      if (n > 0) parts.push(Buffer.from(buf.subarray(offset, offset + n)));
      got.count += n;
      return n;
    },
    onEnd: () => {
      got.hasEnded = true;
    },
  });
  return got;
}

function pattern(bytes: number, seed = 7): Buffer {
  const b = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) b[i] = (i * 31 + (i >>> 8) * seed) & 0xff;
  return b;
}

for (const family of [4, 6] as const) {
  test(`IPv${family}: a SYN is answered when it is accepted, not before; repetitions are absorbed`, (t) => {
    const pair = new TunPair();
    const application = pair.connect(family);
    t.is(pair.attempts.length, 1);
    const [attempt] = pair.attempts;
    t.is(attempt!.target.address.text, TARGET[family]);
    t.is(attempt!.target.port, 80);
    t.is(attempt!.source.address.text, APP[family]);
    pair.run(4 * S);
    t.is(pair.attempts.length, 1, 'one attempt, however often the SYN comes');
    t.is(attempt!.syns, 3, 'at 0, 1 and 3 seconds');
    t.is(pair.down.length, 0);
    const flow = attempt!.accept(pair.nowUs)!;
    pair.run(1_000);
    t.is(application.state, 'established');
    t.is(flow.tcp.state, 'established');
    t.is(attempt!.accept(pair.nowUs), null, 'once');
    t.is(pair.terminator.flowCount, 1);
    t.is(pair.terminator.attemptCount, 0);
  });

  test(`IPv${family}: bytes cross both ways, byte-exact, and down as super-packets`, (t) => {
    const pair = new TunPair();
    const { application, flow } = pair.open(family);
    const atApp = sink(application);
    const atFlow = sink(flow);
    const data = pattern(1_000_000);
    application.write(pair.nowUs, data);
    flow.write(pair.nowUs, data);
    pair.run(5 * S);
    t.true(atApp.bytes.equals(data));
    t.true(atFlow.bytes.equals(data));
    t.true(pair.down.some((p) => p.gsoSize > 0 && p.payload.length > 10_000));
    t.true(pair.down.every((p) => p.gsoSize <= 1500 - (family === 4 ? 52 : 72)));
    t.is(flow.bytesReceived, data.length);
    t.is(flow.bytesAcked, data.length);
  });

  test(`IPv${family}: a refused connection gets a RST that its TCP believes`, (t) => {
    const pair = new TunPair();
    const application = pair.connect(family);
    pair.attempts[0]!.refuse(pair.nowUs, 'refused');
    pair.run(1_000);
    t.is(pair.endOf(application), 'refused');
    t.is(pair.down.length, 1);
    t.is(pair.down[0]!.flags, RST | ACK);
    t.is(pair.down[0]!.seq, 0);
    t.is(pair.down[0]!.ack, (pair.up[0]!.seq + 1) >>> 0);
    t.is(pair.terminator.attemptCount, 0);
  });

  for (const [how, v4, v6] of [
    ['unreachable', [3, 1], [1, 3]],
    ['denied', [3, 13], [1, 1]],
  ] as const) {
    test(`IPv${family}: ${how} is told by ICMP, which quotes the SYN`, (t) => {
      const pair = new TunPair();
      const application = pair.connect(family);
      pair.attempts[0]!.refuse(pair.nowUs, how);
      pair.run(1_000);
      t.is(pair.down.length, 1);
      const { ip, protocol } = pair.down[0]!;
      const [type, code] = family === 4 ? v4 : v6;
      t.is(protocol, family === 4 ? 1 : 58);
      const icmp = ip.subarray(family === 4 ? 20 : 40);
      t.deepEqual([icmp[0], icmp[1]], [type, code]);
      t.true(icmp.subarray(8).equals(pair.up[0]!.ip));
      // Our engine takes prohibitions as the answer that they are; "host unreachable" is soft (RFC 1122 4.2.3.9).
      if (how === 'denied') t.is(pair.endOf(application), 'unreachable');
    });
  }
}

test('silence: the SYN stays unanswered, and its repetition is a new attempt', (t) => {
  const pair = new TunPair();
  pair.connect();
  pair.attempts[0]!.refuse(pair.nowUs, 'silence');
  pair.run(1_500_000);
  t.is(pair.down.length, 0);
  t.is(pair.attempts.length, 2);
});

test('what is not taken is left alone: SYNs, and segments of connections that began elsewhere', (t) => {
  const pair = new TunPair();
  pair.takes = () => false;
  pair.connect();
  t.is(pair.left, 1);
  t.is(pair.terminator.attemptCount, 0);
  const base = { from: APP[4], to: TARGET[4], fromPort: 5, toPort: 80 };
  t.false(pair.inject({ ...base, flags: ACK, seq: 1, ack: 1, payload: pattern(10) }));
  t.false(pair.inject({ ...base, flags: RST, seq: 1 }));
  pair.takes = () => true;
  pair.open();
  t.false(pair.inject({ ...base, flags: ACK, seq: 1, ack: 1 }), 'neither while there are flows');
  pair.run(1_000);
  t.is(pair.down.filter((p) => p.toPort === 5).length, 0);
});

test('a SYN with another number, of an application that gave up and asks again, takes the place of the first', (t) => {
  const pair = new TunPair();
  const base = { from: APP[4], to: TARGET[4], fromPort: 5, toPort: 80, flags: SYN };
  t.true(pair.inject({ ...base, seq: 1_000 }));
  t.true(pair.inject({ ...base, seq: 5_000 }));
  t.is(pair.attempts.length, 1);
  pair.attempts[0]!.accept(pair.nowUs);
  pair.run(0);
  t.is(pair.down[0]!.flags, SYN | ACK);
  t.is(pair.down[0]!.ack, 5_001);
});

test('half-close by the application: its end is told, and the answer still comes', (t) => {
  const pair = new TunPair();
  const { application, flow } = pair.open();
  const atApp = sink(application);
  const atFlow = sink(flow);
  application.write(pair.nowUs, pattern(5_000));
  application.end(pair.nowUs);
  pair.run(600 * S);
  t.true(atFlow.hasEnded);
  t.is(atFlow.bytes.length, 5_000);
  t.is(flow.closeReason, null, 'for as long as it takes');
  flow.write(pair.nowUs, pattern(300_000));
  flow.end(pair.nowUs);
  pair.run(S);
  t.is(atApp.bytes.length, 300_000);
  t.true(atApp.hasEnded);
  t.is(flow.closeReason, 'done');
  t.is(pair.endOf(application), 'done');
  t.is(pair.terminator.flowCount, 0);
});

test('half-close by the far side: the application reads the end, and goes on writing', (t) => {
  const pair = new TunPair();
  const { application, flow } = pair.open();
  const atApp = sink(application);
  const atFlow = sink(flow);
  flow.write(pair.nowUs, pattern(5_000));
  flow.end(pair.nowUs);
  pair.run(600 * S);
  t.true(atApp.hasEnded);
  t.is(flow.closeReason, null, 'FIN-WAIT-2 has no end while the application is there');
  application.write(pair.nowUs, pattern(100_000));
  application.end(pair.nowUs);
  pair.run(S);
  t.is(atFlow.bytes.length, 100_000);
  t.true(atFlow.hasEnded);
  t.is(flow.closeReason, 'done');
});

test('a RST of the application ends the flow; ours ends the application', (t) => {
  const pair = new TunPair();
  const first = pair.open();
  let why = '';
  first.flow.onOver = (reason) => {
    why = reason;
  };
  first.application.abort(pair.nowUs);
  pair.run(1_000);
  t.is(why, 'reset');
  t.is(pair.terminator.flowCount, 0);
  const second = pair.open();
  second.flow.abort(pair.nowUs);
  pair.run(1_000);
  t.is(pair.endOf(second.application), 'reset');
  t.is(pair.terminator.flowCount, 0);
});

test('a reader that stops stops its sender at the window, and nobody else; then everything comes', (t) => {
  const pair = new TunPair();
  const slow = pair.open();
  const other = pair.open();
  const atSlow = sink(slow.flow);
  const atOther = sink(other.flow);
  atSlow.takes = 1_000;
  const data = pattern(3_000_000);
  slow.application.write(pair.nowUs, data);
  other.application.write(pair.nowUs, data);
  pair.run(60 * S);
  t.is(atSlow.bytes.length, 1_000);
  t.true(slow.flow.isStalled);
  // One segment more than the window may be on its way when it shuts.
  t.true(slow.flow.bytesReceived <= FIRST_WINDOW_BYTES + 1_000, `${slow.flow.bytesReceived}`);
  t.true(atOther.bytes.equals(data));
  atSlow.takes = Number.POSITIVE_INFINITY;
  slow.flow.resume(pair.nowUs);
  pair.run(5 * S);
  t.true(atSlow.bytes.equals(data));
  t.is(slow.flow.closeReason, null);
});

test('an application that does not read: bytes wait here, its window is probed, and nothing is given up while it answers', (t) => {
  const pair = new TunPair();
  const application = pair.connect();
  const atApp = sink(application);
  atApp.takes = 0;
  const flow = pair.attempts[0]!.accept(pair.nowUs)!;
  const data = pattern(30_000_000);
  let spaces = 0;
  flow.setSendSpace(64_000, () => spaces++);
  pair.run(1_000);
  spaces = 0;
  flow.write(pair.nowUs, data);
  pair.run(900 * S);
  t.is(flow.closeReason, null);
  t.true(flow.unsentBytes > 10_000_000);
  t.is(spaces, 0);
  t.true(flow.tcp.stats.zeroWindowProbes > 5);
  atApp.takes = Number.POSITIVE_INFINITY;
  application.resume(pair.nowUs);
  pair.run(10 * S);
  t.true(atApp.bytes.equals(data));
  t.true(spaces > 0);
});

test('not more is on its way to an application at once than the limit says, however large its window', (t) => {
  const pair = new TunPair();
  const { application, flow } = pair.open();
  const atApp = sink(application);
  const data = pattern(4_000_000);
  for (let i = 0; i < 5; i++) {
    flow.write(pair.nowUs, data);
    pair.run(2_000);
  }
  t.is(atApp.count, 5 * data.length);
  t.true(flow.tcp.sndWndBytes > 1.5 * MAX_FLIGHT_BYTES && flow.tcp.cc.cwndBytes > MAX_FLIGHT_BYTES);
  // Nothing is acknowledged any more.
  pair.loses = (_packet, isUp) => isUp;
  flow.write(pair.nowUs, data);
  pair.run(0);
  const { inFlightBytes } = flow.tcp;
  t.true(inFlightBytes >= MAX_FLIGHT_BYTES && inFlightBytes < MAX_FLIGHT_BYTES + 65_536, `${inFlightBytes}`);
  pair.loses = () => false;
  pair.run(5 * S);
  t.is(atApp.count, 6 * data.length);
});

test('the window grows with what is read, up to its limit', (t) => {
  const pair = new TunPair();
  const { application, flow } = pair.open();
  const windows = new Set<number>();
  flow.setReader({
    onBytes: (_buf, _offset, n) => {
      windows.add(flow.windowLimitBytes);
      return n;
    },
    onEnd: () => {},
  });
  application.write(pair.nowUs, pattern(20_000_000));
  pair.run(20 * S);
  t.is(Math.min(...windows), FIRST_WINDOW_BYTES);
  t.is(Math.max(...windows), MAX_WINDOW_BYTES);
  t.is(flow.bytesReceived, 20_000_000);
});

test('the windows of all flows together have a limit, which a closed flow gives back', (t) => {
  const pair = new TunPair({ maxWindowsBytes: 3 * FIRST_WINDOW_BYTES });
  const grow = (p: { application: ConnectionApi; flow: TerminatedFlow }) => {
    sink(p.flow);
    p.application.write(pair.nowUs, pattern(4_000_000));
    pair.run(5 * S);
    return p.flow.windowLimitBytes;
  };
  const first = pair.open();
  t.is(grow(first), 4 * FIRST_WINDOW_BYTES);
  const second = pair.open();
  t.is(grow(second), FIRST_WINDOW_BYTES);
  first.application.abort(pair.nowUs);
  pair.run(1_000);
  t.is(grow(second), 4 * FIRST_WINDOW_BYTES);
});

test('more flows than there may be go on as packets', (t) => {
  const pair = new TunPair({ maxFlows: 2 });
  pair.open();
  pair.connect();
  t.is(pair.left, 0);
  pair.connect();
  t.is(pair.left, 1);
  t.is(pair.attempts.length, 2);
  t.is(pair.terminator.counters.flows_full, 1);
});

test('TIME-WAIT is short, and a later SYN of the same four-tuple ends it (RFC 6191)', (t) => {
  const pair = new TunPair();
  const first = pair.open(4, 40_000);
  first.flow.end(pair.nowUs);
  pair.run(1_000);
  first.application.end(pair.nowUs);
  pair.run(100_000);
  t.is(first.flow.tcp.state, 'time-wait');
  t.is(first.flow.closeReason, 'done');
  const { application, flow } = pair.open(4, 40_000);
  t.not(flow, first.flow);
  t.is(application.state, 'established');
  flow.end(pair.nowUs);
  pair.run(1_000);
  application.end(pair.nowUs);
  pair.run(1_000);
  t.is(flow.tcp.state, 'time-wait');
  pair.run(3 * S);
  t.is(flow.tcp.state, 'closed');
});

test('urgent data is data, in its place in the stream (RFC 6093)', (t) => {
  const pair = new TunPair();
  // The application's engine knows nothing of this connection, and would answer with RST.
  pair.loses = (_packet, isUp) => !isUp;
  const base = { from: APP[4], to: TARGET[4], fromPort: 5, toPort: 80 };
  pair.inject({ ...base, flags: SYN, seq: 99 });
  const flow = pair.attempts[0]!.accept(pair.nowUs)!;
  const got = sink(flow);
  pair.run(0);
  const { seq } = pair.down[0]!;
  pair.inject({ ...base, flags: ACK, seq: 100, ack: seq + 1 });
  pair.inject({ ...base, flags: ACK | PSH, seq: 100, ack: seq + 1, payload: Buffer.from('before') });
  pair.inject({ ...base, flags: ACK | PSH | URG, seq: 106, ack: seq + 1, payload: Buffer.from('!') });
  pair.inject({ ...base, flags: ACK | PSH | FIN, seq: 107, ack: seq + 1, payload: Buffer.from('after') });
  pair.run(1_000);
  t.is(got.bytes.toString(), 'before!after');
  t.true(got.hasEnded);
});

test('an application whose host is gone is found out by keepalives (RFC 9293 3.8.4)', (t) => {
  const pair = new TunPair();
  const { flow } = pair.open();
  pair.loses = () => true;
  pair.run(2 * 3_600 * S - S);
  t.is(flow.closeReason, null);
  pair.run(1_000 * S);
  t.is(flow.closeReason, 'timeout');
  t.is(pair.terminator.flowCount, 0);
});

test('loss on the way is repaired in both directions, whatever is lost', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e9 }), fc.integer({ min: 1, max: 200_000 }), (seed, bytes) => {
      const pair = new TunPair();
      let state = seed;
      const { application, flow } = pair.open();
      const atApp = sink(application);
      const atFlow = sink(flow);
      pair.loses = () => {
        state = (state * 48_271) % 2_147_483_647;
        return state % 10 === 0;
      };
      const data = pattern(bytes, seed & 15);
      application.write(pair.nowUs, data);
      application.end(pair.nowUs);
      flow.write(pair.nowUs, data);
      flow.end(pair.nowUs);
      pair.run(300 * S);
      return atApp.bytes.equals(data) && atFlow.bytes.equals(data) && atApp.hasEnded && atFlow.hasEnded;
    }),
    { numRuns: 25 },
  );
  t.pass();
});

test('any bytes from the TUN are harmless', (t) => {
  const pair = new TunPair();
  const { flow } = pair.open();
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat(0xff),
      fc.nat(0xffff_ffff),
      fc.nat(0xffff_ffff),
      (payload, flags, seq, ack) => {
        const base = { from: APP[4], to: TARGET[4], fromPort: 40_000, toPort: 80 };
        // Numbers at random are outside the window; only an acceptable RST or data may do anything.
        pair.inject({ ...base, flags, seq, ack, payload });
        pair.run(0);
        return true;
      },
    ),
    { numRuns: 300 },
  );
  t.true(flow.closeReason === null || flow.closeReason === 'reset');
});
