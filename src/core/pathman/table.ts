/** The links, remote endpoints and paths of a session, and the questions that are asked about them. */
import type { IpAddress } from '../base/ip.js';
import { Path, pathKey } from './path.js';
import { canPair, comparePaths, isAllowed, strictestRole } from './policy.js';
import type { LinkRole, PathLink, PathManagerConfig, RemoteEndpoint } from './types.js';

/** Address pairs beyond this are not tried (the table would grow with the peer's announcements). */
const MAX_PATHS = 64;

export class PathTable {
  readonly links = new Map<number, PathLink>();
  /** Links whose signal is falling, by id. */
  readonly fading = new Set<number>();
  remotes: readonly RemoteEndpoint[] = [];
  readonly #config: PathManagerConfig;
  readonly #paths = new Map<string, Path>();
  #nextPathId = 1;

  constructor(config: PathManagerConfig) {
    this.#config = config;
  }

  /** In the order in which they came to be. A path may be removed while it is being visited. */
  all(): IterableIterator<Path> {
    return this.#paths.values();
  }

  byId(pathId: number): Path | undefined {
    for (const path of this.#paths.values()) if (path.id === pathId) return path;
    return undefined;
  }

  byAddresses(linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): Path | undefined {
    return this.#paths.get(this.#key(linkId, localAddress, remote));
  }

  /** The path of this pair, made if need be; undefined when the table is full. */
  ensure(link: PathLink, localAddress: IpAddress, remote: RemoteEndpoint): Path | undefined {
    const key = this.#key(link.id, localAddress, remote);
    let path = this.#paths.get(key);
    if (path === undefined) {
      if (this.#paths.size >= MAX_PATHS) return undefined;
      path = new Path(this.#nextPathId++, link, localAddress, remote);
      this.#paths.set(key, path);
    } else path.remote = remote;
    return path;
  }

  remove(path: Path): void {
    this.#paths.delete(this.#key(path.link.id, path.localAddress, path.remote));
  }

  /** Which paths exist: every pair that may be one, and those that were one. */
  matchAddresses(): void {
    const isServer = this.#config.side === 'server';
    const listed = new Set(this.remotes.map((r) => `${r.address.text} ${r.port}`));
    for (const path of this.#paths.values()) {
      const link = this.links.get(path.link.id);
      path.isOrphan = link === undefined || !link.addresses.some((a) => a.text === path.localAddress.text);
      path.isUnlisted = !isServer && !listed.has(`${path.remote.address.text} ${path.remote.port}`);
    }
    if (isServer) return;
    for (const link of this.links.values()) {
      for (const remote of this.remotes) {
        for (const local of link.addresses) {
          if (canPair(this.#config, link, local, remote.address)) this.ensure(link, local, remote);
        }
      }
    }
  }

  onLink(linkId: number): Path[] {
    return [...this.#paths.values()].filter((p) => p.link.id === linkId);
  }

  /** Sorts in place, best first. */
  ordered(paths: Path[]): Path[] {
    return paths.sort(comparePaths(this.#config, this.remotes, (p) => this.roleOf(p)));
  }

  /** Ours, the peer's, and what a link that is about to go is still good for. */
  roleOf(path: Path): LinkRole {
    if (!isAllowed(path.link, path.localAddress, path.remote.address)) return 'never';
    const wished = strictestRole(path.link.role, path.peerRole);
    const isGoing = path.isPeerGoing || this.fading.has(path.link.id);
    return isGoing ? strictestRole(wished, 'backup') : wished;
  }

  working(): Path[] {
    return [...this.#paths.values()].filter(isWorking);
  }

  anotherWorks(path: Path): boolean {
    for (const other of this.#paths.values()) if (other !== path && isWorking(other)) return true;
    return false;
  }

  hasAnotherSubflow(path: Path): boolean {
    for (const other of this.#paths.values()) if (other !== path && other.isEstablished) return true;
    return false;
  }

  /** Paths with a subflow that counts. That of an address that is gone only keeps the connection: it takes no place. */
  held(): Path[] {
    return [...this.#paths.values()].filter((p) => p.hasSubflow && !p.isOrphan);
  }

  /** On a server each connection has its own port at the client, and all are one path. */
  #key(linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): string {
    return pathKey(linkId, localAddress, this.#config.side === 'server' ? { ...remote, port: 0 } : remote);
  }
}

/** Established, and as far as anybody knows things get through. */
export function isWorking(path: Path): boolean {
  return (path.state === 'warm' || path.state === 'active') && !path.isStalled && !path.isPeerGone;
}
