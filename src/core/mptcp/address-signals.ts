/**
 * Address signalling (RFC 8684 3.4): ADD_ADDR with its HMAC, repeated until echoed (3.4.1), REMOVE_ADDR (3.4.2), both ways.
 * What is known of addresses is in addresses.ts; the options leave by a subflow's signal queue.
 */
import { type IpAddress, ipEquals } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { Endpoint } from '../engine/api.js';
import { type MptcpOptions, RST_REASON } from '../wire/mptcp-options.js';
import { ADD_ADDR_RETRY_US, ADD_ADDR_TRIES, MAX_ADDRESSES } from './addresses.js';
import type { Connection } from './connection.js';
import { addAddrHmac, equalConstantTime } from './keys.js';
import { announcementOf, echoOf } from './signals.js';
import type { MptcpSubflow } from './subflow.js';

/** ADD_ADDRs taken per second in the long run; each may make us send a SYN somewhere (3.9.2, 5). */
const ANNOUNCEMENTS_PER_S = 1;
/** Least wait for a sign of life of a path whose address the peer has removed; 2 RTOs if that is longer. */
const REMOVAL_WAIT_US: Micros = 1_000_000;

export class AddressSignals {
  private readonly admission = new TokenBucket(ANNOUNCEMENTS_PER_S, MAX_ADDRESSES);
  /** Subflows whose remote address was removed, and that have yet to show whether they live. */
  private readonly doubtful = new Map<MptcpSubflow, { readonly sinceUs: Micros; readonly untilUs: Micros }>();

  constructor(private readonly c: Connection) {}

  // ---- out

  /** Address id, -1 if there is none left or no MPTCP. */
  announce(nowUs: Micros, address: IpAddress, port: number): number {
    const { c } = this;
    const addressId = c.addresses.localId(address);
    if (addressId < 0 || c.mode !== 'mptcp') return -1;
    c.addresses.retract(addressId);
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

  /**
   * `sf` is given up while its link is away: no RST can say so, and the peer would keep its end for minutes. It is told by
   * another subflow that the address is gone (3.4.2).
   */
  abandon(nowUs: Micros, sf: MptcpSubflow): void {
    const { c } = this;
    if (c.mode !== 'mptcp' || !sf.isConfirmed || c.state === 'closed') return;
    const others = c.subflows.filter((other) => other !== sf && other.closeReason === null);
    if (others.some((other) => other.localAddressId === sf.localAddressId)) return;
    if (others.some((other) => other.isUsable && !other.isStalled)) this.withdraw(nowUs, [sf.localAddressId]);
  }

  nextDeadline(): Micros {
    let at = this.c.addresses.nextDeadline();
    for (const { untilUs } of this.doubtful.values()) at = Math.min(at, untilUs);
    return at;
  }

  /** Other keys authenticate from now on: what was learnt under the old ones is void, what we announced is said again. */
  onKeysReplaced(nowUs: Micros): void {
    const { addresses } = this.c;
    for (const addressId of addresses.remoteIds()) this.forget(addressId);
    for (const sf of this.c.subflows) sf.signals.dropAnnouncements();
    for (const a of addresses.announcements) {
      a.tries = 0;
      a.atUs = nowUs;
    }
    this.c.host.markDirty(this.c);
  }

  onTimer(nowUs: Micros): void {
    this.judgeDoubtful(nowUs);
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
      const learnt = this.admission.take(nowUs) ? addresses.learn(addressId, endpoint) : 'full';
      if (learnt === 'conflict' || learnt === 'full') {
        host.count('MPTcpExtAddAddrDrop');
        continue;
      }
      sf.signal(nowUs, { kind: 'add-addr', option: echoOf(option) });
      if (!this.isInUse(addressId, endpoint)) {
        host.emit({ type: 'address-announced', connectionId: id, addressId, endpoint });
      }
    }
  }

  /**
   * There is a subflow there, or on its way: by the id if the peer joined (3.4: the two are the same address, translators or
   * not), else by the endpoint. If there is none, an ADD_ADDR of something known asks for a further attempt (3.4.1).
   */
  private isInUse(addressId: number, endpoint: Endpoint): boolean {
    return this.c.subflows.some(
      ({ flow, role, side, remoteAddressId, isClosing }) =>
        !isClosing &&
        ((role === 'join' && side === 'passive' && remoteAddressId === addressId) ||
          (ipEquals(flow.remoteAddress, endpoint.address) && flow.remotePort === endpoint.port)),
    );
  }

  /**
   * The address is not used for anything new. A subflow there may be alive all the same (the option may not be the peer's,
   * 3.4.2): nothing more is sent on it until it answers a keepalive, and it is reset only if it does not. A peer that means
   * it ends a working subflow with a FIN itself.
   */
  onRemoveAddr(nowUs: Micros, ids: readonly number[]): void {
    const { c } = this;
    for (const addressId of ids) {
      c.host.count('MPTcpExtRmAddr');
      for (const sf of c.subflows) {
        if (sf.remoteAddressId !== addressId || sf.isClosing || sf.closeReason !== null) continue;
        const untilUs = nowUs + Math.max(REMOVAL_WAIT_US, 2 * sf.tcp.rtt.rtoUs);
        this.doubtful.set(sf, { sinceUs: nowUs, untilUs });
        c.health.suspect(nowUs, sf, 'the peer removed its address');
      }
      this.forget(addressId);
    }
    c.host.markDirty(c);
  }

  private judgeDoubtful(nowUs: Micros): void {
    for (const [sf, { sinceUs, untilUs }] of this.doubtful) {
      if (untilUs > nowUs) continue;
      this.doubtful.delete(sf);
      if (sf.closeReason !== null || sf.isClosing || sf.tcp.lastReceivedUs > sinceUs) continue;
      this.c.host.count('MPTcpExtRmSubflow');
      this.c.resetSubflow(nowUs, sf, RST_REASON.unspecified);
    }
  }

  private forget(addressId: number): void {
    const { c } = this;
    const isKnown = c.addresses.forgetRemote(addressId);
    if (isKnown) c.host.emit({ type: 'address-removed', connectionId: c.id, addressId });
  }
}
