/** The way 'convert' against a converter in virtual time (support/converter-sim.ts). */
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import type { ConvertConfig } from '../../../src/config/types.js';
import { ComputedCookies } from '../../../src/core/convert/cookies.js';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { ConnectionDuplex } from '../../../src/daemon/duplex.js';
import type { DialError, FlowDialer, FlowOutbound, FlowTarget } from '../../../src/daemon/flows/contract.js';
import { ConvertDialer } from '../../../src/daemon/flows/convert-client.js';
import { CLIENT, CONVERTER, CONVERTER_PORT, Row, SERVER, SERVER_PORT } from '../../support/converter-sim.js';
import { nodeEnv } from '../../support/node-env.js';

const MS = 1_000;
const S = 1_000_000;
const NEAR_US = 20 * MS;
const FAR_US = 5 * MS;
const RTT_US = 2 * (NEAR_US + FAR_US);
const TARGET: FlowTarget = { host: SERVER.text, port: SERVER_PORT, address: SERVER, source: null };
const CONFIG: ConvertConfig = { server: CONVERTER.text, port: CONVERTER_PORT, cookie: null, synData: true };

/** A dialer on the client of the row, and what it asked of the direct way. */
function dialerOn(row: Row, config: Partial<ConvertConfig> = {}, direct?: FlowDialer['dial']) {
  const dialed: ConnectionApi[] = [];
  const dialer = new ConvertDialer(
    {
      nowUs: () => row.client.nowUs,
      flushSoon: () => row.client.poke(),
      links: () =>
        CLIENT.map((address, id) => ({
          id,
          name: `l${id}`,
          isUp: true,
          addresses: [address],
          role: 'always',
          priority: id,
        })),
      pathMode: () => 'handover',
      hasRoute: () => true,
      congestionOf: () => 'cubic',
      rateLimitOf: () => Number.POSITIVE_INFINITY,
      connect: async (wayNow, syn) => {
        const way = wayNow();
        if (way === null) return null;
        const { linkId, localAddress, remote } = way;
        const api = row.connect({ linkId, localAddress, remote, ...syn?.(way) });
        dialed.push(api);
        return { way, api };
      },
      openStream: (connection) =>
        new ConnectionDuplex(connection, { nowUs: () => row.client.nowUs, flushSoon: () => row.client.poke() }),
    },
    {
      config: () => ({ ...CONFIG, ...config }),
      serverAddress: () => CONVERTER,
      direct: {
        way: 'direct',
        dial: direct ?? (() => Promise.reject(new Error('not asked for'))),
      },
    },
  );
  row.client.onEvent = (_nowUs, event) => dialer.onEngineEvent(event);
  return { dialer, dialed };
}

/** Lets virtual time pass until the promise is settled; what it came to, and when. */
async function settled<T>(row: Row, promise: Promise<T>, limitUs = 60 * S) {
  let result: { value: T } | { error: DialError } | null = null;
  promise.then(
    (value) => (result = { value }),
    (error) => (result = { error }),
  );
  const endUs = row.network.nowUs + limitUs;
  for (;;) {
    for (let i = 0; i < 3; i++) await turn();
    if (result !== null || row.network.nowUs >= endUs) break;
    row.network.run(row.network.nowUs + MS);
  }
  if (result === null) throw new Error('not settled');
  return result as { value?: T; error?: DialError };
}

const dial = (row: Row, dialer: ConvertDialer, signal = new AbortController().signal) =>
  settled(row, dialer.dial(TARGET, signal));

function serve(row: Row, mptcp = false) {
  const heard: string[] = [];
  row.serve({
    mptcp,
    onAccept: (c) => {
      const at = heard.push('') - 1;
      c.setReader({
        onBytes: (buf, offset, n) => {
          heard[at] += Buffer.from(buf.subarray(offset, offset + n)).toString();
          c.write(row.server.nowUs, Buffer.from(`${n};`));
          return n;
        },
        onEnd: () => c.end(row.server.nowUs),
      });
    },
  });
  return heard;
}

async function converse(row: Row, { stream }: FlowOutbound, text: string): Promise<string> {
  let answer = '';
  stream.on('data', (chunk: Buffer) => (answer += chunk.toString()));
  stream.end(text);
  await settled(row, once(stream, 'end'));
  return answer;
}

test('the destination answers after one round trip, and the bytes behind the answer are the flow’s', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const heard = serve(row);
  const { dialer } = dialerOn(row);
  const { value } = await dial(row, dialer);
  t.is(value!.way, 'convert');
  t.true(value!.connection.isMptcp);
  t.true(row.network.nowUs <= RTT_US + 2 * MS, `${row.network.nowUs}`);
  t.is(await converse(row, value!, 'hello'), '5;');
  t.deepEqual(heard, ['hello']);
  dialer.close();
});

