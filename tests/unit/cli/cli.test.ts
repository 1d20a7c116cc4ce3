import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Command } from 'commander';
import type { ExitCode } from '../../../src/cli/exit.js';
import { buildProgram } from '../../../src/cli/program.js';
import { checkResult } from '../../../src/cli/status.js';
import { RateCurves, sparkline } from '../../../src/cli/top.js';
import type {
  FlowsDocument,
  HistoryDocument,
  PathsDocument,
  StatusDocument,
  WhyDocument,
} from '../../../src/control/protocol.js';
import { ControlServer } from '../../../src/daemon/control-server.js';
import { VERSION } from '../../../src/version.js';
import { mptun } from '../../support/cli.js';
import { configDirectory } from '../../support/config-files.js';
import {
  FakeDaemon,
  samplePath,
  sampleReceipt,
  sampleStatus,
  sampleTcpFlow,
  sampleWhy,
  sampleWhyFlow,
} from '../../support/fake-daemon.js';
import { REPOSITORY, temporaryDirectory } from '../../support/files.js';
import { until } from '../../support/until.js';

async function fakeDaemon(t: ExecutionContext): Promise<{ daemon: FakeDaemon; socket: string }> {
  const daemon = new FakeDaemon();
  const socket = join(temporaryDirectory(t), 'home.sock');
  const server = await ControlServer.start(daemon, { socketPath: socket, metricsListen: null });
  t.teardown(() => server.close());
  return { daemon, socket };
}

test('version is that of package.json', async (t) => {
  const manifest = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
  t.is(VERSION, manifest.version);
  t.is((await mptun(['version'])).stdout, `mptun ${VERSION}\n`);
  t.deepEqual(await mptun(['--version']), { code: 0, stdout: `${VERSION}\n`, stderr: '' });
});

test('every verb has a description, and help with an example', async (t) => {
  const visit = (command: Command): void => {
    if (command.commands.length === 0) {
      let help = '';
      command.configureOutput({ writeOut: (text) => (help += text) });
      command.outputHelp();
      t.regex(help, /\nExample:\n {2}(sudo )?mptun /, command.name());
    }
    t.not(command.description(), '', command.name());
    for (const sub of command.commands) visit(sub);
  };
  visit(await buildProgram());
});

test('wrong usage is 2, with a suggestion; help that was asked for is 0', async (t) => {
  const wrong = await mptun(['stauts']);
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /Did you mean status\?/);
  t.is((await mptun([])).code, 2);
  t.is((await mptun(['status', '--jsno'])).code, 2);
  t.is((await mptun(['path', 'wlan0'])).code, 2);
  t.is((await mptun(['path', 'wlan0', 'sideways'])).code, 2);
  t.is((await mptun(['mode', 'fast'])).code, 2);
  t.is((await mptun(['top', '--interval', '0'])).code, 2);
  const help = await mptun(['--help']);
  t.is(help.code, 0);
  t.regex(help.stdout, /status \[options\] \[name\]/);
});

test('status says what the best link alone would give, where that is known', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  t.notRegex((await mptun(['status', '--socket', socket])).stdout, /best link/);
  const rx = { best_path: 'wlan0', best_bps: 47_000_000, all_bps: 75_000_000, ratio: 1.596 };
  daemon.document = sampleStatus({ estimate: { tx: null, rx } });
  t.regex(
    (await mptun(['status', '--socket', socket])).stdout,
    /best link alone would give {2}down 47\.0 Mbit\/s \(wlan0\), all together 75\.0 Mbit\/s now/,
  );
  const json = JSON.parse((await mptun(['status', '--json', '--socket', socket])).stdout);
  t.deepEqual(json.estimate, { tx: null, rx });
});

test('no daemon is 3', async (t) => {
  const { code, stderr } = await mptun(['status', '--socket', join(temporaryDirectory(t), 'none.sock')]);
  t.is(code, 3);
  t.regex(stderr, /^mptun: no daemon answers on /);
});

