import test from 'ava';
import fc from 'fast-check';
import { formatHead, HeadReader, hasToken, MAX_HEAD_BYTES, parseHead } from '../../../src/daemon/http-head.js';
import { answerHead, parseAnswer, parseRequest, requestHead } from '../../../src/daemon/upgrade.js';

test('a head is found wherever the stream is cut, and what follows is left alone', (t) => {
  const text = requestHead('server.example', {
    sessionId: 'ab'.repeat(16),
    lane: 1,
    takesSuper: true,
    exportsKeys: true,
    mtuBytes: 1400,
  });
  const stream = Buffer.concat([Buffer.from(text), Buffer.from([0, 1, 2, 3])]);
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 6 }), (cuts) => {
      const reader = new HeadReader();
      const points = [...new Set(cuts)].sort((a, b) => a - b);
      let from = 0;
      const rest: Buffer[] = [];
      for (const to of [...points, stream.length]) {
        const chunk = stream.subarray(from, to);
        if (reader.head !== null) rest.push(chunk);
        else reader.push(chunk);
        from = to;
      }
      t.deepEqual(parseRequest(reader.head!), {
        sessionId: 'ab'.repeat(16),
        lane: 1,
        takesSuper: true,
        exportsKeys: true,
        mtuBytes: 1400,
      });
      t.deepEqual([...reader.rest, ...Buffer.concat(rest)], [0, 1, 2, 3]);
    }),
  );
});

test('malformed heads are errors', (t) => {
  const bad = [
    'GET / HTTP/1.1\r\nA : b',
    'GET / HTTP/1.1\r\nA: b\r\n folded',
    'GET / HTTP/1.1\r\nA: b\r\nA: c',
    'GET / HTTP/1.1\r\nA: b\nB: c',
    'GET / HTTP/1.1\r\nno colon',
    '',
    '\x00 x',
  ];
  for (const text of bad) t.throws(() => parseHead(text), { name: 'HeadError' }, JSON.stringify(text));
  t.throws(() => new HeadReader().push(Buffer.alloc(MAX_HEAD_BYTES + 10, 'a')), { name: 'HeadError' });
});

test('nothing can be injected through a value', (t) => {
  const head = parseHead(formatHead('HTTP/1.1 403 Forbidden', { Reason: 'x\r\nEvil: 1' }).slice(0, -4));
  t.deepEqual([...head.fields.keys()], ['reason']);
});

test('tokens', (t) => {
  t.true(hasToken('keep-alive, Upgrade', 'upgrade'));
  t.false(hasToken('upgraded', 'upgrade'));
  t.false(hasToken(undefined, 'upgrade'));
});

test('requests and answers that are not ours', (t) => {
  const good = requestHead('h', {
    sessionId: '0'.repeat(32),
    lane: 0,
    takesSuper: false,
    exportsKeys: false,
    mtuBytes: 1500,
  }).slice(0, -4);
  t.false(parseRequest(parseHead(good)).takesSuper);
  t.false(parseRequest(parseHead(good)).exportsKeys);
  for (const [from, to] of [
    ['GET', 'POST'],
    ['connect-ip', 'websocket'],
    ['Mptun-Lane: sparse', 'Mptun-Lane: fast'],
    ['0'.repeat(32), 'xyz'],
    ['Mptun-Mtu: 1500', 'Mptun-Mtu: 99'],
    ['Host: h', 'Host: '],
  ] as const) {
    t.throws(() => parseRequest(parseHead(good.replace(from, to))), { name: 'UpgradeError' }, from);
  }
  const answer = answerHead({ takesSuper: true, exportsKeys: true, mtuBytes: 1400 }).slice(0, -4);
  t.deepEqual(parseAnswer(parseHead(answer)), { takesSuper: true, exportsKeys: true, mtuBytes: 1400 });
  t.throws(() => parseAnswer(parseHead(answer.replace('101', '200'))), { name: 'UpgradeError' });
  t.throws(() => parseAnswer(parseHead('HTTP/1.1 403 Forbidden\r\nMptun-Reason: unknown-client; no')), {
    name: 'AuthenticationError',
    message: /unknown-client/,
  });
});
