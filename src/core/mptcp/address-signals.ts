/**
 * Address signalling (RFC 8684 3.4): ADD_ADDR with its HMAC, repeated until echoed (3.4.1), REMOVE_ADDR (3.4.2), both ways.
 * What is known of addresses is in addresses.ts; the options leave by a subflow's signal queue.
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import type { MptcpOptions } from '../wire/mptcp-options.js';
import { ADD_ADDR_RETRY_US, ADD_ADDR_TRIES } from './addresses.js';
import type { Connection } from './connection.js';
import { addAddrHmac, equalConstantTime } from './keys.js';
import { announcementOf, echoOf } from './signals.js';
import type { MptcpSubflow } from './subflow.js';

export class AddressSignals {
  constructor(private readonly c: Connection) {}

  // ---- out

  /** Address id, -1 if there is none left or no MPTCP. */
  announce(nowUs: Micros, address: IpAddress, port: number): number {
    const { c } = this;
    const addressId = c.addresses.localId(address);
    if (addressId < 0 || c.mode !== 'mptcp') return -1;
    c.addresses.announcements.push({ addressId, address, port, tries: 0, atUs: nowUs });
    c.host.markDirty(c);
    return addressId;
  }

  /** One option for all of them (3.4.2). The subflows there are the caller's to close; the peer closes them as well. */
  withdraw(nowUs: Micros, addressIds: readonly number[]): void {
    const { c } = this;
    for (const addressId of addressIds) c.addresses.releaseLocal(addressId);
    const gone = c.subflows.filter((sf) => addressIds.includes(sf.localAddressId));
    // Preferably told on another subflow than the one that goes (3.4.2).
    const via = c.subflows.find((sf) => sf.isUsable && !sf.isStalled && !gone.includes(sf)) ?? this.path();
    via?.signal(nowUs, { kind: 'remove-addr', ids: addressIds });
  }

  onTimer(nowUs: Micros): void {
    for (const a of this.c.addresses.announcements) if (a.atUs <= nowUs) this.send(nowUs, a.addressId);
  }

  private send(nowUs: Micros, addressId: number): void {
    const { addresses, keys, host } = this.c;
    const a = addresses.announcements.find((x) => x.addressId === addressId);
    if (a === undefined || keys.remote === null) return;
    if (a.tries >= ADD_ADDR_TRIES) {
      a.atUs = NEVER;
      return;
    }
    const sf = this.path();
    a.atUs = nowUs + ADD_ADDR_RETRY_US * (sf === null ? 1 : 2 ** a.tries);
    if (sf === null) return;
    a.tries++;
    const hmac = addAddrHmac(host.env, keys.authLocal, keys.authRemote, a.addressId, a.address, a.port);
    sf.signal(nowUs, { kind: 'add-addr', option: announcementOf(a.addressId, a.address, a.port, hmac) });
  }

  /** The subflow to signal on: one that is not stalled if there is one. */
  private path(): MptcpSubflow | null {
    let best: MptcpSubflow | null = null;
    for (const sf of this.c.subflows) {
      if (!sf.isConfirmed || !sf.tcp.isEstablished || sf.isLinkDown) continue;
      if (best === null || (best.isStalled && !sf.isStalled)) best = sf;
    }
    return best;
  }

  // ---- in

  onAddAddr(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): void {
    const { addresses, keys, host, id } = this.c;
    for (const option of o.addAddrs) {
      const { addressId, address, port } = option;
      if (option.echo) {
        host.count('MPTcpExtEchoAdd');
        addresses.onEcho(addressId);
        continue;
      }
      const expected = addAddrHmac(host.env, keys.authRemote, keys.authLocal, addressId, address, port);
      if (!equalConstantTime(expected, option.hmac, expected.length)) {
        host.count('MPTcpExtAddAddrHMacFailure');
        continue;
      }
      host.count(port >= 0 ? 'MPTcpExtPortAdd' : 'MPTcpExtAddAddr');
      // Without a port: the one that this subflow talks to (3.4.1).
      const endpoint = { address, port: port >= 0 ? port : sf.flow.remotePort };
      const learnt = addresses.learn(addressId, endpoint);
      if (learnt === 'conflict' || learnt === 'full') {
        host.count('MPTcpExtAddAddrDrop');
        continue;
      }
      sf.signal(nowUs, { kind: 'add-addr', option: echoOf(option) });
      if (learnt === 'new') host.emit({ type: 'address-announced', connectionId: id, addressId, endpoint });
    }
  }

  onRemoveAddr(nowUs: Micros, ids: readonly number[]): void {
    const { c } = this;
    for (const addressId of ids) {
      c.host.count('MPTcpExtRmAddr');
      const isKnown = c.addresses.forgetRemote(addressId);
      for (const sf of c.subflows) {
        if (sf.remoteAddressId !== addressId || sf.isClosing) continue;
        c.host.count('MPTcpExtRmSubflow');
        c.closing.endSubflow(nowUs, sf);
      }
      if (isKnown) c.host.emit({ type: 'address-removed', connectionId: c.id, addressId });
    }
    c.host.markDirty(c);
  }
}