test('a wrong configuration is 4, for check, show and run alike', async (t) => {
  const file = configDirectory(t).write('c.yaml', 'mode: client\nkey_file: client.key\nserver: {hots: x}\n');
  for (const args of [
    ['config', 'check', file],
    ['config', 'show', '--effective', file],
    ['run', file],
  ]) {
    const { code, stdout, stderr } = await mptun(args);
    t.is(code, 4, args.join(' '));
    t.is(stdout, '');
    t.true(stderr.includes(`${file}:3:10: server.hots: unknown key; did you mean host?\n`), stderr);
    t.regex(stderr, /3 errors in the configuration\n$/);
  }
});

test('genkey makes a file for its owner only, never over another; pubkey gives the same pin', async (t) => {
  const file = join(temporaryDirectory(t), 'a.key');
  const made = await mptun(['genkey', file]);
  t.is(made.code, 0);
  t.regex(made.stdout, /^sha256\/[A-Za-z0-9+/]{43}=\n$/);
  t.is(statSync(file).mode & 0o777, 0o600);
  t.is((await mptun(['pubkey', file])).stdout, made.stdout);
  const pem = readFileSync(file, 'utf8');
  t.is((await mptun(['pubkey'], { input: pem })).stdout, made.stdout);
  const again = await mptun(['genkey', file]);
  t.is(again.code, 1);
  t.is(readFileSync(file, 'utf8'), pem);
  chmodSync(file, 0o644);
  const open = await mptun(['pubkey', file]);
  t.is(open.code, 4);
  t.regex(open.stderr, /accessible to other users .*chmod 600/);
});

test('config check and show of a good configuration', async (t) => {
  const dir = configDirectory(t);
  copyFileSync(join(REPOSITORY, 'configs', 'client.yaml'), join(dir.path, 'client.yaml'));
  const file = join(dir.path, 'client.yaml');
  t.deepEqual(await mptun(['config', 'check', file]), { code: 0, stdout: `${file}: ok (client client)\n`, stderr: '' });
  t.regex((await mptun(['config', 'show', '--effective', file])).stdout, /^ {2}reconnect_max: 5s # line \d+$/m);
  t.is((await mptun(['config', 'show', file])).stdout, readFileSync(file, 'utf8'));
});

test('status: one screen for people, the document itself with --json', async (t) => {
  const { socket } = await fakeDaemon(t);
  const { code, stdout } = await mptun(['status', '--socket', socket]);
  t.is(code, 0);
  t.deepEqual(stdout.split('\n'), [
    'home  up  client, running for 2 h 13 min, version 0.1.0, pid 4711',
    '  server   vpn.example.net:8443',
    '  tun      mt-home  10.77.0.2/32  fd77::2/128  mtu 1500',
    '  traffic  down 62.1 Mbit/s (5.00 GB)   up 1.20 Mbit/s (31.0 MB)',
    '  policy   auto, min-rtt, cubic',
    '',
    '  PATH   STATE   ROLE               RTT   LOSS         DOWN           UP  RECEIVED     SENT',
    '  wlan0  active  always           21 ms  0.1 %  41.0 Mbit/s  1.20 Mbit/s   4.20 GB  31.0 MB',
    '  wwan0  warm    backup, metered  63 ms      -      0 bit/s      0 bit/s   3.40 kB  1.20 kB  backup: wlan0 works',
    '  eth0   down    always               -      -  41.0 Mbit/s  1.20 Mbit/s   4.20 GB  31.0 MB  no carrier',
    '',
  ]);
  const json = await mptun(['status', '--json', '--socket', socket]);
  t.deepEqual(JSON.parse(json.stdout) as StatusDocument, sampleStatus());
});

test('status --check ends with what monitoring wants to know', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  const problem = (kind: 'authentication' | 'unreachable' | 'portal' | 'permission', needsUser: boolean) => ({
    kind,
    message: 'x',
    remedy: 'y',
    needs_user: needsUser,
  });
  const cases: [Partial<StatusDocument>, number][] = [
    [{ state: 'up' }, 0],
    [{ state: 'degraded', reason: 'wwan0 is down' }, 7],
    [{ state: 'up', problems: [problem('portal', true)] }, 8],
    [{ state: 'connecting', problems: [problem('authentication', false)] }, 5],
    [{ state: 'connecting', problems: [problem('unreachable', false)] }, 6],
    [{ state: 'waiting' }, 6],
    [{ state: 'starting', problems: [problem('permission', false)] }, 9],
  ];
  for (const [fields, expected] of cases) {
    t.is(checkResult(sampleStatus(fields)), expected as ExitCode, JSON.stringify(fields));
  }
  daemon.document = sampleStatus({ state: 'degraded' });
  t.is((await mptun(['status', '--check', '--socket', socket])).code, 7);
  t.is((await mptun(['status', '--socket', socket])).code, 0);
});

