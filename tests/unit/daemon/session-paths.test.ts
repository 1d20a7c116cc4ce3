/** Commands of the path manager on several connections, and what it hears of them. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { JoinOptions, SubflowInfo } from '../../../src/core/engine/api.js';
import { BULK, type LaneIndex, SPARSE } from '../../../src/core/lanes/packet-lane.js';
import { PEER_SAYS } from '../../../src/daemon/session.js';
import { after, SessionPaths } from '../../../src/daemon/session-paths.js';
import { LoopbackConnection } from '../../support/loopback.js';

const SERVER = { address: parseIp('198.51.100.2'), port: 443 };
const WIFI = {
  id: 1,
  name: 'wlan0',
  isUp: true,
  addresses: [parseIp('192.168.1.2')],
  role: 'always',
  priority: 0,
} as const;
const LTE = {
  id: 2,
  name: 'wwan0',
  isUp: true,
  addresses: [parseIp('192.168.2.2')],
  role: 'always',
  priority: 0,
} as const;

class JoiningConnection extends LoopbackConnection {
  override join(_nowUs?: number, options?: JoinOptions): number {
    this.calls.push(`join link ${options!.linkId}${options!.backup === true ? ' backup' : ''}`);
    const id = this.subflows.length;
    this.addSubflow(options!.linkId);
    return id;
  }
  override closeSubflow(_nowUs?: number, id?: number, how?: string): void {
    this.calls.push(`close ${id} ${how}`);
  }
  override setBackup(_nowUs?: number, id?: number, backup?: boolean): void {
    this.calls.push(`setBackup ${id} ${backup}`);
  }
  override setLocalBackup(_nowUs?: number, id?: number, backup?: boolean): void {
    this.calls.push(`setLocalBackup ${id} ${backup}`);
  }
  override onLinkState(_nowUs?: number, linkId?: number, isUp?: boolean): void {
    this.calls.push(`link ${linkId} ${isUp ? 'up' : 'down'}`);
  }
  addSubflow(linkId: number): void {
    const id = this.subflows.length;
    this.subflows.push({ id, linkId, localAddressId: linkId, remoteAddressId: 3 } as unknown as SubflowInfo);
  }
}

class Rig {
  nowUs = 1_000_000;
  dials = 0;
  told = 0;
  readonly forgotten: number[] = [];
  routeless = new Set<number>();
  readonly limits = new Map<number, number>();
  readonly lanes: { lane: LaneIndex; connection: JoiningConnection }[] = [];
  readonly transitions: string[] = [];
  readonly paths = new SessionPaths({
    mode: 'aggregate',
    stallGraceMs: 0,
    nowUs: () => this.nowUs,
    random: () => 0.5,
    after,
    connections: () => this.lanes,
    dial: () => {
      this.dials++;
    },
    cancelDials: () => {},
    hasRoute: (way) => !this.routeless.has(way.linkId),
    congestionOf: () => 'cubic',
    rateLimitOf: (linkId) => this.limits.get(linkId) ?? Number.POSITIVE_INFINITY,
    onForgotten: (connection) => this.forgotten.push(connection.id),
    tellPeer: () => {
      this.told++;
    },
    onTransition: (t) => this.transitions.push(`${t.linkName} ${t.to}`),
    onSettled: () => {},
    flushSoon: () => {},
  });

  start(): void {
    this.paths.handle({ type: 'link-added', link: WIFI });
    this.paths.handle({ type: 'link-added', link: LTE });
    this.paths.handle({ type: 'remote-addresses', remotes: [SERVER] });
  }

  /** A lane's connection over the current way: dialed, and its handshakes done. */
  connect(lane: LaneIndex): JoiningConnection {
    const connection = new JoiningConnection();
    const way = this.paths.currentWay!;
    connection.addSubflow(way.linkId);
    this.paths.onDialed(way, connection);
    this.lanes.push({ lane, connection });
    this.paths.onConnectionUp(connection);
    this.event('subflow-established', connection, 0);
    return connection;
  }

  event(
    type: 'subflow-established' | 'subflow-closed' | 'subflow-stalled' | 'subflow-recovered',
    c: JoiningConnection,
    subflowId: number,
    why = 'test',
  ): void {
    const linkId = c.subflows[subflowId]!.linkId;
    const isPermanent = why === 'reset' || why === 'refused';
    this.paths.onEngineEvent({ type, connectionId: c.id, subflowId, linkId, why, isPermanent, stalledUs: 0 });
  }

  /** Time passes, and the path manager looks at its clock. */
  pass(us: number): void {
    this.nowUs += us;
    this.paths.handle({ type: 'link-news', linkId: LTE.id });
  }

  stateOf(linkId: number): string {
    return this.paths.status().find((p) => p.linkId === linkId)!.state;
  }
}

/** Until a stall that lasts has been taken for one. */
const grace = () => new Promise((resolve) => setTimeout(resolve, 5));

