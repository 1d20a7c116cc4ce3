/**
 * The subflows that a connection opens by itself: every source of ours with every address of the peer (the one dialled, and
 * those that it announces) to which it has a route. Only the side that connected does so (RFC 8684 3.2: the other is
 * likely behind no translator, and this one may be).
 */
import { type IpAddress, ipEquals } from '../core/base/ip.js';
import type { ConnectionApi, Endpoint, EngineEvent, LinkInfo } from '../core/engine/api.js';
import type { DuplexHost } from '../daemon/duplex.js';
import type { HostLinks } from './links.js';

/** Pairs of addresses that are joined at most. */
const MAX_JOINS = 8;
const JOIN_RETRY_MS = 20;

/**
 * An interface to use, null: the one that the kernel's routes choose; `local` null: with whichever of its addresses has a
 * route.
 */
export interface MeshSource {
  readonly interfaceName: string | null;
  readonly local: IpAddress | null;
  readonly isBackup: boolean;
}

export class Mesh {
  private readonly remotes: Endpoint[];
  /** Pairs that a subflow was opened on: "link local remote". */
  private readonly joined = new Set<string>();
  private retry: NodeJS.Timeout | null = null;

  /** `first`: the pair of the initial subflow. */
  constructor(
    private readonly connection: ConnectionApi,
    private readonly links: HostLinks,
    private readonly host: DuplexHost,
    private readonly sources: MeshSource[],
    first: { readonly link: LinkInfo; readonly local: IpAddress },
    public isEnabled: boolean,
  ) {
    this.remotes = [connection.remote];
    this.joined.add(pairKey(first.link, first.local, connection.remote));
  }

  add(source: MeshSource): void {
    this.sources.push(source);
    this.joinAll();
  }

  /** Nothing further is opened from this address. */
  remove(local: IpAddress): void {
    const at = this.sources.findIndex((s) => s.local !== null && ipEquals(s.local, local));
    if (at >= 0) this.sources.splice(at, 1);
    for (const key of this.joined) if (key.includes(` ${local.text} `)) this.joined.delete(key);
  }

  onEvent(event: EngineEvent): void {
    switch (event.type) {
      case 'connection-established':
      case 'subflow-established':
        this.joinAll();
        break;
      case 'address-announced': {
        const { address, port } = event.endpoint;
        // Without a port it is the connection's own (RFC 8684 3.4.1).
        this.remotes.push({ address, port: port > 0 ? port : this.connection.remote.port });
        this.joinAll();
        break;
      }
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
    for (const remote of this.remotes) {
      for (const { link, local, isBackup } of waysTo(this.links, this.sources, remote.address)) {
        const key = pairKey(link, local, remote);
        if (this.joined.has(key) || this.joined.size >= MAX_JOINS || !link.isUp) continue;
        const options = { linkId: link.id, localAddress: local, remote, backup: isBackup };
        if (connection.join(this.host.nowUs(), options) >= 0) this.joined.add(key);
        // Refused until the peer has shown that it has our key (RFC 8684 3.2), which is no event.
        else this.retry ??= setTimeout(() => this.again(), JOIN_RETRY_MS);
      }
    }
    this.host.flushSoon();
  }

  close(): void {
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
  }

  private again(): void {
    this.retry = null;
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

function pairKey(link: LinkInfo, local: IpAddress, remote: Endpoint): string {
  return `${link.id} ${local.text} ${remote.address.text} ${remote.port}`;
}
