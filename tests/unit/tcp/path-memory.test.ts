/** What connections on the same path tell each other (RFC 9040). */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { AckSample, type KnownPath } from '../../../src/core/congestion/controller.js';
import { controllers } from '../../../src/core/congestion/index.js';
import type { FlowTuple } from '../../../src/core/tcp/flow.js';
import { LIFETIME_US, MAX_PATHS, PathMemory, type PathUser } from '../../../src/core/tcp/path-memory.js';
import { connected, LOCAL, S, SERVER } from '../../support/two-hosts.js';

const MS = 1_000;

function flow(linkId = 1, remote = '192.0.2.1', localPort = 40_000): FlowTuple {
  const localAddress = parseIp('198.51.100.1');
  return { linkId, family: 4, localAddress, localPort, remoteAddress: parseIp(remote), remotePort: 443 };
}

function user(
  values: {
    rtoUs?: number;
    atUs?: number;
    ssthresh?: number;
    cwnd?: number;
    sent?: number;
    known?: KnownPath | null;
    inFlight?: number;
  } = {},
): PathUser {
  const { rtoUs = 225 * MS, atUs = S, ssthresh = Number.POSITIVE_INFINITY, cwnd = 100_000, sent = 10_000_000 } = values;
  return {
    rtt: { rtoUs, hasSample: rtoUs > 0 },
    cc: { cwndBytes: cwnd, ssthreshBytes: ssthresh, knownPath: values.known ?? null },
    inFlightBytes: values.inFlight ?? 0,
    stats: { bytesSent: sent },
    lastReceivedUs: atUs,
  };
}

test('a path that nobody knows gives nothing', (t) => {
  const memory = new PathMemory(S);
  t.deepEqual(memory.seed(0, flow()), { extraSynRetries: 0 });
  memory.add(flow(), user({ rtoUs: 0 }));
  t.deepEqual(memory.seed(0, flow()), { extraSynRetries: 0 }, 'nor one on which nothing was measured yet');
});

test('the first timeout follows the path, from connections that live and that are over, on any port', (t) => {
  const memory = new PathMemory(S);
  const first = user();
  memory.add(flow(), first);
  t.is(memory.seed(S, flow(1, '192.0.2.1', 40_001)).initialRtoUs, 450 * MS);
  memory.remove(flow(), first);
  t.is(memory.seed(S, flow()).initialRtoUs, 450 * MS);
  t.is(memory.seed(S, flow()).extraSynRetries, 2, 'the attempt lasts as long');
  t.is(memory.seed(S, flow(2)).initialRtoUs, undefined, 'another link is another path');
  t.is(memory.seed(S, flow(1, '192.0.2.2')).initialRtoUs, undefined);
});

test('never below 300 ms, never above what a path that is not known gets', (t) => {
  const rtoOf = (rtoUs: number) => {
    const memory = new PathMemory(S);
    memory.add(flow(), user({ rtoUs }));
    return memory.seed(S, flow());
  };
  t.is(rtoOf(50 * MS).initialRtoUs, 300 * MS);
  t.deepEqual(rtoOf(3 * S), { initialRtoUs: S, extraSynRetries: 0 });
});

test('what is old, or of a link that leads elsewhere now, is not believed', (t) => {
  const memory = new PathMemory(S);
  memory.add(flow(), user({ atUs: S }));
  t.is(memory.seed(S + LIFETIME_US + 1, flow()).initialRtoUs, undefined);
  const other = new PathMemory(S);
  const gone = user();
  other.add(flow(), gone);
  other.remove(flow(), gone);
  other.forgetLink(1);
  t.is(other.seed(S, flow()).initialRtoUs, undefined);
});

test('ssthresh: of a long connection that was alone, for one that is alone', (t) => {
  const after = (...users: PathUser[]) => {
    const memory = new PathMemory(S);
    for (const u of users) memory.add(flow(), u);
    for (const u of users) memory.remove(flow(), u);
    return memory.seed(S, flow()).initialSsthreshBytes;
  };
  t.is(after(user({ ssthresh: 80_000, cwnd: 90_000 })), 80_000);
  t.is(after(user({ ssthresh: 20_000, cwnd: 90_000 })), 45_000, 'a bad end is not passed on');
  t.is(after(user({ ssthresh: 80_000, sent: 50_000 })), undefined, 'too short to know');
  t.is(after(user()), undefined, 'never found an end');
  t.is(after(user({ ssthresh: 80_000 }), user({ ssthresh: 70_000 })), undefined, 'shares of a path');
  const memory = new PathMemory(S);
  const first = user({ ssthresh: 80_000 });
  memory.add(flow(), first);
  memory.remove(flow(), first);
  memory.add(flow(), user());
  t.is(memory.seed(S, flow()).initialSsthreshBytes, undefined, 'somebody else is there');
});

