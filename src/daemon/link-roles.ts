/**
 * What each link is for at this moment, and how much may go over it: what its rule says, what a cap that is used up leaves of
 * that (policy.md), and what an operator has ordered, which comes before both.
 */
import { readFileSync } from 'node:fs';
import type { PathRole } from '../config/types.js';
import { type CapReached, type CapUsage, UsageMeter, usageKey } from './caps.js';
import type { Journal } from './journal.js';
import type { HostLink } from './link-monitor.js';
import { cappedRole, capText } from './link-policy.js';
import { OperatorOrders } from './operator.js';

export interface LinkRolesOptions {
  /** Path of usage.json. */
  readonly usageFile: string;
  readonly journal: Pick<Journal, 'record'>;
  /** What has gone over each interface of this host, both ways, by its index. */
  trafficBytes(): ReadonlyMap<number, number>;
}

export class LinkRoles {
  readonly orders = new OperatorOrders();
  private readonly usage: UsageMeter;
  /** Caps that are used up, by link. */
  private readonly capped = new Map<number, CapReached>();

  constructor(private readonly options: LinkRolesOptions) {
    this.usage = new UsageMeter({
      file: options.usageFile,
      now: () => new Date(),
      onProblem: (message) => options.journal.record('warn', 'problem', message),
    });
  }

  /** What the link is for now: as ordered, else as configured, or what its cap has left of that. */
  roleOf(link: HostLink): PathRole {
    return this.orders.roleOf(link.name, this.roleWithoutOrders(link));
  }

  roleWithoutOrders(link: HostLink): PathRole {
    return cappedRole(link.rule, this.capped.get(link.id) ?? null);
  }

  /** The rule's or the operator's limit in bit/s. */
  limitOf(link: HostLink): number | null {
    return this.orders.limitOf(link.name, link.rule.limitBitPerS);
  }

  /** What has gone over the link, where it has a cap. */
  usageOf(link: HostLink): CapUsage | null {
    return link.rule.cap === null ? null : this.usage.usage(usageKey(link), link.rule.cap);
  }

  /** That the link's cap is used up, in words; null: it is not. */
  capText(link: HostLink): string | null {
    const reached = this.capped.get(link.id);
    return reached === undefined ? null : capText(reached, this.roleOf(link));
  }

  /** Counts what has gone over links that have a cap; one that is used up, or over, changes the link's role: `onChange`. */
  count(links: readonly HostLink[], onChange: (link: HostLink) => void): void {
    if (!links.some(({ rule }) => rule.cap !== null) && this.capped.size === 0) return;
    const counters = this.options.trafficBytes();
    for (const link of links) {
      const { cap } = link.rule;
      const bytes = counters.get(link.id);
      const key = usageKey(link);
      if (cap !== null && bytes !== undefined) this.usage.sample(key, { id: `${BOOT_ID}/${link.id}`, bytes });
      const reached = cap === null ? null : this.usage.usage(key, cap).reached;
      if (!this.setCapped(link.id, reached)) continue;
      const role = this.roleOf(link);
      const message = reached === null ? 'a new period of its cap has begun' : capText(reached, role);
      this.options.journal.record(reached === null ? 'info' : 'warn', 'cap', `${link.name}: ${message}`, {
        path: link.name,
        data: { ...reached, role },
      });
      onChange(link);
    }
    this.usage.save();
  }

  /** The link is gone; what has gone over it stays in the book. */
  forget(linkId: number): void {
    this.capped.delete(linkId);
  }

  close(): void {
    this.usage.close();
  }

  /** True: another period's cap is used up than before, or none is any more. */
  private setCapped(linkId: number, reached: CapReached | null): boolean {
    const before = this.capped.get(linkId);
    if (reached === null) this.capped.delete(linkId);
    else this.capped.set(linkId, reached);
    return reached?.period !== before?.period;
  }
}

/** Interfaces' counters begin anew with the host. */
const BOOT_ID = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