test('a server shows its clients', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  const totals = { tx_bps: 5e6, rx_bps: 1e6, tx_bytes: 1e9, rx_bytes: 2e6 };
  const since = '2026-01-02T03:00:05.000Z';
  const session = {
    peer: 'laptop',
    since,
    addresses: ['10.77.0.2'],
    connections: 2,
    unsupported: ['roles'],
    ...totals,
  };
  daemon.document = sampleStatus({ mode: 'server', endpoint: '[::]:8443', sessions: [session], paths: [] });
  const { stdout } = await mptun(['status', '--socket', socket]);
  t.regex(stdout, /^ {2}CLIENT +SINCE +ADDRESSES +FROM +TO +RECEIVED +SENT$/m);
  t.regex(
    stdout,
    /^ {2}laptop +4 min +10\.77\.0\.2 +1\.00 Mbit\/s +5\.00 Mbit\/s +2\.00 MB +1\.00 GB +peer cannot: roles$/m,
  );
});

test('paths are listed', async (t) => {
  const { socket } = await fakeDaemon(t);
  t.regex((await mptun(['paths', '--socket', socket])).stdout, /^ {2}wwan0 .*backup: wlan0 works$/m);
  t.regex(
    (await mptun(['paths', '--all', '--socket', socket])).stdout,
    /^ {2}NOT USED\n {2}docker0 {2}a bridge of Docker's$/m,
  );
  const { stdout } = await mptun(['paths', '--json', '--socket', socket]);
  t.is((JSON.parse(stdout) as PathsDocument).paths.length, 3);
});

test('path: each action says what it says, and nothing that it does not know', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  const path = (...args: string[]) => mptun(['path', ...args, '--socket', socket]);
  t.deepEqual(await path('wwan0', 'down'), { code: 0, stdout: 'wwan0 changed\n', stderr: '' });
  for (const action of ['up', 'always', 'overflow', 'backup', 'reset']) t.is((await path('wwan0', action)).code, 0);
  t.is((await path('wwan0', 'limit', '5Mbit')).code, 0);
  t.deepEqual(
    daemon.changes.map((c) => c.change),
    [
      { use: 'down' },
      { use: 'up' },
      { role: 'always' },
      { role: 'overflow' },
      { role: 'backup' },
      { role: null, limit_bps: null },
      { limit_bps: 5_000_000 },
    ],
  );
  const unknown = await path('nope', 'down');
  t.is(unknown.code, 1);
  t.is(unknown.stderr, 'mptun: no path called nope\n');
  for (const wrong of [['limit'], ['limit', '5'], ['limit', '0Mbit'], ['down', '5Mbit']]) {
    t.is((await path('wwan0', ...wrong)).code, 2, wrong.join(' '));
  }
});

test('mode: ordered, reset, and refused with the reason of the daemon', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  t.is((await mptun(['mode', 'handover', '--socket', socket])).stdout, 'mode is handover\n');
  t.is((await mptun(['mode', 'reset', '--socket', socket])).code, 0);
  t.deepEqual(daemon.modes, ['handover', null]);
  daemon.modeResult = { ok: false, message: 'the mode is chosen by the client' };
  const refused = await mptun(['mode', 'auto', '--socket', socket]);
  t.is(refused.code, 1);
  t.is(refused.stderr, 'mptun: the mode is chosen by the client\n');
});

