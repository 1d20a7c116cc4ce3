import test from 'ava';
import { CAT_COMMANDS, type CatSession, runCommand } from '../../../src/daemon/cat-control.js';

/** A session that notes what it was asked. */
function recorder(): [CatSession, unknown[][]] {
  const calls: unknown[][] = [];
  const note =
    <R>(name: string, result: R) =>
    (...args: unknown[]): R => {
      calls.push([name, ...args.map((a) => (typeof a === 'object' && a !== null && 'text' in a ? a.text : a))]);
      return result;
    };
  const session: CatSession = {
    info: note('info', { connection: null, peer_ended: false, counters: { a: 1 } }),
    join: note('join', 3),
    closeSubflow: note('close', undefined),
    setBackup: note('priority', undefined),
    announce: note('announce', Promise.resolve(7)),
    withdraw: note('withdraw', undefined),
    end: note('end', undefined),
    abort: note('abort', undefined),
  };
  return [session, calls];
}

const say = (session: CatSession, line: string) => runCommand(session, line.split(' '));

test('each command reaches the session with its arguments, and the answer has its result', async (t) => {
  const [session, calls] = recorder();
  t.deepEqual(await say(session, 'info'), { connection: null, peer_ended: false, counters: { a: 1 } });
  t.deepEqual(await say(session, 'join wwan0 192.0.2.1'), { subflow: 3 });
  t.deepEqual(await say(session, 'join wwan0 [2001:db8::1]:7 backup'), { subflow: 3 });
  await say(session, 'close 2');
  await say(session, 'close 2 reset');
  await say(session, 'priority 1 backup');
  await say(session, 'priority 1 normal');
  t.deepEqual(await say(session, 'announce 2001:db8::1'), { address_id: 7 });
  t.deepEqual(await say(session, 'announce 192.0.2.1:80'), { address_id: 7 });
  await say(session, 'withdraw 1 2');
  await say(session, 'end');
  await say(session, 'abort');
  await say(session, 'abort ack');
  t.deepEqual(calls, [
    ['info'],
    ['join', 'wwan0', '192.0.2.1', null, false],
    ['join', 'wwan0', '2001:db8::1', 7, true],
    ['close', 2, 'fin'],
    ['close', 2, 'reset'],
    ['priority', 1, true],
    ['priority', 1, false],
    ['announce', '2001:db8::1', null],
    ['announce', '192.0.2.1', 80],
    ['withdraw', [1, 2]],
    ['end'],
    ['abort', 'rst'],
    ['abort', 'ack'],
  ]);
});

test('a mistake is refused before it reaches the session', async (t) => {
  const [session, calls] = recorder();
  for (const line of [
    'close',
    'close x',
    'close 1 gently',
    'priority 1',
    'priority 1 high',
    'announce',
    'announce nowhere',
    'join wwan0',
    'withdraw',
    'withdraw -1',
    'abort gently',
  ]) {
    await t.throwsAsync(say(session, line), undefined, line);
  }
  t.deepEqual(calls, []);
  const error = await t.throwsAsync(say(session, 'help'));
  for (const command of CAT_COMMANDS) t.true(error!.message.includes(command));
});
