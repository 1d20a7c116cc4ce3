/**
 * Where the client's server can be reached: the addresses that are configured, that the links' name servers know, and that
 * the server announces itself (ADD_ADDR, RFC 8684 §3.4.1).
 */
import type { IpAddress } from '../core/base/ip.js';
import type { Endpoint, EngineEvent } from '../core/engine/api.js';
import type { RemoteEndpoint } from '../core/pathman/types.js';
import type { Rtnetlink } from '../native/index.js';
import type { LinkFacts } from './link-facts.js';
import type { HostLink } from './link-monitor.js';
import type { Resolver } from './resolver.js';

/** A server that nobody hears over any path may have moved: its name is asked for after this long, and then this often. */
const FIRST_LOOK_MS = 5_000;
const NEXT_LOOK_MS = 30_000;

export interface ServerAddressesOptions {
  readonly resolver: Pick<Resolver, 'addresses' | 'refresh'>;
  readonly rt: Pick<Rtnetlink, 'nextHop'>;
  /** Of the tunnel. */
  port(): number;
  /** In the order in which they are asked for a name server. */
  links(): readonly HostLink[];
  /** Whether this link may be used and can reach anybody. */
  mayAsk(link: HostLink): boolean;
  /** Calls `fn` in so many milliseconds; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
  /** The whole list, configured and resolved ones first. */
  onChange(remotes: RemoteEndpoint[]): void;
}

export class ServerAddresses {
  /** By address id. */
  private readonly announced = new Map<number, Endpoint>();
  private isResolving = false;
  private isClosed = false;
  /** Running while the server is not heard. */
  private stopLook: (() => void) | null = null;

  constructor(private readonly options: ServerAddressesOptions) {}

  /** Null: not known yet. */
  get first(): IpAddress | null {
    return this.options.resolver.addresses[0] ?? null;
  }

  /** Whether any of them has a way out over this link. Which it is, the path manager finds out. */
  hasRoute(link: LinkFacts): boolean {
    const { resolver, rt } = this.options;
    const remotes = [...resolver.addresses, ...[...this.announced.values()].map((e) => e.address)];
    const canReach = (remote: IpAddress) =>
      link.addresses.some((own) => own.family === remote.family && rt.nextHop(link.id, remote, own) !== null);
    return remotes.length === 0 || remotes.some(canReach);
  }

  /** Asks on the links, best first, until one answers; `onChange` follows. */
  resolve(): void {
    if (this.isResolving) return;
    this.isResolving = true;
    void (async () => {
      const { options } = this;
      for (const link of options.links()) {
        if (options.mayAsk(link) && (await options.resolver.refresh(link.name))) break;
      }
      this.isResolving = false;
      if (!this.isClosed) this.tell();
    })();
  }

  /** Whether any path to the server works. */
  setHeard(isHeard: boolean): void {
    if (isHeard) {
      this.stopLook?.();
      this.stopLook = null;
    } else if (!this.isClosed) this.stopLook ??= this.options.after(FIRST_LOOK_MS, () => this.lookAgain());
  }

  private lookAgain(): void {
    this.stopLook = this.options.after(NEXT_LOOK_MS, () => this.lookAgain());
    this.resolve();
  }

  /** Says what is known. */
  tell(): void {
    const port = this.options.port();
    const known = this.options.resolver.addresses.map((address): RemoteEndpoint => ({ address, port }));
    const more = [...this.announced].map(([addressId, e]): RemoteEndpoint => ({ ...e, addressId }));
    const isNew = (r: RemoteEndpoint) => !known.some((k) => k.port === r.port && k.address.text === r.address.text);
    this.options.onChange([...known, ...more.filter(isNew)]);
  }

  onEngineEvent(event: EngineEvent): void {
    if (event.type === 'address-announced') {
      const { address, port } = event.endpoint;
      // RFC 8684 §3.4.1: without a port, the connection's own.
      this.announced.set(event.addressId, { address, port: port > 0 ? port : this.options.port() });
      this.tell();
    } else if (event.type === 'address-removed') {
      this.announced.delete(event.addressId);
      this.tell();
    }
  }

  close(): void {
    this.isClosed = true;
    this.setHeard(true);
  }
}
