/**
 * The client's links: each change on this host (an interface, its addresses, its radio, a night's sleep) becomes what the
 * driver opens or closes, and what the path managers are told of it.
 */
import type { PathRule } from '../config/types.js';
import type { PathEvent, PathLink } from '../core/pathman/types.js';
import type { Rtnetlink } from '../native/index.js';
import { type Pause, PauseWatch, pauseText } from './clock.js';
import type { Driver } from './driver.js';
import { FadingWatch } from './fading-watch.js';
import { type HostSources, openHostSources } from './host-sources.js';
import type { Journal } from './journal.js';
import { hasAddress, type LinkFacts } from './link-facts.js';
import { type HostLink, type LinkChange, LinkMonitor, type LinkNews } from './link-monitor.js';
import { linkPolicy } from './link-policy.js';
import type { LinkRoles } from './link-roles.js';
import type { LaneOf } from './path-subflows.js';

export interface ClientLinksOptions {
  readonly rules: readonly PathRule[];
  readonly roles: LinkRoles;
  readonly driver: Pick<Driver, 'nowUs' | 'addLink' | 'updateLink' | 'removeLink' | 'flushSoon'>;
  readonly rt: Rtnetlink;
  /** The tunnel's own device, which is never a link. */
  readonly ownTun: string;
  readonly journal: Pick<Journal, 'record'>;
  /** Of the session: how the subflows over a link fare. */
  connections(): readonly LaneOf[];
  readonly events: ClientLinkEvents;
}

export interface ClientLinkEvents {
  /** News for the path managers. */
  onPathEvent(event: PathEvent): void;
  /** See LinkMonitorOptions. */
  hasRoute(link: LinkFacts): boolean;
  /** There are links that there were not, or the other way round, or one has another name. */
  onLinks(links: readonly HostLink[]): void;
  /** A link has changed, and has an address: name servers may be within reach now. */
  onAddress(): void;
  /** Links have come, gone or changed, and everybody above was told. */
  onChange(): void;
  /** The host slept, or this process did not run. */
  onPause(): void;
}

export class ClientLinks {
  readonly monitor: LinkMonitor;
  private readonly sources: HostSources;
  private readonly pauses: PauseWatch;
  private readonly fading = new FadingWatch();
  /** What the path managers were told of each link, as text. */
  private readonly policies = new Map<number, string>();

  /** Nothing is opened, and nobody told, before `start`. */
  constructor(private readonly options: ClientLinksOptions) {
    this.sources = openHostSources((message) => options.journal.record('warn', 'problem', message));
    this.monitor = new LinkMonitor(
      {
        rt: options.rt,
        rules: options.rules,
        ownTun: options.ownTun,
        side: 'client',
        ...this.sources,
        hasRoute: (link) => options.events.hasRoute(link),
      },
      {
        onChange: (change) => this.onLink(change),
        onNews: (link, news) => this.onNews(link, news),
        onSignal: (link, signalDbm) => this.onSignal(link, signalDbm),
        isRestless: (link) => this.fading.isRestless(link.id),
      },
    );
    this.pauses = new PauseWatch(this.sources.clocks, (pause) => this.onPause(pause));
  }

  /** Opens the links that are there. */
  start(): void {
    this.countUsage();
    for (const link of this.monitor.links) this.add(link);
  }

  /** The links as the path managers know them. */
  get pathLinks(): PathLink[] {
    return this.monitor.links.map((link) => this.pathLink(link));
  }

  nameOf(linkId: number): string {
    return this.monitor.link(linkId)?.name ?? `link ${linkId}`;
  }

  /** The roles of all links may have changed: the path managers are told of those that have. */
  applyPolicies(): void {
    for (const link of this.monitor.links) this.applyPolicy(link);
  }

  countUsage(): void {
    this.options.roles.count(this.monitor.links, (link) => this.applyPolicy(link));
  }

  close(): void {
    this.pauses.close();
    this.monitor.close();
    this.sources.clocks.close();
  }

  private add(link: HostLink): void {
    const { driver, events } = this.options;
    const { id } = link;
    const policy = linkPolicy(link, this.options.roles.roleOf(link));
    // Nothing is opened on a link that is not to be used; it is only shown.
    if (policy.role !== 'never') driver.addLink(link);
    events.onLinks(this.monitor.links);
    this.policies.set(id, JSON.stringify(policy));
    events.onPathEvent({ type: 'link-added', link: this.pathLink(link) });
  }