test('rate and round trip: of who measured last, for one that is alone in sending', (t) => {
  const known = (measuredUs: number, isWhole = true, rateBytesPerS = 1_000): KnownPath => {
    return { rateBytesPerS, isWhole, minRttUs: 20 * MS, measuredUs };
  };
  const memory = new PathMemory(S);
  const asker = user();
  const recall = (nowUs = 10 * S) => memory.recall(nowUs, flow(), asker.cc)?.measuredUs;
  t.is(recall(), undefined, 'no such path');
  memory.add(flow(), asker);
  t.is(recall(), undefined, 'nobody else was ever there');
  const over = user({ known: known(5 * S) });
  memory.add(flow(), over);
  memory.remove(flow(), over);
  t.is(recall(), 5 * S, 'one that is over');
  memory.add(flow(), user({ known: known(3 * S) }));
  t.is(recall(), 5 * S, 'older news');
  const idle = user({ known: known(6 * S) });
  memory.add(flow(), idle);
  t.is(recall(), 6 * S, 'one that is idle');
  memory.add(flow(), user({ known: known(8 * S, false, 900) }));
  t.is(recall(), 6 * S, 'one that did not find out, and had less');
  const quicker = user({ known: known(8 * S, false, 1_100) });
  memory.add(flow(), quicker);
  t.is(recall(), 8 * S, '... and had more');
  memory.remove(flow(), quicker);
  memory.forgetLink(1);
  t.is(recall(), 6 * S, 'of a link that leads elsewhere, only what those know who are on it now');
  memory.add(flow(), user({ known: known(9 * S), sent: 50_000 }));
  t.is(recall(), 6 * S, 'too short to know');
  t.is(memory.recall(10 * S, flow(), idle.cc)?.measuredUs, 3 * S, 'nobody tells himself');
  t.is(recall(6 * S + LIFETIME_US + 1), undefined, 'too old');
  t.is(memory.recall(10 * S, flow(2), asker.cc), null, 'another link');
  const sending = user({ inFlight: 10_000 });
  memory.add(flow(), sending);
  t.is(recall(), undefined, 'somebody sends');
});

test('the table is bounded; the path used longest ago goes, and none that is in use', (t) => {
  const memory = new PathMemory(S);
  memory.add(flow(0), user());
  for (let i = 1; i < MAX_PATHS + 10; i++) {
    const passing = user();
    memory.add(flow(i), passing);
    memory.remove(flow(i), passing);
  }
  t.is(memory.size, MAX_PATHS);
  t.not(memory.seed(S, flow(0)).initialRtoUs, undefined);
  t.is(memory.seed(S, flow(1)).initialRtoUs, undefined);
});

test('a controller that knows where slow start ended before does not overshoot it', (t) => {
  for (const name of ['cubic', 'reno'] as const) {
    const cc = controllers[name]!({ mssBytes: 1_000, initialCwndSegments: 10, initialSsthreshBytes: 40_000 });
    t.true(cc.inSlowStart);
    const sample = new AckSample();
    for (let i = 1; i <= 60; i++) {
      const acked = { nowUs: i * MS, deliveredBytes: 1_000, ackedBytes: 1_000, rttUs: 50 * MS, srttUs: 50 * MS };
      cc.onAck(Object.assign(sample, acked, { minRttUs: 50 * MS, totalDeliveredBytes: i * 1_000 }));
    }
    t.false(cc.inSlowStart, name);
    t.true(cc.cwndBytes >= 40_000 && cc.cwndBytes < 45_000, `${name}: ${cc.cwndBytes}`);
  }
});

test('a lost SYN of a second connection is repeated after what the path needs, and the attempt lasts no shorter', (t) => {
  const { client } = connected();
  const { engine } = client;
  const begunUs = S;
  const connection = engine.connect(begunUs, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 40_900,
    remote: { address: SERVER, port: 5000 },
  });
  // From here on every packet is lost; the first connection is idle.
  const sentUs: number[] = [];
  let nowUs = begunUs;
  const edge = {
    send: (_link: number, batch: { count: number }, from: number) => {
      for (let i = from; i < batch.count; i++) sentUs.push(nowUs - begunUs);
      return batch.count - from;
    },
    queuedBytes: () => 0,
  };
  engine.flush(nowUs, edge);
  while (connection.state !== 'closed' && nowUs < 1_000 * S) {
    nowUs = engine.nextDeadline();
    engine.onTimer(nowUs);
    engine.flush(nowUs, edge);
  }
  // 10 ms and the floor of 200 ms, twice.
  t.deepEqual(
    sentUs.slice(0, 4),
    [0, 420, 3 * 420, 7 * 420].map((ms) => ms * MS),
  );
  t.true(nowUs - begunUs >= 180 * S, `given up after ${(nowUs - begunUs) / S} s`);
});