function setUp(t: { teardown(fn: () => void): void }): Rig {
  const rig = new Rig();
  t.teardown(() => rig.paths.close());
  rig.start();
  return rig;
}

test('one path is dialed; once it is up, every connection joins over the other', (t) => {
  const rig = setUp(t);
  t.is(rig.dials, 1);
  t.is(rig.paths.currentWay!.linkId, 1);
  const sparse = rig.connect(SPARSE);
  t.is(rig.stateOf(1), 'active');
  t.deepEqual(sparse.calls, ['join link 2']);
  const bulk = rig.connect(BULK);
  rig.event('subflow-established', sparse, 1);
  t.is(rig.stateOf(2), 'active', 'reported once, with the first');
  t.deepEqual(bulk.calls, ['join link 2']);
});

test('the limit of a link holds for every subflow over it, and for what the server sends there', (t) => {
  const rig = setUp(t);
  rig.limits.set(2, 125_000);
  const sparse = rig.connect(SPARSE);
  const rates = () => [...sparse.limits].map(([id, limit]) => [id, limit?.rateBytesPerS ?? null]);
  t.deepEqual(rates(), [
    [0, null],
    [1, 125_000],
  ]);
  const bulk = rig.connect(BULK);
  t.is(bulk.limits.get(1), sparse.limits.get(1), 'one limit for all connections');
  rig.limits.clear();
  rig.limits.set(1, 250_000);
  const { told } = rig;
  rig.paths.applyRules();
  t.deepEqual(rates(), [
    [0, 250_000],
    [1, null],
  ]);
  t.true(rig.told > told);
});

test('a connection that comes later joins the paths in use', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const bulk = rig.connect(BULK);
  t.deepEqual(bulk.calls, ['join link 2']);
  t.deepEqual(
    rig.paths.policyPaths(() => ({ name: 'x', rateLimitBytesPerS: 0, congestion: '' })).map((p) => p.addressIds),
    [
      [
        { lane: SPARSE, addressId: 1, serverAddressId: 3 },
        { lane: BULK, addressId: 1, serverAddressId: 3 },
      ],
      [
        { lane: SPARSE, addressId: 2, serverAddressId: 3 },
        { lane: BULK, addressId: 2, serverAddressId: 3 },
      ],
    ],
  );
});

test('a connection that waited while its path became a backup would take another now, and is one over a backup', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const way = rig.paths.currentWay!;
  const follower = new JoiningConnection();
  follower.subflows.push({
    id: 0,
    linkId: WIFI.id,
    state: 'established',
    isBackupLocal: false,
    local: { address: WIFI.addresses[0], port: 1 },
    remote: SERVER,
  } as unknown as SubflowInfo);
  t.true(rig.paths.isChosen(way));
  rig.paths.handle({ type: 'link-policy', linkId: WIFI.id, policy: { role: 'backup' } });
  rig.pass(1_000_000);
  t.false(rig.paths.isChosen(way));
  t.is(rig.paths.currentWay!.linkId, LTE.id);
  rig.paths.follow(follower);
  t.deepEqual(follower.calls, ['setBackup 0 true', 'setLocalBackup 0 true', 'join link 2']);
});

test('a path is lost when its last subflow is, and stalled for all when it is for one', async (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const bulk = rig.connect(BULK);
  rig.event('subflow-established', bulk, 1);
  sparse.calls.length = 0;
  rig.event('subflow-stalled', bulk, 1);
  t.deepEqual(sparse.calls, [], 'not at once: it may be a false alarm');
  await grace();
  t.deepEqual(sparse.calls, ['suspect 1: test']);
  t.true(rig.paths.status().find((p) => p.linkId === 2)!.isStalled);
  rig.event('subflow-recovered', bulk, 1);
  t.false(rig.paths.status().find((p) => p.linkId === 2)!.isStalled);

  rig.event('subflow-closed', bulk, 1);
  t.is(rig.stateOf(2), 'active');
  rig.event('subflow-closed', sparse, 1);
  t.not(rig.stateOf(2), 'active');
});

test('a stall that is over at once is told to nobody', async (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const bulk = rig.connect(BULK);
  rig.event('subflow-established', bulk, 1);
  const told = rig.told;
  sparse.calls.length = 0;
  rig.event('subflow-stalled', bulk, 1);
  rig.event('subflow-recovered', bulk, 1);
  await grace();
  t.deepEqual(sparse.calls, []);
  t.is(rig.told, told);
});

test('our own observation is told to the peer; its own word is not told back to it', async (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const stateOf2 = () =>
    rig.paths
      .policyPaths((linkId) => ({ name: String(linkId), rateLimitBytesPerS: 0, congestion: '' }))
      .find((p) => p.name === '2')!.state;
  rig.event('subflow-stalled', sparse, 1);
  await grace();
  t.is(stateOf2(), 'silent');
  rig.event('subflow-recovered', sparse, 1);
  t.is(stateOf2(), 'ok');
  const told = rig.told;
  rig.event('subflow-stalled', sparse, 1, `${PEER_SAYS} wwan0 is silent`);
  await grace();
  t.is(stateOf2(), 'ok');
  t.is(rig.told, told);
});

