/**
 * A driver and a world around one path manager, in virtual time: carries out its commands on links that work, are silent or
 * refuse, reports back as an engine would, and checks after every step what must always hold.
 */
import { type IpAddress, parseIp } from '../../../src/core/base/ip.js';
import { PathManager } from '../../../src/core/pathman/manager.js';
import {
  DEFAULT_PATH_CONFIG,
  type LinkRole,
  type PathCommand,
  type PathEvent,
  type PathManagerConfig,
  type PathState,
  type PathStatus,
  type RemoteEndpoint,
} from '../../../src/core/pathman/types.js';

const ANSWER_US = 50_000;
const PROBE_ANSWER_US = 30_000;
const STALL_US = 300_000;
const RTO_PROBE_US = 1_000_000;

/** What a link does to packets of ours, whether it is up or not. */
export type Behaviour = 'works' | 'silent' | 'refuses';

interface WorldLink {
  readonly id: number;
  readonly name: string;
  behaviour: Behaviour;
  isUp: boolean;
  addresses: IpAddress[];
}

interface Subflow {
  readonly pathId: number;
  readonly link: WorldLink;
  readonly address: string;
  isEstablished: boolean;
  isStalled: boolean;
}

export const SERVER: RemoteEndpoint = { address: parseIp('198.51.100.1'), port: 443 };
export const SERVER6: RemoteEndpoint = { address: parseIp('2001:db8::1'), port: 443 };

export function random(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (Math.imul(a, 1664525) + 1013904223) >>> 0;
    return a / 4294967296;
  };
}

export class Rig {
  nowUs = 1_000_000;
  readonly manager: PathManager;
  readonly links = new Map<number, WorldLink>();
  readonly subflows = new Map<number, Subflow>();
  /** Every command and transition so far, one line each. */
  readonly log: string[] = [];
  readonly maxSubflows: number;
  /** What was wrong, first of all. */
  problem: string | null = null;
  attempts = 0;
  isSessionUp = false;
  #events: { at: number; n: number; event: () => void }[] = [];
  #count = 0;
  #overSinceUs = Number.POSITIVE_INFINITY;

  constructor(config: Partial<PathManagerConfig> = {}, seed = 1) {
    const full = { ...DEFAULT_PATH_CONFIG, ...config };
    this.maxSubflows = full.maxSubflows;
    this.manager = new PathManager(full, random(seed));
  }

  // --- what happens in the world -------------------------------------------------------------------------------------

  addLink(
    id: number,
    name: string,
    addresses: string[],
    options: { role?: LinkRole; priority?: number; isUp?: boolean } = {},
  ): this {
    const { role = 'always', priority = 0, isUp = true } = options;
    const link: WorldLink = { id, name, behaviour: 'works', isUp, addresses: addresses.map(parseIp) };
    this.links.set(id, link);
    this.event({ type: 'link-added', link: { id, name, isUp, addresses: link.addresses, role, priority } });
    return this;
  }

  remotes(...remotes: RemoteEndpoint[]): this {
    this.event({ type: 'remote-addresses', remotes });
    return this;
  }

  setUp(id: number, isUp: boolean): this {
    this.links.get(id)!.isUp = isUp;
    this.event({ type: 'link-changed', linkId: id, isUp });
    return this;
  }

  setAddresses(id: number, ...addresses: string[]): this {
    this.links.get(id)!.addresses = addresses.map(parseIp);
    this.event({ type: 'link-changed', linkId: id, addresses: this.links.get(id)!.addresses });
    return this;
  }

  removeLink(id: number): this {
    this.links.get(id)!.isUp = false;
    this.links.delete(id);
    this.event({ type: 'link-removed', linkId: id });
    return this;
  }

  setBehaviour(id: number, behaviour: Behaviour): this {
    const link = this.links.get(id)!;
    link.behaviour = behaviour;
    for (const s of this.subflows.values()) if (s.link === link) this.#notice(s);
    return this;
  }

