import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { ControlClient, NotPermittedError, NotRunningError, RefusedError } from '../../../src/control/client.js';
import {
  type EventRecord,
  type FlowsDocument,
  type HistoryDocument,
  type PathsDocument,
  parsePathChange,
  type StatusDocument,
  type WhyDocument,
  type WhyFlowDocument,
} from '../../../src/control/protocol.js';
import { ControlServer, SocketInUseError } from '../../../src/daemon/control-server.js';
import { MAX_QUEUED_EVENTS } from '../../../src/daemon/event-stream.js';
import { FakeDaemon, sampleReceipt, sampleStatus, sampleWhy } from '../../support/fake-daemon.js';
import { temporaryDirectory } from '../../support/files.js';
import { until } from '../../support/until.js';

interface Running {
  readonly daemon: FakeDaemon;
  readonly server: ControlServer;
  readonly client: ControlClient;
  readonly socketPath: string;
}

async function start(t: ExecutionContext): Promise<Running> {
  const daemon = new FakeDaemon();
  const socketPath = join(temporaryDirectory(t), 'run', 'home.sock');
  const server = await ControlServer.start(daemon, { socketPath, metricsListen: null });
  t.teardown(() => server.close());
  return { daemon, server, client: new ControlClient(socketPath), socketPath };
}

test('status, paths and flows are versioned documents', async (t) => {
  const { client } = await start(t);
  t.deepEqual(await client.get<StatusDocument>('/v1/status'), sampleStatus());
  const paths = await client.get<PathsDocument>('/v1/paths');
  t.is(paths.schema, 'mptun.paths/1');
  t.deepEqual(paths.paths, sampleStatus().paths);
  t.is((await client.get<FlowsDocument>('/v1/flows')).schema, 'mptun.flows/1');
});

test('why for one destination; what is no destination, or asked of a server, is refused', async (t) => {
  const { client } = await start(t);
  const document = await client.get<WhyFlowDocument>('/v1/why?host=www.example.com&port=8443');
  t.like(document, { schema: 'mptun.why-flow/1', host: 'www.example.com', port: 8443 });
  t.is((await client.get<WhyFlowDocument>('/v1/why?host=2001:db8::1')).port, 443);
  for (const query of ['host=a%20b', 'host=a&port=0', 'host=a&port=x', 'host=']) {
    const error = await t.throwsAsync(client.get(`/v1/why?${query}`), { instanceOf: RefusedError });
    t.is(error!.httpStatus, 400, query);
  }
  const server = await t.throwsAsync(client.get('/v1/why?host=nowhere'), { instanceOf: RefusedError });
  t.is(server!.httpStatus, 409);
});

test('a proxy is open for as long as whoever asked for it listens; on loopback only', async (t) => {
  const { client, daemon } = await start(t);
  const stop = new AbortController();
  for await (const event of client.events('/v1/proxy?host=::1&port=1080', stop.signal)) {
    t.like(event, { type: 'proxy', message: 'SOCKS5 and HTTP proxy on [::1]:1080, through home' });
    t.deepEqual(daemon.proxies, ['open ::1:1080']);
    stop.abort();
  }
  await until(() => daemon.proxies.length === 2, 'closed');
  t.is(daemon.proxies[1], 'closed');
  for (const [query, status] of [
    ['host=0.0.0.0&port=1080', 400],
    ['host=127.0.0.1&port=70000', 400],
    ['host=127.0.0.1&port=1', 409],
  ] as const) {
    const error = await t.throwsAsync(client.get(`/v1/proxy?${query}`), { instanceOf: RefusedError });
    t.is(error!.httpStatus, status, query);
  }
});

test('curl --unix-socket is all that a script needs', async (t) => {
  const { socketPath } = await start(t);
  const { stdout } = await promisify(execFile)('curl', ['-sf', '--unix-socket', socketPath, 'http://mptun/v1/status']);
  t.is((JSON.parse(stdout) as StatusDocument).schema, 'mptun.status/1');
});

