/** When a connection is given up, and what keeps it alive: R2 (RFC 9293 3.8.3), keepalives (3.8.4), shut windows (3.8.6). */
import test from 'ava';
import { NEVER } from '../../../src/core/base/time.js';
import { DEFAULT_SUBFLOW_CONFIG } from '../../../src/core/tcp/config.js';
import { brief, type ScriptOptions, TcpScript } from '../../support/tcp-script.js';

const MSS = 1448;
const S = 1_000_000;

/** Lets `us` pass; each segment is answered by `answer`. Returns how many there were. */
function answering(s: TcpScript, us: number, answer: () => void): number {
  const end = s.nowUs + us;
  let count = 0;
  while (s.nowUs < end) {
    const sent = s.advance(100_000);
    count += sent.length;
    if (sent.length > 0) answer();
  }
  return count;
}

test('T22: R2: without any progress for two minutes the subflow is given up', (t) => {
  const s = TcpScript.established();
  s.owner.toSend = MSS;
  s.out();
  const start = s.nowUs;
  let closedUs = 0;
  for (let i = 0; i < 200 && closedUs === 0; i++) {
    s.advance(S);
    if (s.sf.state === 'closed') closedUs = s.nowUs - start;
  }
  t.is(s.owner.events.at(-1), 'closed:timeout');
  t.is(closedUs, 120 * S);
  t.true(DEFAULT_SUBFLOW_CONFIG.r2Us >= 100 * S);
});

test('T22: R1: the owner hears of each timeout, long before R2', (t) => {
  const s = TcpScript.established();
  s.owner.toSend = MSS;
  s.out();
  s.advance(20 * S);
  t.deepEqual(s.owner.events.slice(1, 4), ['rto:1', 'rto:2', 'rto:3']);
  t.is(s.sf.state, 'established');
});

test('T22: progress starts R2 over', (t) => {
  const s = TcpScript.established();
  s.owner.toSend = 4 * MSS;
  s.out();
  s.advance(119 * S);
  s.inject({ ack: 1 + MSS });
  s.advance(119 * S);
  t.is(s.sf.state, 'established');
  s.advance(2 * S);
  t.is(s.sf.state, 'closed');
});

test('T14: a shut window whose probes nobody answers is given up after R2', (t) => {
  const s = TcpScript.established();
  s.inject({ win: 0 });
  s.owner.toSend = 100;
  s.out();
  t.true(s.advance(119 * S).length > 5);
  t.is(s.sf.state, 'established');
  s.advance(2 * S);
  t.is(s.owner.events.at(-1), 'closed:timeout');
});

test('T14, T15: data beyond a window that shrank to nothing: retransmitted as probes, for as long as they are answered', (t) => {
  const s = TcpScript.established();
  s.owner.toSend = MSS;
  s.out();
  s.inject({ ack: 1, win: 0 });
  t.true(answering(s, 600 * S, () => s.inject({ ack: 1, win: 0 })) > 10);
  t.is(s.sf.state, 'established');
  s.advance(121 * S);
  t.is(s.sf.state, 'closed');
});

function keepalive(options: ScriptOptions = {}): TcpScript {
  const config = { keepalive: true, keepaliveIdleUs: 30 * S, keepaliveIntervalUs: 5 * S, keepaliveProbes: 3 };
  return TcpScript.established({ ...options, config: { ...config, ...options.config } });
}

test('T20: keepalives are off by default, and two hours apart if only switched on', (t) => {
  const s = TcpScript.established();
  t.is(s.sf.nextDeadline(), NEVER);
  t.deepEqual(s.advance(86_400 * S), []);
  s.inject({});
  s.sf.setKeepAlive(true);
  t.deepEqual(s.advance(7_199 * S), []);
  t.deepEqual(brief(s.advance(2 * S)), ['. 0 ack 1']);
  s.inject({});
  s.sf.setKeepAlive(true, 10 * S);
  t.deepEqual(brief(s.advance(11 * S)), ['. 0 ack 1'], 'as often as one connection wants');
  s.inject({});
  s.sf.setKeepAlive(false);
  t.deepEqual(s.advance(86_400 * S), []);
});

test('T20: probes carry no data at SND.NXT - 1; several must go unanswered, any segment starts over', (t) => {
  const s = keepalive();
  t.deepEqual(brief(s.advance(36 * S)), ['. 0 ack 1', '. 0 ack 1']);
  s.inject({});
  t.deepEqual(
    s.advance(44 * S).map((x) => x.atMs),
    [30_000, 35_000, 40_000],
  );
  t.is(s.sf.state, 'established', 'three are unanswered, and the last has its time');
  s.advance(2 * S);
  t.deepEqual(s.owner.events, ['established', 'closed:timeout']);
});

test('T20: no keepalive while data is outstanding or a window probe is', (t) => {
  const s = keepalive();
  s.owner.toSend = 100;
  s.out();
  s.advance(60 * S);
  t.is(s.sf.stats.keepalives, 0);
  const w = keepalive();
  w.inject({ win: 0 });
  w.owner.toSend = 100;
  w.out();
  answering(w, 300 * S, () => w.inject({ win: 0 }));
  t.is(w.sf.stats.keepalives, 0);
  t.true(w.sf.stats.zeroWindowProbes > 3);
});
