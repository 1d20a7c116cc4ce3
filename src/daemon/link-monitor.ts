/**
 * The host's links as the tunnel sees them: interfaces that a path rule of the configuration takes, kept up to date by
 * rtnetlink, NetworkManager and the radio. Level-triggered: a notification only says that it is time to look, and what is
 * told on is the difference between two looks, so that a DHCP renewal is nothing, and lost notifications (ENOBUFS) cost
 * one look. What a look cannot show, because it was over before (a carrier that flapped), is told as news.
 */
import type { PathRule } from '../config/types.js';
import {
  type Neighbour,
  type NetlinkEvent,
  NetlinkMonitor,
  type NetlinkTopic,
  NUD_FAILED,
  NUD_VALID,
  type Rtnetlink,
} from '../native/index.js';
import type { FedLink, HostFeed } from './host-feed.js';
import type { LinkFacts } from './link-facts.js';
import { matchRule } from './link-match.js';
import { isForwarding, readFacts, routeKey } from './link-reader.js';
import { type DeviceFacts, readDevice } from './link-type.js';
import { NetworkManager, type NmcliHost } from './network-manager.js';
import { type RadioReading, RESTLESS_SAMPLE_MS, SAMPLE_MS, type SignalSource } from './signal.js';

/** A link that a rule takes (if only to say `never`), and the rule. */
export interface HostLink extends LinkFacts {
  readonly rule: PathRule;
}

export type LinkChange = { readonly before: HostLink | null; readonly after: HostLink | null };

/** A link that no rule takes. */
export interface LeftOutLink {
  readonly name: string;
  readonly type: LinkFacts['type'];
  readonly why: string;
}

/** What happened to a link that looks as before, and may let packets through that did not get through until now. */
export type LinkNews = 'carrier' | 'address' | 'route' | 'neighbour' | 'events-lost';

export interface LinkEvents {
  /** Not called for what is there at first: read `links`. */
  onChange(change: LinkChange): void;
  onNews?(link: HostLink, news: LinkNews): void;
  /** Every SAMPLE_MS, for each link that is up; null: its signal is not known (now). */
  onSignal?(link: HostLink, signalDbm: number | null): void;
  /** After that: whether the next sample of it should come sooner (RESTLESS_SAMPLE_MS). */
  isRestless?(link: HostLink): boolean;
}

export interface LinkMonitorOptions {
  readonly rt: Rtnetlink;
  readonly rules: readonly PathRule[];
  /** The tunnel's own device, which is never a link. */
  readonly ownTun: string;
  /** A server answers wherever it is asked, on a bridge as well, and has no need of routes, radio or NetworkManager. */
  readonly side: 'client' | 'server';
  readonly signal?: SignalSource | null;
  readonly nmcli?: NmcliHost | null;
  readonly feed?: HostFeed | null;
  readonly deviceOf?: (name: string) => DeviceFacts;
  /** Whether packets to the peer have a way out over a link that is up otherwise. Default: yes. */
  readonly hasRoute?: (link: LinkFacts) => boolean;
}

const TOPICS: Readonly<Record<LinkMonitorOptions['side'], readonly NetlinkTopic[]>> = {
  client: ['link', 'address', 'route', 'neighbour'],
  server: ['link', 'address'],
};

export class LinkMonitor {
  readonly #options: LinkMonitorOptions;
  readonly #netlink: NetlinkMonitor;
  readonly #manager: NetworkManager | null;
  #sampler: NodeJS.Timeout | null = null;
  #rules: readonly PathRule[];
  #current = new Map<number, HostLink>();
  #leftOut: LeftOutLink[] = [];
  /** Routes over links (routeKey), to know a new one from one that is only refreshed. */
  #routes: ReadonlySet<string> = new Set();
  /** Gateways of default routes: `index address`, with what the kernel said of them last. */
  #gateways = new Map<string, { mac: string; hasFailed: boolean }>();
  readonly #news = new Map<number, LinkNews>();
  #isScheduled = false;
  #isClosed = false;

  /** Follows the namespace in which it is made. */
  constructor(
    options: LinkMonitorOptions,
    private readonly events: LinkEvents,
  ) {
    this.#options = options;
    this.#rules = options.rules;
    this.#netlink = new NetlinkMonitor(TOPICS[options.side], (event) => this.#onNetlink(event));
    this.#manager = options.nmcli == null ? null : new NetworkManager(options.nmcli, () => this.#schedule());
    this.#current = this.#read();
    if (options.signal != null || options.feed != null) this.#sampleIn(SAMPLE_MS);
  }

