import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { SystemdNotifier, unixAddress } from '../../../src/daemon/notify-systemd.js';
import { addon, check } from '../../../src/native/addon.js';
import { temporaryDirectory } from '../../support/files.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

/** A datagram socket as systemd's; returns what has arrived, one string per datagram. */
function listenAt(t: ExecutionContext, name: string): () => string[] {
  const fd = check(addon.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket');
  check(addon.bind(fd, unixAddress(name)!), 'bind');
  t.teardown(() => {
    addon.close(fd);
  });
  const room = new Uint8Array(4096);
  return () => {
    const messages: string[] = [];
    for (let n = addon.recv(fd, room, 0); n > 0; n = addon.recv(fd, room, 0)) {
      messages.push(Buffer.from(room.subarray(0, n)).toString());
    }
    return messages;
  };
}

for (const kind of ['path', 'abstract'] as const) {
  test(`every message arrives as one datagram (${kind} socket)`, (t) => {
    const name = kind === 'path' ? join(temporaryDirectory(t), 'notify') : `@mptun-test-${process.pid}`;
    const received = listenAt(t, name);
    const notifier = SystemdNotifier.fromEnvironment({ NOTIFY_SOCKET: name });
    t.teardown(() => notifier.close());
    t.true(notifier.isEnabled);
    notifier.status('waiting for a link');
    notifier.ready('up');
    notifier.reloading(1234.5);
    notifier.watchdog();
    notifier.stopping('bye\nREADY=1');
    t.deepEqual(received(), [
      'STATUS=waiting for a link',
      'READY=1\nSTATUS=up',
      'RELOADING=1\nMONOTONIC_USEC=1234',
      'WATCHDOG=1',
      'STOPPING=1\nSTATUS=bye READY=1',
    ]);
    t.is(notifier.failures, 0);
  });
}

test('without a service manager nothing is sent and nothing fails', (t) => {
  for (const env of [
    {},
    { NOTIFY_SOCKET: '' },
    { NOTIFY_SOCKET: 'relative' },
    { NOTIFY_SOCKET: `/${'x'.repeat(200)}` },
  ]) {
    const notifier = SystemdNotifier.fromEnvironment(env);
    t.false(notifier.isEnabled);
    notifier.ready('up');
    t.is(notifier.failures, 0);
    notifier.close();
  }
});

test('a service manager that has gone is counted, not thrown', (t) => {
  const notifier = SystemdNotifier.fromEnvironment({ NOTIFY_SOCKET: join(temporaryDirectory(t), 'gone') });
  t.teardown(() => notifier.close());
  notifier.ready('up');
  t.is(notifier.failures, 1);
});

test('the watchdog is fed at half its time, for this process only, and only while healthy', async (t) => {
  const name = join(temporaryDirectory(t), 'notify');
  const received = listenAt(t, name);
  const open = (env: Record<string, string>) => {
    const notifier = SystemdNotifier.fromEnvironment({ NOTIFY_SOCKET: name, ...env }, 42);
    t.teardown(() => notifier.close());
    return notifier;
  };
  t.is(open({ WATCHDOG_USEC: '15000000', WATCHDOG_PID: '42' }).watchdogIntervalMs, 7500);
  t.is(open({ WATCHDOG_USEC: '15000000', WATCHDOG_PID: '43' }).watchdogIntervalMs, null);
  t.is(open({ WATCHDOG_USEC: '0' }).watchdogIntervalMs, null);
  t.is(open({}).watchdogIntervalMs, null);

  const notifier = open({ WATCHDOG_USEC: '2000' });
  // Healthy twice, then not: two messages, however many times it asks.
  await new Promise<void>((resolve) => {
    const keepAlive = setInterval(() => {}, 1000);
    let asked = 0;
    notifier.startWatchdog(() => {
      if (++asked < 6) return asked <= 2;
      clearInterval(keepAlive);
      resolve();
      return false;
    });
  });
  t.deepEqual(received(), ['WATCHDOG=1', 'WATCHDOG=1']);
});