test('an order is shown in the status, and so is an ordered mode', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  const order = { role: 'never', limit_bps: 5_000_000, since: '2026-01-02T03:00:00.000Z' } as const;
  daemon.document = sampleStatus({
    traffic: { ...sampleStatus().traffic, mode: 'handover', mode_ordered: true },
    paths: [samplePath({ state: 'down', reason: 'its role is never', role: 'never', order })],
  });
  const { stdout } = await mptun(['status', '--socket', socket]);
  t.regex(stdout, /policy {3}handover \(ordered\), min-rtt/);
  t.regex(stdout, /wlan0 .* its role is never \(ordered down, at most 5\.00 Mbit\/s\)$/m);
});

test('why: rule, role, state and reason of each path, and the shares of the traffic', async (t) => {
  const { socket } = await fakeDaemon(t);
  const { code, stdout } = await mptun(['why', '--socket', socket]);
  t.is(code, 0);
  t.deepEqual(stdout.split('\n'), [
    'mode handover (ordered by an operator), scheduler min-rtt',
    '',
    'wlan0  active, carries data',
    '  rule  type wifi',
    '  role  always (as configured)',
    '  why   best of the paths that work',
    '',
    'wwan0  warm, carries no data',
    '  rule  name wwan*',
    '  role  backup (ordered by an operator)',
    '  why   backup: another path works',
    '',
    'bulk with vpn.example.net  large transfers: 9.00 kB received, 1.00 kB sent',
    '  wlan0  75 % of received, 100 % of sent  carries data',
    '  wwan0  25 % of received, 0 % of sent  backup',
    '',
  ]);
  const json = await mptun(['why', '--json', '--socket', socket]);
  t.deepEqual(JSON.parse(json.stdout) as WhyDocument, sampleWhy());
});

test('why HOST:PORT: which way, by which rule, which rules did not take it, over which paths, and what is open', async (t) => {
  const { socket } = await fakeDaemon(t);
  const { code, stdout } = await mptun(['why', 'www.example.com', '--socket', socket]);
  t.is(code, 0);
  t.deepEqual(stdout.split('\n'), [
    'www.example.com:443  relayed by the server, on a connection of its own, mode auto',
    '  address  192.0.2.80',
    '  rule     flows.rules[1]: port 443',
    '  not      flows.rules[0]: port 22 (port)',
    '  path     wlan0: active, carries: role always',
    '  path     wwan0: warm, does not carry: backup: wlan0 works',
    '  open     relay, auto, since 1 min: 900 kB received, 20.0 kB sent, over wlan0, wwan0 (backup)',
    '',
  ]);
  const json = await mptun(['why', '[2001:db8::1]:22', '--json', '--socket', socket]);
  t.deepEqual(JSON.parse(json.stdout), sampleWhyFlow({ host: '2001:db8::1', port: 22 }));
  const server = await mptun(['why', 'nowhere:80', '--socket', socket]);
  t.deepEqual([server.code, server.stderr], [1, 'mptun: this is a server\n']);
  for (const bad of ['a b', 'a:0', 'a:70000', '[x]:1', ''])
    t.is((await mptun(['why', bad, '--socket', socket])).code, 2, bad);
});

test('flows: a line each, the fastest first with --top, or the document', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  daemon.open = [
    sampleTcpFlow({ rx_bps: 0, tx_bps: 0, name: null, app: null, origin: 'proxy', state: 'dialing', paths: [] }),
    sampleTcpFlow(),
  ];
  const { stdout } = await mptun(['flows', '--socket', socket]);
  const lines = stdout.split('\n');
  t.regex(lines[0]!, /^2 flows of their own, beside 0 connections of the packet lane {2}\d\d:\d\d:\d\d$/);
  t.regex(lines[1]!, /^APPLICATION +DESTINATION +WAY +MODE +PATHS +UP +DOWN +SENT +RECEIVED +AGE +RULE$/);
  t.regex(lines[2]!, /^vpn\.example\.net +192\.0\.2\.80:443 +relay \(dialing\) +auto \(bulk\) +- +0 bit\/s/);
  t.regex(
    lines[3]!,
    /^10\.77\.0\.2:51034 +www\.example\.com:443 \(192\.0\.2\.80\) +relay +auto \(bulk\) +wlan0 100 %, \[wwan0 0 %\] +100 kbit\/s +24\.0 Mbit\/s +20\.0 kB +900 kB +1 min +flows\.rules\[0\]: port 443$/,
  );
  const top = await mptun(['flows', '--top', '-n', '1', '--interval', '0.1', '--socket', socket]);
  t.regex(top.stdout.split('\n')[2]!, /^10\.77\.0\.2:51034/);
  const json = JSON.parse((await mptun(['flows', '--json', '--socket', socket])).stdout) as FlowsDocument;
  t.deepEqual(json.tcp_flows, daemon.open);
});