  private pathLink(link: HostLink): PathLink {
    const { id, name, isUp, whyDown, addresses } = link;
    return { id, name, isUp, whyDown, addresses, ...linkPolicy(link, this.options.roles.roleOf(link)) };
  }

  private applyPolicy(link: HostLink): void {
    const policy = linkPolicy(link, this.options.roles.roleOf(link));
    if (policy.role !== 'never') this.options.driver.updateLink(link);
    // It is worth new attempts at once, so only news is told.
    const text = JSON.stringify(policy);
    if (this.policies.get(link.id) === text) return;
    this.policies.set(link.id, text);
    this.options.events.onPathEvent({ type: 'link-policy', linkId: link.id, policy });
  }

  // ---- What the monitor sees -----------------------------------------------------------------------------------------

  private onLink({ before, after }: LinkChange): void {
    const { driver, events, journal } = this.options;
    const name = (after ?? before)!.name;
    const isUp = after?.isUp ?? false;
    if ((before?.isUp ?? false) !== isUp) {
      const why = after?.whyDown ?? 'interface is gone';
      journal.record('info', 'link', isUp ? `${name} is up` : `${name} is down: ${why}`, { path: name });
    }
    if (before === null) this.add(after!);
    else if (after === null) this.remove(before);
    else this.change(before, after);

    if (after === null) this.fading.forget(before!.id);
    else if (!isUp && this.fading.reset(after.id) === false) this.setFading(after, false, 'link is down');
    if (after !== null && hasAddress(after)) events.onAddress();
    driver.flushSoon();
    events.onChange();
  }

  private remove({ id }: HostLink): void {
    const { driver, events, roles } = this.options;
    driver.removeLink(id);
    roles.forget(id);
    this.policies.delete(id);
    events.onLinks(this.monitor.links);
    events.onPathEvent({ type: 'link-removed', linkId: id });
  }

  private change(before: HostLink, after: HostLink): void {
    if (before.name !== after.name) {
      const message = `${before.name} is called ${after.name} now`;
      this.options.journal.record('info', 'link', message, { path: after.name });
      this.add(after);
    }
    this.countUsage();
    this.applyPolicy(after);
    const { id, isUp, whyDown, addresses } = after;
    this.options.events.onPathEvent({ type: 'link-changed', linkId: id, isUp, whyDown, addresses });
  }

  /** Looks as before, but whatever kept packets away may be over. */
  private onNews(link: HostLink, news: LinkNews): void {
    const { driver, events, journal } = this.options;
    journal.record('debug', 'link-news', `${link.name}: ${news}`, { path: link.name });
    events.onPathEvent({ type: 'link-news', linkId: link.id });
    driver.flushSoon();
  }

  private onSignal(link: HostLink, signalDbm: number | null): void {
    const subflows = this.options
      .connections()
      .flatMap(({ connection }) => connection.info().subflows)
      .filter((s) => s.linkId === link.id);
    const verdict = this.fading.sample(this.options.driver.nowUs(), link, signalDbm, subflows);
    if (verdict !== null)
      this.setFading(link, verdict, signalDbm === null ? 'unknown' : `${Math.round(signalDbm)} dBm`);
  }

  private setFading(link: HostLink, isFading: boolean, detail: string): void {
    const { driver, events, journal } = this.options;
    const message = `${link.name}: ${isFading ? 'its signal is fading' : 'its signal is not fading any more'} (${detail})`;
    journal.record('info', 'link-fading', message, { path: link.name, data: { fading: isFading } });
    events.onPathEvent({ type: 'link-fading', linkId: link.id, isFading });
    driver.flushSoon();
  }

  /** The network may be another one, and nobody told us. */
  private onPause(pause: Pause): void {
    const data = { slept_s: pause.sleptUs / 1e6, stopped_s: pause.stoppedUs / 1e6 };
    const message = `resumed: ${pauseText(pause)}; every path is probed`;
    this.options.journal.record('info', 'resumed', message, { data });
    this.monitor.reread();
    this.options.events.onPause();
  }
}
