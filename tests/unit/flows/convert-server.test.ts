/** The server's converter (daemon/flows/convert-server.ts) on an engine in virtual time: who may use it, and reach what. */
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { parsePrefix } from '../../../src/config/prefix.js';
import type { ConverterConfig, EgressConfig, Prefix } from '../../../src/config/types.js';
import { type IpAddress, parseIp } from '../../../src/core/base/ip.js';
import { ConvertClient, type ConvertOutcome, type ConvertRequest } from '../../../src/core/convert/client.js';
import { NO_BYTES } from '../../../src/core/convert/message.js';
import { ConvertServer } from '../../../src/daemon/flows/convert-server.js';
import { CLIENT, CONVERTER, EGRESS, Row, SERVER, SERVER_PORT } from '../../support/converter-sim.js';

const PORT = 5124;
const S = 1_000_000;
const MPTCP = [{ kind: 30, value: NO_BYTES }];
const prefixes = (...texts: string[]): Prefix[] => texts.map((text) => parsePrefix(text)!);

const CONFIG: ConverterConfig = {
  listen: { port: PORT },
  clients: prefixes('10.0.0.0/16'),
  trusted: prefixes('10.0.0.0/16'),
  cookie: 'none',
  cookies: [],
  silentWithoutCookie: false,
  plainSyns: false,
  maxConnections: 100,
  maxPerClient: 50,
};
const EGRESS_CONFIG: EgressConfig = {
  masquerade: false,
  interface: null,
  deny: prefixes('10.0.0.0/8', '192.168.0.0/16'),
  allow: prefixes('10.8.0.0/24'),
};

class Setup {
  readonly row = new Row({ nearUs: 10_000, farUs: 5_000 });
  readonly server: ConvertServer;
  readonly released: number[] = [];
  private nextPort = 30_000;

  constructor(public convert: Partial<ConverterConfig> = {}) {
    const { row } = this;
    const acquire = (port: number) => ({ port, release: () => void this.released.push(port) });
    this.server = new ConvertServer(
      {
        engine: row.converter.engine,
        config: () => ({ convert: { ...CONFIG, ...this.convert }, egress: EGRESS_CONFIG }),
        connectionSettings: () => ({}),
        nowUs: () => row.converter.nowUs,
        flushSoon: () => row.converter.poke(),
        acquirePort: (port) => acquire(port === 0 ? this.nextPort++ : port),
        guarded: () => Promise.resolve(),
        routeTo: (address) => (address.text.startsWith('10.8.') ? { linkId: 1, localAddress: EGRESS } : null),
        ownAddresses: () => [CONVERTER, EGRESS],
      },
      PORT,
    );
    row.converter.onEvent = (_nowUs, event) => this.server.onEngineEvent(event);
    row.serve({
      mptcp: false,
      onAccept: (c) => c.setReader({ onBytes: (_buf, _offset, n) => n, onEnd: () => undefined }),
    });
  }

  /** What the converter answers; the connection stays where it is good. */
  async ask(request: Partial<ConvertRequest> = {}, from: IpAddress = CLIENT[0]): Promise<ConvertOutcome | null> {
    const { row } = this;
    const client = new ConvertClient({ remote: { address: SERVER, port: SERVER_PORT }, options: MPTCP, ...request });
    const c = row.connect({
      linkId: CLIENT.findIndex(({ text }) => text === from.text),
      localAddress: from,
      remote: { address: CONVERTER, port: PORT },
      synData: client.request,
    });
    c.setReader({
      onBytes: (buf, offset, n) => {
        const taken = client.onBytes(buf, offset, n);
        if (client.outcome?.is === 'failed') c.abort(row.client.nowUs);
        return taken;
      },
      onEnd: () => client.onEnd(),
    });
    for (let i = 0; i < 20 && client.outcome === null; i++) {
      row.network.run(row.network.nowUs + S / 20);
      await turn();
    }
    row.network.run(row.network.nowUs + S / 10);
    return client.outcome;
  }

  /** Why it was refused. */
  async refusal(request: Partial<ConvertRequest> = {}, from?: IpAddress): Promise<string> {
    const outcome = await this.ask(request, from);
    return outcome?.is === 'failed' ? outcome.failure.why : `${outcome?.is}`;
  }
}

test('a client is connected, counted and let go', async (t) => {
  const setup = new Setup();
  t.is(await setup.refusal(), 'connected');
  t.is(setup.server.flows().length, 1);
  t.is(setup.server.counters.convert_connected, 1);
  setup.server.close();
  t.is(setup.server.flows().length, 0);
  t.true(setup.released.includes(PORT));
});

test('clients that are not configured, and after a reload those that are not any more', async (t) => {
  const setup = new Setup({ clients: prefixes('10.0.1.0/24') });
  t.is(await setup.refusal({}, CLIENT[0]), 'connected');
  t.is(await setup.refusal({}, CLIENT[1]), 'not-authorized');
  setup.convert = { clients: prefixes('10.0.2.0/24') };
  setup.server.reload();
  t.is(await setup.refusal({}, CLIENT[0]), 'not-authorized');
  t.is(await setup.refusal({}, CLIENT[1]), 'connected');
  setup.server.close();
});

test('own and denied addresses are not reached, others only where a link leads', async (t) => {
  const setup = new Setup();
  const to = (text: string) => setup.refusal({ remote: { address: parseIp(text), port: 80 } });
  t.is(await to(CONVERTER.text), 'not-authorized');
  t.is(await to(EGRESS.text), 'not-authorized');
  t.is(await to('10.7.0.1'), 'not-authorized');
  t.is(await to('::ffff:192.168.1.1'), 'not-authorized');
  t.is(await to('203.0.113.1'), 'network-failure');
  setup.server.close();
});

test('so many connections of one client, and so many in all', async (t) => {
  const setup = new Setup({ maxPerClient: 2, maxConnections: 3 });
  t.is(await setup.refusal({}, CLIENT[0]), 'connected');
  t.is(await setup.refusal({}, CLIENT[0]), 'connected');
  t.deepEqual(await setup.ask({}, CLIENT[0]), { is: 'failed', failure: { why: 'exhausted', waitS: 5 } });
  t.is(await setup.refusal({}, CLIENT[1]), 'connected');
  t.is(await setup.refusal({}, CLIENT[1]), 'exhausted');
  setup.server.close();
});

test('a computed cookie: told, then asked for, bound to the address', async (t) => {
  const setup = new Setup({ cookie: 'computed', trusted: [] });
  const outcome = await setup.ask();
  if (outcome?.is !== 'failed' || outcome.failure.why !== 'missing-cookie') throw new Error(`${outcome?.is}`);
  const { cookie } = outcome.failure;
  t.is(await setup.refusal({ cookie }), 'connected');
  t.is(await setup.refusal({ cookie }, CLIENT[1]), 'not-authorized');
  setup.server.close();
});

test('Info is answered, with Multipath TCP among the extensions', async (t) => {
  const setup = new Setup();
  t.deepEqual(await setup.ask({ remote: null }), { is: 'informed', supportedKinds: [4, 8, 30, 34] });
  setup.server.close();
});
