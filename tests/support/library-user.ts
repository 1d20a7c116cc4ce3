/**
 * A program that uses the library as applications do, in a namespace, against the kernel's echo service under Multipath TCP
 * (line-peer.ts); one JSON line per finding: {"what", "value"}. Run by tests/interop/library.test.ts:
 *   node library-user.js failures|settings|streams HOST PORT
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type EngineEvent, MptcpHost, type Subflow } from 'mptun';

const [what, host, portText] = process.argv.slice(2) as [string, string, string];
const port = Number(portText);

function say(name: string, value: unknown): void {
  process.stdout.write(`${JSON.stringify({ what: name, value })}\n`);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    return code === undefined || typeof code !== 'string' ? name : code;
  }
}

/** True within twenty seconds. */
async function soon(isSo: () => boolean): Promise<boolean> {
  for (let i = 0; i < 2000 && !isSo(); i++) await delay(10);
  return isSo();
}

async function failures(): Promise<void> {
  const mptcp = new MptcpHost();
  say('refused', await codeOf(mptcp.connect({ host, port: 1 })));
  say('silent', await codeOf(mptcp.connect({ host: '10.1.0.77', port, timeoutMs: 200 })));
  say('cancelled', await codeOf(mptcp.connect({ host: '10.1.0.77', port, signal: AbortSignal.timeout(100) })));
  say('no route', await codeOf(mptcp.connect({ host: '192.0.2.1', port })));
  say('bad port', await codeOf(mptcp.connect({ host, port: 70_000 })));
  say('bad scheduler', await codeOf(mptcp.connect({ host, port, scheduler: 'best' })));
  const first = await mptcp.listen({ port: 7000 });
  say('port taken', await codeOf(mptcp.listen({ port: 7000 })));
  say('not ours', await codeOf(mptcp.listen({ port: 7001, host: '192.0.2.1' })));
  const accepting = codeOf(first.accept());
  first.close();
  say('listener closed', await accepting);
  const other = new MptcpHost({ interfaces: ['no-such-if'] });
  say('no interface', await codeOf(other.listen({ port: 7002 })));
  await other.close();
  const plain = await mptcp.connect({ host, port, multipath: false });
  say('plain', plain.isMultipath);
  say('not on plain TCP', await codeOf(plain.addAddress('10.2.0.1')));
  const ended = codeOf(once(plain, 'close'));
  plain.abort();
  say('aborted', await ended);
  await mptcp.close();
  say('host closed', await codeOf(mptcp.connect({ host, port })));
}

async function settings(): Promise<void> {
  const mptcp = new MptcpHost({ interfaces: ['a1'] });
  const events: string[] = [];
  const connection = await mptcp.connect({ host, port, congestion: 'cubic', scheduler: 'min-rtt' });
  connection.on('mptcp', (event: EngineEvent) => events.push(event.type));
  connection.resume();
  say('id', connection.connectionId === connection.info().mptcpi_token && connection.connectionId > 0);
  say('congestion', connection.subflows()[0]!.congestion);
  say(
    'one subflow',
    connection.subflows().map((s) => s.interface),
  );
  connection.write('hello');
  await connection.addAddress('10.2.0.1');
  const open = () => connection.subflows().filter((s) => s.state === 'established');
  say('added', await soon(() => open().length === 2));
  say(
    'two subflows',
    open().map((s) => `${s.interface} ${s.local.address.text}`),
  );
  const second = open()[1]!;
  connection.setBackup(second.id, true);
  say('backup', open()[1]!.isBackupLocal);
  connection.setBackup(second.id, false);
  connection.setScheduler('round-robin');
  connection.setKeepAlive(true, 100);
  const { lastReceivedUs } = open()[1]!;
  say('kept alive', await soon(() => open().every((s) => s.lastReceivedUs > lastReceivedUs)));
  connection.setKeepAlive(false);
  say('unknown subflow', await codeOf((async () => connection.setBackup(99, true))()));
  say('unknown address', await codeOf((async () => connection.removeAddress('10.9.9.9'))()));
  connection.removeAddress('10.2.0.1');
  say('removed', await soon(() => open().length === 1));
  connection.setMultipath(true);
  await connection.addAddress('10.2.0.1', { announce: true });
  // The peer, told of the address, may have been faster, or opened one besides ours.
  const isSecond = (s: Subflow) => s.local.address.text === '10.2.0.1';
  say('added again', await soon(() => open().some(isSecond)));
  const another = connection.openSubflow({ interface: 'a2', remoteAddress: '10.2.0.2' });
  say('opened', another > 0);
  connection.setMultipath(false);
  say('disabled', await soon(() => connection.info().mptcpi_subflows_total === 1));
  const info = connection.info();
  say('info', {
    subflows: info.mptcpi_subflows,
    total: info.mptcpi_subflows_total,
    sent: info.mptcpi_bytes_sent,
    acked: info.mptcpi_bytes_acked,
    sequence: Number(info.mptcpi_write_seq - info.mptcpi_snd_una),
    signalled: info.mptcpi_add_addr_signal,
  });
  connection.setMultipath(true);
  say('enabled', await soon(() => open().some(isSecond)));
  connection.end();
  await once(connection, 'close');
  say(
    'events',
    ['subflow-added', 'subflow-established', 'subflow-closed', 'connection-closed'].map((e) => events.includes(e)),
  );
  await mptcp.close();
}

/** More than any buffer holds, read slowly, from one buffer that is used again and again. */
async function streams(): Promise<void> {
  const mptcp = new MptcpHost({ interfaces: ['a1', 'a2'] });
  const options = { host, port, sendBufferBytes: 65_536, receiveBufferBytes: 262_144 };
  const connection = await mptcp.connect(options);
  const sent = createHash('sha256');
  const chunk = Buffer.alloc(100_000);
  let most = 0;
  const writing = (async () => {
    for (let i = 0; i < 100; i++) {
      chunk.fill(i);
      sent.update(chunk);
      await new Promise<void>((resolve) => connection.write(chunk, () => resolve()));
      most = Math.max(most, connection.unsentBytes);
    }
    connection.end();
  })();
  const received = createHash('sha256');
  let bytes = 0;
  for await (const piece of connection as AsyncIterable<Buffer>) {
    received.update(piece);
    bytes += piece.length;
    if (bytes < 1_000_000) await delay(5);
  }
  await writing;
  say('bytes', bytes);
  say('equal', received.digest('hex') === sent.digest('hex'));
  say('bounded', most <= 65_536 + chunk.length);
  if (!connection.destroyed) await once(connection, 'close');
  say('in use', mptcp.connections().length);
  await mptcp.close();
  say('packet sockets', readFileSync('/proc/net/packet', 'utf8').trim().split('\n').length - 1);
}

const scripts: Record<string, () => Promise<void>> = { failures, settings, streams };
await scripts[what]!();