test('the socket is for owner and group only, and is gone after close', async (t) => {
  const { server, socketPath, client } = await start(t);
  t.is(statSync(socketPath).mode & 0o777, 0o660);
  await server.close();
  t.false(existsSync(socketPath));
  await t.throwsAsync(client.get('/v1/status'), { instanceOf: NotRunningError });
});

test('a socket that a killed daemon left behind is replaced', async (t) => {
  const socketPath = join(temporaryDirectory(t), 'home.sock');
  // Bound by a process that dies without unlinking, as kill -9 does.
  const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await t.throwsAsync(promisify(execFile)(process.execPath, ['-e', script]));
  t.true(existsSync(socketPath));
  const server = await ControlServer.start(new FakeDaemon(), { socketPath, metricsListen: null });
  t.teardown(() => server.close());
  t.is((await new ControlClient(socketPath).get<StatusDocument>('/v1/status')).name, 'home');
});

test('a live socket and a file in its place are refused and stay', async (t) => {
  const { socketPath, client } = await start(t);
  const options = { socketPath, metricsListen: null };
  await t.throwsAsync(ControlServer.start(new FakeDaemon(), options), { instanceOf: SocketInUseError });
  t.is((await client.get<StatusDocument>('/v1/status')).name, 'home');
  const file = join(temporaryDirectory(t), 'home.sock');
  writeFileSync(file, 'not a socket');
  await t.throwsAsync(ControlServer.start(new FakeDaemon(), { socketPath: file, metricsListen: null }), {
    instanceOf: SocketInUseError,
  });
  t.true(existsSync(file));
});

test('a path is changed by POST; what it does not have or know is refused with words', async (t) => {
  const { daemon, client } = await start(t);
  t.true((await client.post('/v1/paths/wlan0', { role: 'backup', limit_bps: null })).ok);
  t.deepEqual(daemon.changes, [{ name: 'wlan0', change: { role: 'backup', limit_bps: null } }]);
  const refused = async (path: string, body: unknown, status: number, message: RegExp) => {
    const err = await t.throwsAsync(client.post(path, body), { instanceOf: RefusedError });
    t.is(err!.httpStatus, status);
    t.regex(err!.message, message);
  };
  await refused('/v1/paths/none', { role: 'never' }, 404, /no path called none/);
  await refused('/v1/paths/wlan0', { role: 'sometimes' }, 400, /role: one of always/);
  await refused('/v1/paths/wlan0', {}, 400, /nothing to change/);
  await refused('/v1/paths/wlan0', { weight: 1 }, 400, /unknown key weight/);
  await refused('/v1/paths/wlan0', undefined, 400, /not JSON/);
  await refused('/v1/paths/wlan0', { role: 'x'.repeat(20_000) }, 413, /more than/);
  await refused('/v1/paths/%zz', { role: 'never' }, 404, /no such resource/);
  await refused('/v1/status', {}, 405, /POST is not for/);
  await refused('/v2/status', {}, 404, /no such resource/);
  t.is(daemon.changes.length, 1);
});

test('reload answers with the errors one by one', async (t) => {
  const { daemon, client } = await start(t);
  t.is((await client.post('/v1/reload')).message, 'reloaded');
  daemon.reloadResult = {
    ok: false,
    message: 'the old configuration stays',
    details: ['x.yaml:1:1: bad', 'x.yaml:2:1: worse'],
  };
  const err = await t.throwsAsync(client.post('/v1/reload'), { instanceOf: RefusedError });
  t.deepEqual(err!.result.details, ['x.yaml:1:1: bad', 'x.yaml:2:1: worse']);
});