test('a link that goes down is told to the connections and to the peer', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const told = rig.told;
  rig.paths.handle({ type: 'link-changed', linkId: 1, isUp: false });
  t.true(sparse.calls.includes('link 1 down'));
  t.true(rig.told > told);
  const gone = rig.paths.policyPaths(() => ({ name: '', rateLimitBytesPerS: 0, congestion: '' }))[0]!;
  t.is(gone.state, 'gone');
  rig.paths.handle({ type: 'link-changed', linkId: 1, isUp: true });
  t.true(sparse.calls.includes('link 1 up'));
});

test('a connection whose last subflow was reset tries once to join again; refused, it is given up', async (t) => {
  const rig = setUp(t);
  rig.paths.handle({ type: 'link-removed', linkId: 2 });
  const sparse = rig.connect(SPARSE);
  const bulk = rig.connect(BULK);
  sparse.calls.length = 0;
  rig.event('subflow-closed', sparse, 0, 'reset');
  t.deepEqual(sparse.calls, ['join link 1']);
  rig.event('subflow-closed', sparse, sparse.subflows.length - 1, 'refused');
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(rig.forgotten, [sparse.id]);
  t.is(rig.stateOf(1), 'active', 'the other connection still has it');
  t.is(bulk.calls.length, 0);
});

test('a dial that fails, and a link without a route: the other one is tried', async (t) => {
  const rig = setUp(t);
  rig.routeless.add(2);
  rig.paths.onDialFailed('refused', true);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(rig.dials, 1, 'no dial where there is no route');
  t.deepEqual(
    rig.paths.status().map((p) => p.state),
    ['probing', 'probing'],
  );
});

test('when no connection is left the session starts over', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.lanes.length = 0;
  rig.paths.onConnectionDown(sparse);
  t.is(rig.dials, 2);
});

test('received packets are told to the path manager only where a path waits for a sign of life', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  rig.paths.onReceived(2);
  rig.paths.handle({ type: 'link-changed', linkId: 2, isUp: false });
  rig.paths.handle({ type: 'link-changed', linkId: 2, isUp: true });
  t.is(rig.stateOf(2), 'probing', 'its subflow is suspended');
  rig.paths.onReceived(1);
  t.is(rig.stateOf(2), 'probing');
  rig.paths.onReceived(2);
  t.is(rig.stateOf(2), 'active');
});

test('a path that was about to be given up and is wanted again is not told as going any more', (t) => {
  const rig = setUp(t);
  const sparse = rig.connect(SPARSE);
  rig.event('subflow-established', sparse, 1);
  const states = () =>
    rig.paths.policyPaths(() => ({ name: 'x', rateLimitBytesPerS: 0, congestion: '' })).map((p) => [p.role, p.state]);
  // Beyond the overlap that a path just taken into use has with the one before it.
  rig.nowUs += 10_000_000;
  rig.paths.handle({ type: 'link-policy', linkId: 2, policy: { role: 'never' } });
  t.deepEqual(states()[1], ['backup', 'going']);
  rig.paths.handle({ type: 'link-policy', linkId: 2, policy: { role: 'always' } });
  t.deepEqual(states()[1], ['always', 'returned']);
});

test('a flow that hears nothing on a path: the path is asked, and the peer told; how many flows there are is not', (t) => {
  const rig = setUp(t);
  rig.connect(SPARSE);
  const bulk = rig.connect(BULK);
  rig.event('subflow-established', bulk, 1);
  const flow = new JoiningConnection();
  flow.addSubflow(WIFI.id);
  Object.assign(flow.subflows[0]!, { state: 'established', local: { address: WIFI.addresses[0] }, remote: SERVER });
  const toldBefore = rig.told;
  rig.paths.follow(flow);
  rig.event('subflow-established', flow, 1);
  t.is(rig.told, toldBefore, 'the peer knows our paths by the lanes');
  const silent = { connectionId: flow.id, subflowId: 0, linkId: WIFI.id };
  rig.paths.onEngineEvent({ type: 'subflow-silent', ...silent });
  t.true(flow.calls.some((call) => call.startsWith('suspect 0')));
  const stateOfWifi = () =>
    rig.paths
      .policyPaths((linkId) => ({ name: `link ${linkId}`, rateLimitBytesPerS: 0, congestion: '' }))
      .find((p) => p.name === `link ${WIFI.id}`)?.state;
  t.is(stateOfWifi(), 'silent');
  rig.paths.onEngineEvent({ type: 'subflow-heard', ...silent });
  t.is(stateOfWifi(), 'ok');
  t.is(rig.told, toldBefore + 2);
});
