/**
 * The subflows that a connection opens by itself: every source of ours with every address of the peer (the one dialled, and
 * those that it announces) to which it has a route. Only the side that connected does so (RFC 8684 3.2: the other is
 * likely behind no translator, and this one may be).
 */
import { type IpAddress, ipEquals } from '../core/base/ip.js';
import { type Micros, NEVER } from '../core/base/time.js';
import type { ConnectionApi, Endpoint, EngineEvent, LinkInfo } from '../core/engine/api.js';
import type { DuplexHost } from '../daemon/duplex.js';
import type { HostLinks } from './links.js';

/** Pairs of addresses that are joined at most, and addresses of the peer that are kept. */
const MAX_JOINS = 8;
/** After a refusal by our own side, which is no event. */
const JOIN_RETRY_MS = 20;
/** A subflow that failed is opened again after this long, doubling with every failure in a row, up to the second. */
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** The same where the peer refuses without a word that it is for now (RFC 8684 3.6), as the path manager has it. */
const FIRST_REFUSED_MS = 60_000;
const MAX_REFUSED_MS = 600_000;
/** One that lived this long owes nothing to a bad path: its failure is the first again. */
const STABLE_US: Micros = 10_000_000;

/**
 * An interface to use, null: the one that the kernel's routes choose; `local` null: with whichever of its addresses has a
 * route.
 */
export interface MeshSource {
  readonly interfaceName: string | null;
  readonly local: IpAddress | null;
  readonly isBackup: boolean;
}

/** An address of the peer's, by its id (0: the one dialled). */
interface Remote {
  readonly addressId: number;
  readonly endpoint: Endpoint;
}

/** A pair of addresses that a subflow was opened on. */
interface Pair {
  readonly local: IpAddress;
  readonly remote: Endpoint;
  /** null: it has ended. */
  subflowId: number | null;
  /** When it was established; NEVER: not yet. */
  sinceUs: Micros;
  /** Times in a row that it failed. */
  failures: number;
  /** When it may be opened again; NEVER: it is there, or it ended for good. */
  retryAtUs: Micros;
}

export class Mesh {
  private readonly remotes: Remote[];
  /** By "link local remote". */
  private readonly pairs = new Map<string, Pair>();
  private retry: NodeJS.Timeout | null = null;
  private wakesAtUs: Micros = NEVER;

  /** `first`: the pair of the initial subflow. */
  constructor(
    private readonly connection: ConnectionApi,
    private readonly links: HostLinks,
    private readonly host: DuplexHost,
    private readonly sources: MeshSource[],
    first: { readonly link: LinkInfo; readonly local: IpAddress },
    public isEnabled: boolean,
  ) {
    const { remote } = connection;
    this.remotes = [{ addressId: 0, endpoint: remote }];
    const subflowId = connection.info().subflows[0]?.id ?? null;
    this.pairs.set(pairKey(first.link, first.local, remote), pairOf(first.local, remote, subflowId));
  }

  add(source: MeshSource): void {
    this.sources.push(source);
    this.joinAll();
  }

  /** Nothing further is opened from this address. */
  remove(local: IpAddress): void {
    const at = this.sources.findIndex((s) => s.local !== null && ipEquals(s.local, local));
    if (at >= 0) this.sources.splice(at, 1);
    this.forget((pair) => ipEquals(pair.local, local));
  }

  /** The application ends this subflow: no other takes its place. */
  leave(subflowId: number): void {
    const pair = this.pairOfSubflow(subflowId);
    if (pair !== undefined) pair.subflowId = null;
  }

  /** Opens also what has ended. */
  enable(): void {
    this.isEnabled = true;
    this.forget((pair) => pair.subflowId === null);
    this.joinAll();
  }

  onEvent(event: EngineEvent): void {
    switch (event.type) {
      case 'connection-established':
        this.joinAll();
        break;
      case 'subflow-established': {
        const pair = this.pairOfSubflow(event.subflowId);
        if (pair !== undefined) pair.sinceUs = this.host.nowUs();
        this.joinAll();
        break;
      }
      case 'subflow-closed':
        this.onClosed(event.subflowId, event.why, event.isPermanent);
        break;
      case 'address-announced': {
        const { address, port } = event.endpoint;
        // Without a port it is the connection's own (RFC 8684 3.4.1).
        this.learn(event.addressId, { address, port: port > 0 ? port : this.connection.remote.port });
        break;
      }
      case 'address-removed':
        this.unlearn(event.addressId);
        break;
      case 'connection-closed':
        this.close();
        break;
      default:
    }
  }

