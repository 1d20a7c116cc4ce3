/**
 * Which of a server's addresses its clients know (RFC 8684 3.4): those configured are announced on each connection, and
 * the interfaces are followed: an address that vanishes is withdrawn and its subflows end, one that returns is announced
 * again. An address that no interface ever had (a translator's in front of the server) is always announced.
 */
import type { IpAddress } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';

export class Announcements {
  /** Addresses that an interface had and has no more. */
  private readonly gone = new Set<string>();
  private readonly ids = new WeakMap<ConnectionApi, Map<string, number>>();

  constructor(private readonly wanted: () => readonly IpAddress[]) {}

  onConnectionUp(nowUs: Micros, connection: ConnectionApi): void {
    for (const address of this.wanted()) if (!this.gone.has(address.text)) this.announce(nowUs, connection, address);
  }

  /** The addresses of an interface were `before` and are `after`. */
  onAddresses(
    nowUs: Micros,
    before: readonly IpAddress[],
    after: readonly IpAddress[],
    connections: readonly ConnectionApi[],
  ): void {
    for (const address of before) {
      if (isIn(after, address)) continue;
      this.gone.add(address.text);
      for (const connection of connections) this.withdraw(nowUs, connection, address);
    }
    for (const address of after) {
      if (isIn(before, address)) continue;
      this.gone.delete(address.text);
      if (!isIn(this.wanted(), address)) continue;
      for (const connection of connections) this.announce(nowUs, connection, address);
    }
  }

  /** What is wanted was `before`. Subflows to what is wanted no more are left alone. */
  onReload(nowUs: Micros, before: readonly IpAddress[], connections: readonly ConnectionApi[]): void {
    const wanted = this.wanted();
    for (const connection of connections) {
      for (const address of wanted)
        if (!isIn(before, address) && !this.gone.has(address.text)) this.announce(nowUs, connection, address);
      const ids = this.ids.get(connection);
      for (const address of before) {
        const id = ids?.get(address.text);
        if (id === undefined || isIn(wanted, address)) continue;
        connection.withdraw(nowUs, id);
        ids!.delete(address.text);
      }
    }
  }

  private announce(nowUs: Micros, connection: ConnectionApi, address: IpAddress): void {
    const id = connection.announce(nowUs, { address });
    if (id < 0) return;
    const ids = this.ids.get(connection) ?? new Map<string, number>();
    this.ids.set(connection, ids.set(address.text, id));
  }

  /** The engine will not send from an address that is no more, so what is said goes by other subflows. */
  private withdraw(nowUs: Micros, connection: ConnectionApi, address: IpAddress): void {
    const own = connection.info().subflows.filter(({ local }) => local.address.text === address.text);
    const ids = new Set(own.map(({ localAddressId }) => localAddressId));
    const announced = this.ids.get(connection)?.get(address.text);
    if (announced !== undefined) ids.add(announced);
    this.ids.get(connection)?.delete(address.text);
    if (ids.size > 0) connection.withdraw(nowUs, ...ids);
    for (const { id } of own) connection.closeSubflow(nowUs, id, 'reset');
  }
}

function isIn(list: readonly IpAddress[], { text }: IpAddress): boolean {
  return list.some((a) => a.text === text);
}
