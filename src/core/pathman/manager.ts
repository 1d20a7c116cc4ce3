/**
 * The path manager of one session (DESIGN 3.4): events in, commands out, no clock and no I/O of its own.
 *
 * It is level-triggered: an event only changes facts (a link is up, a subflow stalled), and then `#settle` makes the paths
 * follow the facts, always in the same order: deadlines, which paths exist, which are possible, attempts, who carries data,
 * what can be forgotten. So no event can be missed for good, and any order of events ends in the same place.
 *
 * The rules are in facts.ts (events), lifecycle.ts, attempts.ts and carriers.ts (consequences); what they share is orders.ts.
 *
 * Driver: handle() or onTimer(), then pollCommand() until undefined, then re-arm at nextDeadline().
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { attempt, trim } from './attempts.js';
import { chooseCarriers } from './carriers.js';
import { isNews, take } from './facts.js';
import { expire, forget, isCooling, reach } from './lifecycle.js';
import { PathOrders } from './orders.js';
import { statusOf } from './status.js';
import { COOL_US, STALL_REPLACE_US } from './timing.js';
import type { PathCommand, PathEvent, PathManagerConfig, PathStatus, PathTransition, RemoteEndpoint } from './types.js';

export class PathManager {
  readonly #orders: PathOrders;
  #settledUs: Micros = Number.NEGATIVE_INFINITY;

  /** `random` is uniform in [0, 1). */
  constructor(config: PathManagerConfig, random: () => number) {
    this.#orders = new PathOrders(config, random);
  }

  handle(nowUs: Micros, event: PathEvent): void {
    // These come by the thousand and seldom mean anything.
    if (event.type === 'packet-received' && !isNews(this.#orders, event.linkId)) return;
    take(this.#orders, nowUs, event);
    this.#settle(nowUs);
  }

  onTimer(nowUs: Micros): void {
    this.#settle(nowUs);
  }

  /** When onTimer has something to do; NEVER if nothing is pending. Always later than the last call's time. */
  nextDeadline(): Micros {
    let next = NEVER;
    const consider = (us: Micros) => {
      if (us > this.#settledUs && us < next) next = us;
    };
    consider(this.#orders.saturatedUntilUs);
    consider(this.#orders.restAtUs);
    for (const us of this.#orders.saturatedLinks.values()) consider(us);
    for (const path of this.#orders.table.all()) {
      consider(path.deadlineUs);
      if (path.state === 'blocked' || (path.state === 'probing' && !path.hasSubflow)) consider(path.retryAtUs);
      if (isCooling(path)) consider(path.stateSinceUs + COOL_US);
      if (path.isStalled) consider(path.stalledSinceUs + STALL_REPLACE_US);
    }
    return next;
  }

  pollCommand(): PathCommand | undefined {
    return this.#orders.outbox.nextCommand();
  }

  /** Changes of state since the last call, oldest first. */
  pollTransition(): PathTransition | undefined {
    return this.#orders.outbox.nextTransition();
  }

  /** Best first. */
  paths(nowUs: Micros): PathStatus[] {
    const { table } = this.#orders;
    const all = table.ordered([...table.all()]);
    return all.map((path) => statusOf(path, nowUs, table.roleOf(path), table.fading.has(path.link.id), all));
  }

  linkIds(): IterableIterator<number> {
    return this.#orders.table.links.keys();
  }

  /** True if a packet from this link would be news (`packet-received`): somebody waits for a sign of life there. */
  awaits(linkId: number): boolean {
    return isNews(this.#orders, linkId);
  }

  pathIdOf(linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): number | undefined {
    return this.#orders.table.byAddresses(linkId, localAddress, remote)?.id;
  }

  /** Consequences of the facts, the same ones however often it is called. */
  #settle(nowUs: Micros): void {
    const m = this.#orders;
    this.#settledUs = nowUs;
    for (const path of m.table.all()) expire(m, nowUs, path);
    m.table.matchAddresses();
    for (const path of m.table.all()) reach(m, nowUs, path);
    if (m.config.side === 'client') {
      trim(m, nowUs);
      attempt(m, nowUs);
    }
    chooseCarriers(m, nowUs);
    forget(m);
  }
}