  /** Opens what is missing. */
  joinAll(): void {
    const { connection } = this;
    if (!this.isEnabled || !connection.isMptcp) return;
    for (const { endpoint: remote } of this.remotes) {
      for (const { link, local, isBackup } of waysTo(this.links, this.sources, remote.address)) {
        const key = pairKey(link, local, remote);
        const pair = this.pairs.get(key);
        if (!link.isUp || (pair === undefined && this.pairs.size >= MAX_JOINS)) continue;
        if (pair !== undefined && pair.retryAtUs > this.host.nowUs()) {
          this.wakeAt(pair.retryAtUs);
          continue;
        }
        const options = { linkId: link.id, localAddress: local, remote, backup: isBackup };
        const subflowId = connection.join(this.host.nowUs(), options);
        // Refused until the peer has shown that it has our key (RFC 8684 3.2), or has ended the subflow before this one.
        if (subflowId < 0) this.wakeAt(this.host.nowUs() + JOIN_RETRY_MS * 1000);
        else this.pairs.set(key, { ...pairOf(local, remote, subflowId), failures: pair?.failures ?? 0 });
      }
    }
    this.host.flushSoon();
  }

  close(): void {
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.wakesAtUs = NEVER;
  }

  /** ADD_ADDR; of something known it asks for a further attempt (RFC 8684 3.4.1). */
  private learn(addressId: number, endpoint: Endpoint): void {
    this.forget((pair) => pair.subflowId === null && isSame(pair.remote, endpoint));
    if (!this.remotes.some((known) => isSame(known.endpoint, endpoint)) && this.remotes.length < MAX_JOINS)
      this.remotes.push({ addressId, endpoint });
    this.joinAll();
  }

  private unlearn(addressId: number): void {
    const at = this.remotes.findIndex((remote) => remote.addressId === addressId);
    const [gone] = at < 0 ? [] : this.remotes.splice(at, 1);
    if (gone !== undefined) this.forget((pair) => isSame(pair.remote, gone.endpoint));
  }

  private onClosed(subflowId: number, why: string, isRefused: boolean): void {
    const pair = this.pairOfSubflow(subflowId);
    if (pair === undefined) return;
    pair.subflowId = null;
    if (why === 'done') return; // one side wanted it so
    const nowUs = this.host.nowUs();
    if (nowUs - pair.sinceUs >= STABLE_US) pair.failures = 0;
    const [firstMs, maxMs] = isRefused ? [FIRST_REFUSED_MS, MAX_REFUSED_MS] : [FIRST_RETRY_MS, MAX_RETRY_MS];
    pair.retryAtUs = nowUs + 1000 * Math.min(maxMs, firstMs * 2 ** pair.failures);
    pair.failures++;
    this.wakeAt(pair.retryAtUs);
  }

  private pairOfSubflow(subflowId: number): Pair | undefined {
    for (const pair of this.pairs.values()) if (pair.subflowId === subflowId) return pair;
    return undefined;
  }

  private forget(isGone: (pair: Pair) => boolean): void {
    for (const [key, pair] of this.pairs) if (isGone(pair)) this.pairs.delete(key);
  }

  /** Looks again then, or before. */
  private wakeAt(atUs: Micros): void {
    if (atUs >= this.wakesAtUs) return;
    if (this.retry !== null) clearTimeout(this.retry);
    this.wakesAtUs = atUs;
    this.retry = setTimeout(() => this.again(), Math.max(1, Math.ceil((atUs - this.host.nowUs()) / 1000)));
  }

  private again(): void {
    this.close();
    if (this.connection.state === 'established') this.joinAll();
  }
}

/** The sources that have a route to `remote`, in their order. Opens the interfaces. */
export function waysTo(links: HostLinks, sources: readonly MeshSource[], remote: IpAddress) {
  return sources.flatMap(({ interfaceName, local, isBackup }) => {
    const name = interfaceName ?? links.routed(remote);
    if (name === null) return [];
    const link = links.open(name);
    const from = local ?? links.sourceFor(link, remote);
    return from === null || !links.isRouted(link, from, remote) ? [] : [{ link, local: from, isBackup }];
  });
}

function pairOf(local: IpAddress, remote: Endpoint, subflowId: number | null): Pair {
  return { local, remote, subflowId, sinceUs: NEVER, failures: 0, retryAtUs: NEVER };
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return ipEquals(a.address, b.address) && a.port === b.port;
}

function pairKey(link: LinkInfo, local: IpAddress, remote: Endpoint): string {
  return `${link.id} ${local.text} ${remote.address.text} ${remote.port}`;
}