test('events: kept ones first, then live ones, until the reader goes', async (t) => {
  const { daemon, client } = await start(t);
  daemon.journal.record('info', 'tunnel-state', 'connecting');
  daemon.journal.record('info', 'path-state', 'wlan0 is active', { path: 'wlan0', data: { rtt_s: 0.02 } });
  const stop = new AbortController();
  const seen: string[] = [];
  for await (const event of client.events('/v1/events?after=1', stop.signal)) {
    seen.push(`${event.seq} ${event.type} ${event.path}`);
    if (event.seq === 2)
      daemon.journal.record('info', 'handover', 'wlan0 to wwan0', { path: 'wwan0', data: { ...sampleReceipt() } });
    if (event.seq === 3) stop.abort();
  }
  t.deepEqual(seen, ['2 path-state wlan0', '3 handover wwan0']);
  const kept: EventRecord[] = [];
  for await (const event of client.events('/v1/events?follow=0')) kept.push(event);
  t.deepEqual(
    kept.map((e) => e.seq),
    [1, 2, 3],
  );
  t.is(kept[0]!.time, '2026-01-02T03:04:05.000Z');
  const err = await t.throwsAsync(client.events('/v1/events?after=x').next(), { instanceOf: RefusedError });
  t.is(err!.httpStatus, 400);
});

test('a subscriber that does not read loses the oldest events and is told how many', async (t) => {
  const { daemon, socketPath } = await start(t);
  const socket = connect(socketPath);
  t.teardown(() => socket.destroy());
  socket.write('GET /v1/events HTTP/1.1\r\nhost: mptun\r\n\r\n');
  await new Promise((resolve) => socket.once('readable', resolve)); // the answer's header: the subscription stands
  t.is(daemon.subscribers, 2, 'the metrics are the other one');
  const total = MAX_QUEUED_EVENTS * 3;
  const bulk = 'x'.repeat(2000);
  for (let i = 0; i < total; i++) daemon.journal.record('info', 'test', bulk);
  daemon.journal.record('info', 'last', 'end');

  const { received, lost } = await new Promise<{ received: number; lost: number }>((resolve) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (!text.includes('"type":"last"')) return;
      const events = text.match(/^\{.*\}$/gm)!.map((line) => JSON.parse(line) as EventRecord);
      const lostEvents = events.filter((e) => e.type === 'events-lost');
      resolve({
        received: events.length - lostEvents.length,
        lost: lostEvents.reduce((sum, e) => sum + (e.data.count as number), 0),
      });
    });
  });
  t.true(lost > 0);
  t.is(received + lost, total + 1);
  socket.destroy();
  await new Promise((resolve) => socket.once('close', resolve));
});

test('/metrics: counters are totals at every scrape', async (t) => {
  const { daemon, client } = await start(t);
  await client.text('/metrics');
  const text = await client.text('/metrics');
  for (const line of [
    'mptun_state{tunnel="home",state="up"} 1',
    'mptun_state{tunnel="home",state="degraded"} 0',
    'mptun_path_receive_bytes_total{tunnel="home",path="wlan0",session=""} 4200000000',
    'mptun_path_state{tunnel="home",path="wwan0",session="",state="warm"} 1',
    'mptun_path_rtt_seconds{tunnel="home",path="wlan0",session=""} 0.0213',
    'mptun_stack_events_total{tunnel="home",counter="drop_checksum"} 1',
  ]) {
    t.true(text.split('\n').includes(line), line);
  }
  t.notRegex(text, /mptun_path_rtt_seconds\{[^}]*path="eth0"/, 'what is not known is left out');
  daemon.document = sampleStatus({ paths: [] });
  t.notRegex(await client.text('/metrics'), /path="wlan0"/, 'a path that is gone is gone');
});

test('/metrics: handovers are counted, and their gaps are a histogram', async (t) => {
  const { daemon, client } = await start(t);
  const record = (gapS: number | null) => {
    const data = { ...sampleReceipt({ gap_s: gapS }) };
    daemon.journal.record('info', 'handover', 'moved', { data });
  };
  for (const gapS of [0.02, 0.2, 5, null]) record(gapS);
  const text = await client.text('/metrics');
  const labels = 'tunnel="home",cause="link-down"';
  t.true(text.includes(`mptun_handovers_total{${labels}} 4\n`), text);
  t.true(text.includes(`mptun_handover_gap_seconds_bucket{le="0.03",${labels}} 1\n`));
  t.true(text.includes(`mptun_handover_gap_seconds_bucket{le="0.3",${labels}} 2\n`));
  t.true(text.includes(`mptun_handover_gap_seconds_count{${labels}} 3\n`));
  t.is(await client.text('/metrics'), text, 'a scrape counts nothing');
});

