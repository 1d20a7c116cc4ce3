/**
 * The client's flow lane without the rest of the client: a TUN that takes 198.51.100.0/24 and 2001:db8::/32, the rules of the
 * test, and the way `direct` over real links. The thread that makes one lives in the application's namespace from then on: its
 * own sockets are the applications.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { PathLink } from '../../src/core/pathman/types.js';
import { Driver, nodeEnv } from '../../src/daemon/driver.js';
import type { FlowDecision, FlowDialer, FlowTarget, FlowWay } from '../../src/daemon/flows/contract.js';
import { DirectDialer } from '../../src/daemon/flows/direct.js';
import { FlowLane } from '../../src/daemon/flows/flow-lane.js';
import { TunLoop } from '../../src/daemon/tun-loop.js';
import { openTun, Rtnetlink, type TunDevice } from '../../src/native/index.js';
import { enterNamespace } from '../../src/native/netns.js';
import type { TestNamespace } from './netns.js';

export const TUN_MTU_BYTES = 1500;

export class FlowClient {
  readonly driver: Driver;
  readonly lane: FlowLane;
  readonly direct: DirectDialer;
  readonly tun: TunDevice;
  readonly rt: Rtnetlink;
  /** Packets that the flow lane left alone. */
  packetsLeft = 0;
  decide: (target: FlowTarget) => FlowDecision = () => ({ way: 'direct', mode: 'auto' });
  readonly dialers = new Map<FlowWay, FlowDialer>();
  private readonly links: PathLink[] = [];
  private readonly loop: TunLoop;

  constructor(
    readonly ns: TestNamespace,
    linkNames: readonly string[],
  ) {
    enterNamespace(ns.name);
    this.rt = new Rtnetlink();
    this.tun = openTun({ name: 'mtT0', mode: 'tun', vnetHeader: true });
    ns.ip('link', 'set', 'mtT0', 'up', 'mtu', String(TUN_MTU_BYTES), 'txqueuelen', '4000');
    ns.ip('addr', 'add', '192.0.2.1/32', 'dev', 'mtT0');
    ns.ip('addr', 'add', '2001:db8:ffff::1/128', 'dev', 'mtT0');
    ns.ip('route', 'add', '198.51.100.0/24', 'dev', 'mtT0', 'src', '192.0.2.1');
    ns.ip('-6', 'route', 'add', '2001:db8::/48', 'dev', 'mtT0', 'src', '2001:db8:ffff::1', 'metric', '1');
    this.driver = new Driver(
      'flowtest',
      {},
      {
        onEvent: (event) => this.direct.onEngineEvent(event),
        onFlushed: () => this.lane.onEngineFlushed(),
        onReceived: (linkId) => this.direct.onReceived(linkId),
        onProblem: (message) => {
          throw new Error(message);
        },
      },
    );
    for (const name of linkNames) {
      const { index } = this.rt.link(name)!;
      const addresses = this.addressesOf(name);
      this.driver.openLink({ id: index, name, mtuBytes: 1500, addresses, isUp: true });
      this.links.push({ id: index, name, isUp: true, addresses, role: 'always', priority: 0 });
    }
    this.direct = new DirectDialer({
      nowUs: () => this.driver.nowUs(),
      flushSoon: () => this.driver.flushSoon(),
      links: () => this.links,
      pathMode: () => 'aggregate',
      hasRoute: (linkId, remote, local) => this.rt.nextHop(linkId, remote, local) !== null,
      congestionOf: () => 'cubic',
      rateLimitOf: () => Number.POSITIVE_INFINITY,
      openStream: (connection) => this.driver.openStream(connection),
      connect: async (wayNow) => {
        const guard = this.driver.acquirePort(0);
        await this.driver.guarded();
        const way = wayNow();
        if (way === null) return null;
        const { linkId, localAddress, remote } = way;
        const api = this.driver.engine.connect(this.driver.nowUs(), {
          linkId,
          localAddress,
          localPort: guard.port,
          remote,
        });
        this.driver.flushSoon();
        return { way, api };
      },
    });
    this.dialers.set('direct', this.direct);
    this.lane = new FlowLane({
      env: nodeEnv,
      tun: this.tun,
      mtuBytes: TUN_MTU_BYTES,
      rules: { decide: (target) => this.decide(target) },
      nowUs: () => this.driver.nowUs(),
      dialer: (way) => (way === 'packet' ? undefined : this.dialers.get(way)),
      onDelivered: () => {},
      schedulerOf: () => 'adaptive',
    });
    this.loop = new TunLoop(
      this.tun,
      (batch) => {
        const nowUs = this.driver.nowUs();
        for (let i = 0; i < batch.count; i++) if (!this.lane.onPacket(nowUs, batch, i)) this.packetsLeft++;
      },
      () => this.lane.flush(),
    );
  }

  close(): void {
    this.lane.close();
    this.direct.close();
    this.loop.close();
    this.driver.close();
    this.tun.close();
    this.rt.close();
  }

  private addressesOf(name: string) {
    const [{ addr_info }] = JSON.parse(this.ns.ip('-j', 'addr', 'show', 'dev', name)) as [
      { addr_info: { local: string; scope: string }[] },
    ];
    return addr_info.filter((a) => a.scope === 'global').map((a) => parseIp(a.local));
  }
}
