/** NetworkManager through nmcli: what it says, when it is asked, and what happens when it is not there. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { findNmcli, NetworkManager, type NmcliHost, parseDevices } from '../../../src/daemon/network-manager.js';
import { until } from '../../support/until.js';

const DEVICES = `GENERAL.DEVICE:wlp0s20f3
GENERAL.TYPE:wifi
GENERAL.STATE:100 (connected)
GENERAL.IP4-CONNECTIVITY:2 (portal)
GENERAL.IP6-CONNECTIVITY:3 (limited)
GENERAL.CONNECTION:Cafe: free
GENERAL.METERED:no (guessed)

GENERAL.DEVICE:wwan0
GENERAL.IP4-CONNECTIVITY:4 (full)
GENERAL.IP6-CONNECTIVITY:1 (none)
GENERAL.METERED:yes

GENERAL.DEVICE:lo
GENERAL.IP4-CONNECTIVITY:0 (unknown)
GENERAL.METERED:unknown
`;

test('what nmcli prints, device by device; the better family counts', (t) => {
  t.deepEqual(
    [...parseDevices(DEVICES)],
    [
      ['wlp0s20f3', { isMetered: false, connectivity: 'limited' }],
      ['wwan0', { isMetered: true, connectivity: 'full' }],
      ['lo', { isMetered: null, connectivity: null }],
    ],
  );
  t.is(parseDevices('Error: NetworkManager is not running.\n').size, 0);
  t.deepEqual(
    [...parseDevices('GENERAL.DEVICE:eth0\n')],
    [['eth0', { isMetered: null, connectivity: null }]],
    'an old one',
  );
});

/** An nmcli whose answers, lines, ends and timers the test decides. */
class Stage implements NmcliHost {
  answers: ((output: string | null) => void)[] = [];
  line = () => {};
  end = () => {};
  monitors = 0;
  isEnded = false;
  timers: { ms: number; action: () => void }[] = [];

  ask(args: readonly string[], onAnswer: (output: string | null) => void): void {
    if (args.join(' ') !== '-t -f GENERAL device show') throw new Error(args.join(' '));
    this.answers.push(onAnswer);
  }
  monitor(onLine: () => void, onEnd: () => void): () => void {
    this.monitors++;
    this.line = onLine;
    this.end = onEnd;
    return () => {
      this.isEnded = true;
    };
  }
  later(ms: number, action: () => void): () => void {
    const timer = { ms, action };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((x) => x !== timer);
    };
  }
  /** Lets the only timer pass; how long it was. */
  pass(): number {
    const [timer, ...others] = this.timers;
    if (timer === undefined || others.length > 0) throw new Error(`${this.timers.length} timers`);
    this.timers = [];
    timer.action();
    return timer.ms;
  }
}

test('asked at once, and once for each burst of lines; only a difference is told', (t) => {
  const stage = new Stage();
  let changes = 0;
  const manager = new NetworkManager(stage, () => changes++);
  t.is(manager.factsOf('wwan0'), null);
  stage.answers.shift()!(DEVICES);
  t.deepEqual(manager.factsOf('wwan0'), { isMetered: true, connectivity: 'full' });
  t.is(changes, 1);
  stage.line();
  stage.line();
  stage.pass();
  t.is(stage.answers.length, 1);
  stage.line();
  stage.pass();
  t.is(stage.answers.length, 1, 'not while an answer is awaited');
  stage.answers.shift()!(DEVICES);
  t.is(changes, 1, 'the same as before');
  t.is(stage.answers.length, 1, 'but after it');
  stage.answers.shift()!(DEVICES.replace('METERED:yes', 'METERED:no'));
  t.is(changes, 2);
  stage.line();
  stage.pass();
  stage.answers.shift()!(null);
  t.is(manager.factsOf('wwan0'), null, 'NetworkManager is gone, and with it what it said');
  t.is(changes, 3);
  stage.line();
  manager.close();
  t.deepEqual(stage.timers, []);
  t.true(stage.isEnded);
});

test('a monitor that ends is started again, ever later, and soon once it has said something', (t) => {
  const stage = new Stage();
  const manager = new NetworkManager(stage, () => {});
  stage.answers.shift()!(null);
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    stage.end();
    waits.push(stage.pass()); // starts it, and asks a moment later
    t.is(stage.pass(), 100);
    stage.answers.shift()!(null);
  }
  t.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  t.is(stage.monitors, 9);
  stage.line();
  stage.pass();
  stage.end();
  t.is(stage.pass(), 1000);
  manager.close();
  stage.end();
  t.is(stage.monitors, 10, 'not after it was closed');
});

test('the real thing, with a program of ours in place of nmcli', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'mptun-test-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  t.is(findNmcli(dir), null, 'none there');
  const devices = join(dir, 'devices');
  const pipe = join(dir, 'lines');
  writeFileSync(devices, DEVICES);
  writeFileSync(pipe, '');
  const script = `#!/bin/sh
echo "$*" >> ${dir}/calls
if [ "$1" = monitor ]; then echo $$ > ${dir}/pid; exec tail -f ${pipe}; fi
cat ${devices}
`;
  writeFileSync(join(dir, 'nmcli'), script);
  chmodSync(join(dir, 'nmcli'), 0o755);
  let changes = 0;
  const manager = new NetworkManager(findNmcli(dir)!, () => changes++);
  await until(() => manager.factsOf('wwan0')?.isMetered === true, 'its first answer');
  await until(() => readFileSync(join(dir, 'calls'), 'utf8').includes('monitor'), 'its monitor');
  writeFileSync(devices, DEVICES.replace('METERED:yes', 'METERED:no (guessed)'));
  writeFileSync(pipe, 'wwan0: connection profile changed\n', { flag: 'a' });
  await until(() => manager.factsOf('wwan0')?.isMetered === false, 'the change');
  t.is(changes, 2);
  const pid = Number(readFileSync(join(dir, 'pid'), 'utf8'));
  manager.close();
  await until(() => !isRunning(pid), 'its end');
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