  get links(): readonly HostLink[] {
    return [...this.#current.values()];
  }

  link(id: number): HostLink | null {
    return this.#current.get(id) ?? null;
  }

  /** Links that no rule takes, and why. Loopback and the tunnel's own device are not worth mentioning. */
  get leftOut(): readonly LeftOutLink[] {
    return this.#leftOut;
  }

  /** Other path rules (reload, command). */
  setRules(rules: readonly PathRule[]): void {
    this.#rules = rules;
    this.#update();
  }

  /** Looks at everything afresh, as after lost notifications: the host was asleep. */
  reread(): void {
    for (const id of this.#current.keys()) this.#news.set(id, 'events-lost');
    this.#update();
  }

  /** Looks again: what `hasRoute` says may be different. */
  look(): void {
    this.#update();
  }

  /** One look at the radio and at what is fed. */
  sample(): void {
    const { feed, signal } = this.#options;
    const wasFed = feed?.current;
    feed?.refresh();
    if (feed?.current !== wasFed) this.#update();
    for (const link of this.#current.values()) {
      if (link.type !== 'wifi' || !link.hasCarrier) continue;
      const silent = { ...link, signalDbm: null };
      const reading = overlay(silent, signal?.read(link) ?? null, feed?.current.links[link.name]);
      if (reading.ssid !== link.ssid || reading.whyVirtual !== link.whyVirtual) {
        this.#update();
        break;
      }
      this.#current.set(link.id, { ...link, signalDbm: reading.signalDbm });
    }
    for (const link of this.links) {
      if (link.isUp) this.events.onSignal?.(link, link.signalDbm);
    }
  }

  #sampleIn(ms: number): void {
    this.#sampler = setTimeout(() => {
      this.sample();
      const isRestless = this.links.some((link) => link.isUp && this.events.isRestless?.(link) === true);
      if (!this.#isClosed) this.#sampleIn(isRestless ? RESTLESS_SAMPLE_MS : SAMPLE_MS);
    }, ms);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#sampler !== null) clearTimeout(this.#sampler);
    this.#netlink.close();
    this.#manager?.close();
    this.#options.signal?.close();
  }

  // ---- Notifications -----------------------------------------------------------------------------------------------

  #onNetlink(event: NetlinkEvent): void {
    switch (event.type) {
      case 'link':
        if (this.link(event.link.index)?.hasCarrier === true && !event.link.isRunning) {
          this.#note(event.link.index, 'carrier');
        }
        break;
      case 'address-removed': {
        const { interfaceIndex, address } = event.address;
        if (this.link(interfaceIndex)?.addresses.some((a) => a.text === address.text)) {
          this.#note(interfaceIndex, 'address');
        }
        break;
      }
      case 'route':
      case 'route-removed': {
        const isNews =
          isForwarding(event.route) && this.#routes.has(routeKey(event.route)) === (event.type !== 'route');
        if (!isNews || this.link(event.route.interfaceIndex) === null) return;
        this.#note(event.route.interfaceIndex, 'route');
        break;
      }
      case 'neighbour':
      case 'neighbour-removed':
        if (event.type === 'neighbour-removed' || !this.#isGatewayNews(event.neighbour)) return;
        this.#note(event.neighbour.interfaceIndex, 'neighbour');
        break;
      case 'overflow':
        for (const id of this.#current.keys()) this.#note(id, 'events-lost');
        break;
      default:
        break;
    }
    this.#schedule();
  }

  /** A gateway answers that did not, or another one answers in its place (another network of the same addresses). */
  #isGatewayNews({ interfaceIndex, address, mac, state }: Neighbour): boolean {
    const gateway = this.#gateways.get(`${interfaceIndex} ${address.text}`);
    if (gateway === undefined) return false;
    if ((state & NUD_FAILED) !== 0) gateway.hasFailed = true;
    if ((state & NUD_VALID) === 0) return false;
    const text = mac.join(' ');
    const isNews = gateway.hasFailed || (gateway.mac !== '' && gateway.mac !== text);
    gateway.hasFailed = false;
    gateway.mac = text;
    return isNews;
  }