test('proxy: through the daemon while this runs; without one only what makes sense', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  const child = spawn(join(REPOSITORY, 'bin', 'mptun'), ['proxy', '--listen', '127.0.0.1:1999', '--socket', socket], {
    stdio: 'pipe',
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  t.is(line.toString(), 'SOCKS5 and HTTP proxy on 127.0.0.1:1999, through home\n');
  child.kill('SIGTERM');
  await once(child, 'exit');
  t.is(child.exitCode, 0);
  await until(() => daemon.proxies.length === 2, 'closed');
  t.deepEqual(daemon.proxies, ['open 127.0.0.1:1999', 'closed']);
  for (const [args, says] of [
    [['--listen', '0.0.0.0:1080'], /loopback address is wanted/],
    [['--direct', '--via', 'https://a'], /exclude each other/],
    [['--via', 'http://a'], /is not the URL of an HTTPS proxy/],
    [['--cacert', 'x'], /--cacert is for --via/],
  ] as const) {
    const { code, stderr } = await mptun(['proxy', ...args]);
    t.is(code, 2);
    t.regex(stderr, says);
  }
});

test('history: one line a receipt, the newest n, or the document', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  t.is((await mptun(['history', '--socket', socket])).stdout, 'no handover yet\n');
  daemon.receipts = [
    sampleReceipt({ id: 6, gap_s: null }),
    sampleReceipt(),
    sampleReceipt({ id: 8, from: ['wwan0'], to: [], dark_s: 4.2, gap_s: 0 }),
  ];
  const { stdout } = await mptun(['history', '-n', '2', '--socket', socket]);
  t.deepEqual(stdout.split('\n'), [
    'TIME                     FROM   TO     CAUSE         GAP  REINJECTED  DUPLICATED      CARRIED  LOST',
    '2026-01-02 03:00:00.000  wlan0  wwan0  link-down   84 ms      120 kB     1.45 kB  2 (3 flows)     0  wlan0: link is down',
    '2026-01-02 03:00:00.000  wwan0  -      link-down  < 5 ms      120 kB     1.45 kB  2 (3 flows)     0  wlan0: link is down; 4.2 s without any path',
    '',
  ]);
  const json = await mptun(['history', '--json', '--socket', socket]);
  t.deepEqual((JSON.parse(json.stdout) as HistoryDocument).receipts, daemon.receipts);
  t.is((await mptun(['history', '-n', '0', '--socket', socket])).code, 2);
});

test('top into a pipe: a block per interval, no escape codes, and it ends after n', async (t) => {
  const { socket } = await fakeDaemon(t);
  const { code, stdout } = await mptun(['top', '-n', '2', '--interval', '0.1', '--socket', socket]);
  t.is(code, 0);
  t.false(stdout.includes('\x1b'));
  t.is(stdout.match(/^home {2}03:04:05 {2}up, mode auto$/gm)?.length, 2);
  t.is(stdout.match(/^wlan0 +active/gm)?.length, 2);
  t.is(stdout.match(/^tunnel +up/gm)?.length, 2);
});

test('rates of top are those between two looks; a counter that starts anew is no negative rate', (t) => {
  const curves = new RateCurves();
  const at = (time: string, bytes: number) =>
    sampleStatus({ time, paths: [samplePath({ rx_bytes: bytes, tx_bytes: 0 })] });
  curves.add(at('2026-01-02T03:04:05.000Z', 0));
  curves.add(at('2026-01-02T03:04:05.500Z', 1_000_000));
  curves.add(at('2026-01-02T03:04:06.500Z', 1_500_000));
  curves.add(at('2026-01-02T03:04:07.500Z', 10));
  t.deepEqual(curves.of('wlan0').rx, [16_000_000, 4_000_000, 0]);
  t.is(sparkline([0, 1, 50, 100], 100), '▁▅█'.padStart(30));
});