  loseSession(): this {
    this.subflows.clear();
    this.isSessionUp = false;
    this.event({ type: 'session-lost' });
    return this;
  }

  event(event: PathEvent): this {
    this.manager.handle(this.nowUs, event);
    this.#drain();
    return this;
  }

  run(us: number): this {
    const end = this.nowUs + us;
    for (let step = 0; this.problem === null; step++) {
      if (step > 100_000) {
        this.problem = 'time does not move on';
        break;
      }
      const timer = this.manager.nextDeadline();
      const next = this.#events[0];
      const at = Math.min(timer, next?.at ?? Number.POSITIVE_INFINITY);
      if (at > end) break;
      this.nowUs = Math.max(this.nowUs, at);
      if (next !== undefined && next.at <= timer) {
        this.#events.shift();
        next.event();
      } else {
        this.manager.onTimer(this.nowUs);
        this.#drain();
        if (this.manager.nextDeadline() <= this.nowUs) this.problem = 'a deadline in the past after onTimer';
      }
    }
    this.nowUs = end;
    return this;
  }

  // --- what there is to see ------------------------------------------------------------------------------------------

  paths(): PathStatus[] {
    return this.manager.paths(this.nowUs);
  }

  path(linkName: string): PathStatus {
    const found = this.paths().find((p) => p.linkName === linkName);
    if (found === undefined) throw new Error(`no path over ${linkName}`);
    return found;
  }

  states(): Record<string, PathState> {
    return Object.fromEntries(this.paths().map((p) => [p.linkName, p.state]));
  }

  takeLog(): string[] {
    return this.log.splice(0);
  }

  // --- the driver ----------------------------------------------------------------------------------------------------

  #drain(): void {
    for (let c = this.manager.pollCommand(); c !== undefined; c = this.manager.pollCommand()) {
      this.log.push(this.#describe(c));
      this.#carryOut(c);
    }
    for (let x = this.manager.pollTransition(); x !== undefined; x = this.manager.pollTransition()) {
      if (x.from === x.to) this.problem ??= `a transition from ${x.from} to itself`;
    }
    // One more may be left of an address that is gone, and come back with it; then one of them goes within seconds.
    if (this.subflows.size > this.maxSubflows + 1) this.problem ??= `${this.subflows.size} subflows`;
    const isOver = [...this.subflows.values()].filter((s) => this.#isThere(s)).length > this.maxSubflows;
    if (!isOver) this.#overSinceUs = Number.POSITIVE_INFINITY;
    else this.#overSinceUs = Math.min(this.#overSinceUs, this.nowUs);
    if (this.nowUs - this.#overSinceUs > 20_000_000) this.problem ??= `${this.subflows.size} subflows for long`;
    if (this.manager.paths(this.nowUs).length > 64) this.problem ??= 'more than 64 paths';
  }

  #carryOut(c: PathCommand): void {
    switch (c.type) {
      case 'connect':
      case 'join': {
        this.attempts++;
        if (c.type === 'connect' && this.subflows.size > 0) this.problem ??= 'connect although there is a subflow';
        if (c.type === 'join' && !this.isSessionUp) this.problem ??= 'join before the session is ready';
        const link = this.links.get(c.linkId);
        if (link === undefined || !link.isUp || !link.addresses.some((a) => a.text === c.localAddress.text)) {
          this.problem ??= `${c.type} over what is not there`;
          return;
        }
        if (this.subflows.has(c.pathId)) this.problem ??= 'a second subflow on one path';
        const s = { pathId: c.pathId, link, address: c.localAddress.text, isEstablished: false, isStalled: false };
        this.subflows.set(c.pathId, s);
        this.at(ANSWER_US, () => this.#answer(s));
        return;
      }
      case 'close': {
        const s = this.subflows.get(c.pathId);
        if (s === undefined) {
          this.problem ??= 'close of what does not exist';
          return;
        }
        if (c.how === 'reset') this.subflows.delete(c.pathId);
        else this.at(ANSWER_US, () => this.#isThrough(s) && this.#end(s, 'done'));
        return;
      }
      case 'link-state':
        for (const s of this.subflows.values()) if (s.link.id === c.linkId) this.#notice(s, PROBE_ANSWER_US);
        return;
      case 'set-backup':
      case 'suspect':
        if (!this.subflows.has(c.pathId)) this.problem ??= `${c.type} for what does not exist`;
        return;
      case 'tell-peer':
    }
  }

  #answer(s: Subflow): void {
    if (this.subflows.get(s.pathId) !== s) return;
    if (s.link.behaviour === 'silent' || !s.link.isUp) return;
    if (s.link.behaviour === 'refuses') {
      this.subflows.delete(s.pathId);
      this.event({ type: 'join-failed', pathId: s.pathId, reason: 'refused', isTransient: false });
      return;
    }
    s.isEstablished = true;
    this.event({ type: 'join-established', pathId: s.pathId });
    if (!this.isSessionUp) {
      this.at(ANSWER_US, () => {
        if (!this.isSessionUp && this.subflows.size > 0) {
          this.isSessionUp = true;
          this.event({ type: 'session-ready' });
        }
      });
    }
  }

  /** A subflow notices after a while that its link has died or lives again. */
  #notice(s: Subflow, answerUs = RTO_PROBE_US): void {
    if (!s.isEstablished) return;
    const isThrough = this.#isThrough(s);
    this.at(isThrough ? answerUs : STALL_US, () => {
      if (this.subflows.get(s.pathId) !== s || this.#isThrough(s) !== isThrough) return;
      if (isThrough) {
        s.isStalled = false;
        this.event({ type: 'subflow-recovered', pathId: s.pathId });
      } else if (!s.isStalled) {
        s.isStalled = true;
        this.event({ type: 'subflow-stalled', pathId: s.pathId });
      }
    });
  }

  #isThrough(s: Subflow): boolean {
    return this.#isThere(s) && s.link.isUp && s.link.behaviour !== 'silent';
  }

  #isThere(s: Subflow): boolean {
    return this.links.get(s.link.id) === s.link && s.link.addresses.some((a) => a.text === s.address);
  }