test('history, why and mode', async (t) => {
  const { daemon, client } = await start(t);
  daemon.receipts = [sampleReceipt({ id: 1 }), sampleReceipt({ id: 2 })];
  const history = await client.get<HistoryDocument>('/v1/history?n=1');
  t.is(history.schema, 'mptun.history/1');
  t.deepEqual(history.receipts, [sampleReceipt({ id: 2 })]);
  t.is((await client.get<HistoryDocument>('/v1/history')).receipts.length, 2);
  const wrong = await t.throwsAsync(client.get('/v1/history?n=0'), { instanceOf: RefusedError });
  t.is(wrong!.httpStatus, 400);
  t.deepEqual(await client.get<WhyDocument>('/v1/why'), sampleWhy());
  await client.post('/v1/mode', { mode: 'redundant' });
  await client.post('/v1/mode', { mode: null });
  t.deepEqual(daemon.modes, ['redundant', null]);
  const unknown = await t.throwsAsync(client.post('/v1/mode', { mode: 'fast' }), { instanceOf: RefusedError });
  t.is(unknown!.httpStatus, 400);
  const get = await t.throwsAsync(client.get('/v1/mode'), { instanceOf: RefusedError });
  t.is(get!.httpStatus, 405);
});

test('metrics can be served on TCP too, and nothing else is', async (t) => {
  const socketPath = join(temporaryDirectory(t), 'm.sock');
  const port = await freePort();
  const server = await ControlServer.start(new FakeDaemon(), {
    socketPath,
    metricsListen: { host: '127.0.0.1', port },
  });
  t.teardown(() => server.close());
  const scrape = await fetch(`http://127.0.0.1:${port}/metrics`);
  t.regex(await scrape.text(), /^mptun_info\{/m);
  t.is((await fetch(`http://127.0.0.1:${port}/v1/status`)).status, 404);
});

test('a port for metrics that is taken is an error, and leaves no socket behind', async (t) => {
  const blocker = createServer();
  const port = await new Promise<number>((resolve) => {
    blocker.listen(0, '127.0.0.1', () => resolve((blocker.address() as { port: number }).port));
  });
  t.teardown(() => {
    blocker.close();
  });
  const socketPath = join(temporaryDirectory(t), 'm.sock');
  const options = { socketPath, metricsListen: { host: '127.0.0.1', port } };
  await t.throwsAsync(ControlServer.start(new FakeDaemon(), options), { code: 'EADDRINUSE' });
  t.false(existsSync(socketPath));
});

test('no socket, a dead one and somebody else’s are told apart', async (t) => {
  const dir = temporaryDirectory(t);
  await t.throwsAsync(new ControlClient(join(dir, 'none.sock')).get('/v1/status'), { instanceOf: NotRunningError });
  mkdirSync(join(dir, 'dir.sock'));
  await t.throwsAsync(new ControlClient(join(dir, 'dir.sock')).get('/v1/status'), { instanceOf: NotRunningError });
  // Root may open any socket, so the system's answer is given by hand.
  const client = new ControlClient(join(dir, 'x.sock')) as unknown as { explain(err: Error): Error };
  t.true(client.explain(Object.assign(new Error('x'), { code: 'EACCES' })) instanceof NotPermittedError);
});

test('a path change is checked key by key', (t) => {
  t.deepEqual(parsePathChange({ role: null }), { role: null });
  t.deepEqual(parsePathChange({ limit_bps: 5_000_000 }), { limit_bps: 5_000_000 });
  for (const body of [
    null,
    [],
    'x',
    5,
    {},
    { role: 1 },
    { limit_bps: 0 },
    { limit_bps: 1.5 },
    { limit_bps: '5' },
    { use: 'sideways' },
    { use: 'up', role: 'backup' },
    { __proto__x: 1 },
  ]) {
    t.is(typeof parsePathChange(body), 'string', JSON.stringify(body));
  }
});

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