  #note(linkId: number, news: LinkNews): void {
    this.#news.set(linkId, news);
  }

  /** Notifications come in bursts (an interface that goes up has ten): one look at the end of each. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (!this.#isClosed) this.#update();
    });
  }

  // ---- Looks -------------------------------------------------------------------------------------------------------

  #update(): void {
    const before = this.#current;
    const news = new Map(this.#news);
    this.#news.clear();
    const after = this.#read();
    this.#current = after;
    for (const [id, link] of before) if (!after.has(id)) this.events.onChange({ before: link, after: null });
    for (const [id, link] of after) {
      const old = before.get(id) ?? null;
      const what = news.get(id);
      if (old === null || !isSame(old, link)) this.events.onChange({ before: old, after: link });
      else if (what !== undefined) this.events.onNews?.(link, what);
    }
  }

  #read(): Map<number, HostLink> {
    const { rt, ownTun, side, signal, feed, deviceOf, hasRoute } = this.#options;
    const routes = side === 'client' ? rt.routes() : [];
    const tables = { links: rt.links(), addresses: rt.addresses(), routes };
    const used = new Map<number, HostLink>();
    this.#leftOut = [];
    for (const plain of readFacts(tables, ownTun, deviceOf ?? readDevice)) {
      const { name } = plain;
      const fed = feed?.current.links[name];
      const radio = plain.type === 'wifi' ? (signal?.read(plain) ?? null) : null;
      const facts = overlay({ ...plain, ...this.#manager?.factsOf(name) }, radio, fed);
      const rule = matchRule(this.#rules, side === 'server' ? { ...facts, whyVirtual: null } : facts);
      if (rule !== null) used.set(facts.id, { ...routed(facts, hasRoute), rule });
      else this.#leftOut.push({ name, type: facts.type, why: facts.whyVirtual ?? 'no rule of paths matches it' });
    }
    this.#routes = new Set(routes.filter((r) => used.has(r.interfaceIndex) && isForwarding(r)).map(routeKey));
    this.#setGateways(used);
    return used;
  }

  #setGateways(links: ReadonlyMap<number, HostLink>): void {
    const known = this.#gateways;
    this.#gateways = new Map();
    for (const { id, defaultRoutes } of links.values()) {
      for (const { gateway } of defaultRoutes) {
        if (gateway === null) continue;
        const key = `${id} ${gateway.text}`;
        this.#gateways.set(key, known.get(key) ?? { mac: '', hasFailed: false });
      }
    }
  }
}

/** What radio and feed say comes before what is known of the device. */
function overlay(facts: LinkFacts, radio: RadioReading | null, fed: FedLink | undefined): LinkFacts {
  if (radio === null && fed === undefined) return facts;
  const isAccessPoint = radio !== null && !radio.isStation;
  return {
    ...facts,
    type: fed?.type ?? facts.type,
    // What is fed as a link of the host's own is one.
    whyVirtual: fed?.type !== undefined ? null : isAccessPoint ? 'an access point of this host' : facts.whyVirtual,
    ssid: fed?.ssid !== undefined ? fed.ssid : (radio?.ssid ?? null),
    signalDbm: fed?.signal_dbm !== undefined ? fed.signal_dbm : (radio?.signalDbm ?? null),
    isMetered: fed?.metered !== undefined ? fed.metered : facts.isMetered,
    connectivity: fed?.connectivity !== undefined ? fed.connectivity : facts.connectivity,
  };
}

function routed(link: LinkFacts, hasRoute: LinkMonitorOptions['hasRoute']): LinkFacts {
  if (!link.isUp || hasRoute === undefined || hasRoute(link)) return link;
  return { ...link, isUp: false, whyDown: 'it has no route to the server' };
}

/** Whether the rest of the program sees no difference; signal samples are told apart from it. */
function isSame(a: HostLink, b: HostLink): boolean {
  return (
    a.name === b.name &&
    a.type === b.type &&
    a.mac === b.mac &&
    a.isUp === b.isUp &&
    a.whyDown === b.whyDown &&
    a.mtuBytes === b.mtuBytes &&
    a.ssid === b.ssid &&
    a.isMetered === b.isMetered &&
    a.connectivity === b.connectivity &&
    a.rule === b.rule &&
    listText(a) === listText(b)
  );
}

function listText({ addresses, defaultRoutes }: HostLink): string {
  const routes = defaultRoutes.map((r) => `${r.family} ${r.gateway?.text ?? ''} ${r.metric}`);
  return `${addresses.map((a) => a.text).join(' ')} | ${routes.join(', ')}`;
}