  #end(s: Subflow, why: string): void {
    if (this.subflows.get(s.pathId) !== s) return;
    this.subflows.delete(s.pathId);
    this.event({ type: 'subflow-closed', pathId: s.pathId, why });
  }

  at(us: number, event: () => void): void {
    this.#events.push({ at: this.nowUs + us, n: this.#count++, event });
    this.#events.sort((a, b) => a.at - b.at || a.n - b.n);
  }

  #describe(c: PathCommand): string {
    const name = (pathId: number) => this.paths().find((p) => p.id === pathId)?.linkName ?? `path ${pathId}`;
    switch (c.type) {
      case 'connect':
        return `connect ${name(c.pathId)}`;
      case 'join':
        return `join ${name(c.pathId)}${c.backup ? ' as backup' : ''}`;
      case 'close':
        return `close ${name(c.pathId)} ${c.how}`;
      case 'set-backup':
        return `set-backup ${name(c.pathId)} ${c.backup}`;
      case 'link-state':
        return `link-state ${this.links.get(c.linkId)?.name ?? c.linkId} ${c.isUp ? 'up' : 'down'}`;
      case 'suspect':
        return `suspect ${name(c.pathId)}`;
      case 'tell-peer':
        return `tell-peer ${name(c.pathId)} ${c.wish.what}${c.wish.what === 'role' ? ` ${c.wish.role}` : ''}`;
    }
  }
}

/** WiFi and LTE, both always, to one server. */
export function twoLinks(config: Partial<PathManagerConfig> = {}, lteRole: LinkRole = 'always'): Rig {
  return new Rig(config)
    .addLink(1, 'wifi', ['192.0.2.10'])
    .addLink(2, 'lte', ['203.0.113.20'], { role: lteRole, priority: 1 })
    .remotes(SERVER);
}