test('in the stream where the SYN may carry nothing', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { answersPlainSyns: true } });
  serve(row);
  const { dialer, dialed } = dialerOn(row, { synData: false });
  const { value } = await dial(row, dialer);
  t.is(await converse(row, value!, 'hello'), '5;');
  t.is(dialed[0]!.synBytesAcked, -1);
  dialer.close();
});

test('a cookie is asked for once, kept, and sent from then on', async (t) => {
  const cookies = new ComputedCookies(nodeEnv);
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { cookies, isTrusted: () => false } });
  serve(row);
  const { dialer } = dialerOn(row);
  t.is((await dial(row, dialer)).value?.way, 'convert');
  t.deepEqual(row.steps, ['cookie-missing', 'dial', 'connected']);
  t.is((await dial(row, dialer)).value?.way, 'convert');
  t.deepEqual(row.steps.slice(3), ['dial', 'connected']);
  dialer.close();
});

test('an error has the connection reset, and the application is told what it says', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  const { dialer } = dialerOn(row);
  const { error } = await dial(row, dialer);
  t.is(error?.failure, 'refused');
  row.network.run(row.network.nowUs + S);
  t.is(row.ends.length, 1);
  t.regex(row.ends[0]!, /fast ?close|reset/i);
  dialer.close();
});

test('a destination that is forbidden, and one that cannot be reached', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { mayReach: () => false } });
  const { dialer } = dialerOn(row);
  t.is((await dial(row, dialer)).error?.failure, 'denied');
  dialer.close();
});

test('a converter without room is left alone for as long as it says', async (t) => {
  let isFull = true;
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, policy: { hasRoom: () => !isFull, retryAfterS: 7 } });
  serve(row);
  const { dialer, dialed } = dialerOn(row);
  t.is((await dial(row, dialer)).error?.failure, 'unavailable');
  const toldUs = row.network.nowUs;
  isFull = false;
  row.network.run(toldUs + 6 * S);
  t.regex((await dial(row, dialer)).error!.message, /left alone: exhausted/);
  t.is(dialed.length, 1);
  row.network.run(toldUs + 8 * S);
  t.is((await dial(row, dialer)).value?.way, 'convert');
  dialer.close();
});

test('a SYN/ACK that does not acknowledge the message: this converter is not used on this network', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US, onSyn: () => 'answer' });
  serve(row);
  const { dialer, dialed } = dialerOn(row);
  t.regex((await dial(row, dialer)).error!.message, /takes the data out of SYNs/);
  row.network.run(row.network.nowUs + 60 * S);
  t.regex((await dial(row, dialer)).error!.message, /left alone/);
  t.is(dialed.length, 1);
  dialer.handle({ type: 'link-changed', linkId: 0, isUp: true });
  await dial(row, dialer);
  t.is(dialed.length, 2);
  dialer.close();
});

test('to a server that has shown MPTCP the next flow goes directly, as long as that is so', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  serve(row, true);
  let isThere = true;
  const straight = { way: 'direct', connection: { isMptcp: true } } as FlowOutbound;
  const { dialer, dialed } = dialerOn(row, {}, () =>
    isThere ? Promise.resolve(straight) : Promise.reject(new Error('no way')),
  );
  t.is((await dial(row, dialer)).value?.way, 'convert');
  t.is((await dial(row, dialer)).value, straight);
  t.is(dialed.length, 1);
  isThere = false;
  t.is((await dial(row, dialer)).value?.way, 'convert');
  t.is(dialed.length, 2);
  dialer.close();
});

test('a converter that resets the connection instead of answering', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: 10 * S, policy: { isTrusted: () => false } });
  const { dialer } = dialerOn(row);
  const promise = dialer.dial(TARGET, new AbortController().signal);
  await turn();
  row.network.run(S);
  t.is(row.sessions.size, 1);
  for (const session of row.sessions) session.abort();
  row.converter.poke();
  const { error } = await settled(row, promise, 2 * S);
  t.is(error?.failure, 'unavailable');
  t.regex(error!.message, /no-answer/);
  dialer.close();
});

test('a dial that is given up closes what it has opened', async (t) => {
  const row = new Row({ nearUs: NEAR_US, farUs: FAR_US });
  serve(row);
  const { dialer, dialed } = dialerOn(row);
  const stop = new AbortController();
  const promise = dialer.dial(TARGET, stop.signal);
  await turn();
  row.network.run(NEAR_US);
  stop.abort();
  t.is((await settled(row, promise)).error?.failure, 'unavailable');
  t.is(dialed[0]!.state, 'closed');
  dialer.close();
});