test('events: text with figures, or one JSON object a line', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  daemon.journal.record('info', 'handover', 'moved to wwan0', {
    path: 'wwan0',
    data: { gap_s: 0.12, reinjected_bytes: 90 },
  });
  const text = await mptun(['events', '--socket', socket]);
  t.is(text.stdout, '2026-01-02 03:04:05.000  handover        wwan0  moved to wwan0  gap_s=0.12 reinjected_bytes=90\n');
  const json = await mptun(['events', '--json', '--socket', socket]);
  t.is((JSON.parse(json.stdout) as { schema: string }).schema, 'mptun.event/1');
});

test('events -f goes on until the daemon ends', async (t) => {
  const daemon = new FakeDaemon();
  const socket = join(temporaryDirectory(t), 'home.sock');
  const server = await ControlServer.start(daemon, { socketPath: socket, metricsListen: null });
  daemon.journal.record('info', 'first', 'kept');
  const following = mptun(['events', '-f', '--json', '--socket', socket]);
  // The metrics are the first.
  while (daemon.subscribers < 2) await new Promise((resolve) => setImmediate(resolve));
  daemon.journal.record('info', 'second', 'live');
  // The answer to another request shows that the server has written what came before.
  await mptun(['status', '--socket', socket]);
  await server.close();
  const { code, stdout } = await following;
  t.is(code, 0);
  t.deepEqual(stdout.match(/"type":"\w+"/g), ['"type":"first"', '"type":"second"']);
});

test('reload: 0, or 4 with the errors', async (t) => {
  const { daemon, socket } = await fakeDaemon(t);
  t.deepEqual(await mptun(['reload', '--socket', socket]), { code: 0, stdout: 'reloaded\n', stderr: '' });
  daemon.reloadResult = { ok: false, message: 'the old configuration stays', details: ['x.yaml:1:1: name: bad'] };
  const refused = await mptun(['reload', '--socket', socket]);
  t.is(refused.code, 4);
  t.is(refused.stderr, 'the old configuration stays\nx.yaml:1:1: name: bad\n');
});

test('bash completion offers verbs, then their options', async (t) => {
  const { stdout } = await mptun(['completion', 'bash']);
  const complete = (...words: string[]): string[] => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const script = `${stdout}\nCOMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _mptun; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', script]).toString().trim().split('\n');
  };
  t.deepEqual(complete('mptun', 'sta'), ['status']);
  t.deepEqual(complete('mptun', 'config', ''), ['check', 'show', '--help']);
  t.deepEqual(complete('mptun', 'config', 'show', '--e'), ['--effective']);
  t.deepEqual(complete('mptun', 'path', 'wlan0', 'ba'), ['backup']);
  t.deepEqual(complete('mptun', 'mode', 're'), ['redundant', 'reset']);
  t.deepEqual(complete('mptun', 'top', '--i'), ['--interval']);
  t.deepEqual(complete('mptun', 'completion', ''), ['bash', 'zsh', 'fish', '--help']);
});

test('zsh and fish completion name every verb and option', async (t) => {
  for (const shell of ['zsh', 'fish']) {
    const { code, stdout } = await mptun(['completion', shell]);
    t.is(code, 0);
    for (const verb of (await buildProgram()).commands) t.true(stdout.includes(verb.name()), `${shell} ${verb.name()}`);
    t.regex(stdout, /effective/);
  }
  t.is((await mptun(['completion', 'tcsh'])).code, 2);
});

test('the launcher says what to do when nothing is built', (t) => {
  const dir = temporaryDirectory(t);
  mkdirSync(join(dir, 'bin'));
  copyFileSync(join(REPOSITORY, 'bin', 'mptun'), join(dir, 'bin', 'mptun'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  const err = t.throws(() => execFileSync(join(dir, 'bin', 'mptun'), ['version'], { stdio: 'pipe' })) as Error & {
    status: number;
    stderr: Buffer;
  };
  t.is(err.status, 1);
  t.regex(err.stderr.toString(), /not built yet; run `npm run setup`/);
});
