/**
 * Fallback to plain TCP and MP_FAIL (RFC 8684 3.7): in the handshake, when a middlebox strips options, when a checksum
 * fails. Never undone, and only while there has been one subflow, whose sequence space is then the connection's. Where the
 * peer may still read our options, an infinite mapping (3.3.1) on the next new data is the last we send.
 */
import { dsnHi, dsnLo, relativeDsn } from '../base/seq.js';
import { type Micros, NEVER } from '../base/time.js';
import type { MptcpOptions } from '../wire/mptcp-options.js';
import { RST_REASON } from '../wire/mptcp-options.js';
import type { Connection } from './connection.js';
import type { InboundMapping } from './receive-mapping.js';
import type { OutboundMapping } from './send-buffer.js';
import type { MptcpSubflow } from './subflow.js';

export class Fallback {
  reason: string | null = null;
  /** MP_FAIL was exchanged: TCP begins with the infinite mapping; without new data the connection ends as MPTCP does. */
  isUnderWay = false;
  private infiniteMapping: 'none' | 'due' | 'sent' = 'none';
  private hadChecksums = false;
  /** Up to here the peer has our data intact, as far as we know: where the infinite mapping begins. */
  private intactDsn = 1;

  constructor(private readonly c: Connection) {}

  /** Data segments need room for options yet: of the infinite mapping, and of its retransmission. */
  get needsOptionRoom(): boolean {
    return this.infiniteMapping !== 'none';
  }

  /** Before any data: the connection is plain TCP. */
  becomeTcp(nowUs: Micros, why: string): void {
    const { c } = this;
    c.mode = 'tcp';
    this.isUnderWay = false;
    const sf = c.subflows[0];
    // With one subflow ever, subflow and data sequence space are the same: SYN 0, first byte 1.
    if (sf !== undefined && !sf.mappings.isInfinite) sf.receiveAsStream(nowUs, 0, 0);
    // What is queued could never leave, and would have ACKs sent for it for ever.
    sf?.signals.keepFailOnly();
    c.sender.windowEdge = NEVER;
    this.reason ??= why;
    c.keys.checksums = false;
    c.refreshMss();
  }

  /** Plain TCP from here on, for good. The caller knows that no other subflow has ever carried data. */
  fallBack(nowUs: Micros, why: string): void {
    const { c } = this;
    if (c.mode === 'tcp') return;
    if (!this.isUnderWay) this.announce(nowUs, why);
    this.becomeTcp(nowUs, why);
    c.host.markDirty(c);
  }

  /**
   * The peer's options do not arrive: plain TCP, and the peer, who may still see ours, learns it by an infinite mapping on
   * the next data (3.7). No more DATA_ACKs, which would have the peer believe that all is well.
   */
  fallBackTelling(nowUs: Micros, why: string): void {
    if (!this.isUnderWay) this.planInfiniteMapping();
    this.fallBack(nowUs, why);
  }

  /**
   * In-order data without a mapping. After some that had one it may be that the peer has fallen back in silence, or that its
   * options stopped passing when it took them to pass: MP_FAIL then keeps it from sending again what is taken now.
   */
  onStrippedData(nowUs: Micros, sf: MptcpSubflow, sawMapping: boolean): void {
    if (this.isUnderWay) return;
    if (sawMapping) this.signalFail(nowUs, sf, this.c.receiver.rcvNxt);
    this.fallBackTelling(nowUs, 'data without MPTCP options');
  }

  /**
   * An infinite mapping from the peer. Its bytes are the stream from there on, which makes sense only while nothing came
   * over another subflow; else the subflow is of no use. False: reset it.
   */
  onInfiniteMapping(nowUs: Micros, sf: MptcpSubflow, ssn: number, dsn: number): boolean {
    const { c } = this;
    c.host.count('MPTcpExtInfiniteMapRx');
    if (c.hasJoined) return false;
    // One subflow, all in sequence: the mapping then also covers what is missing before it, and never had one.
    if (ssn === dsn) sf.receiveAsStream(nowUs, 0, 0);
    else sf.receiveAsStream(nowUs, ssn, dsn);
    this.fallBack(nowUs, 'infinite mapping received');
    return true;
  }

  // ---- checksums and MP_FAIL

  /**
   * A mapping's checksum is wrong. With other subflows to turn to, or data that is not contiguous (a mapping that moves
   * bytes, after a retransmission at data level): the subflow is reset. With a single one the altered bytes go up, as TCP
   * would have it, and MPTCP ends (3.7). False: nothing that follows on this subflow is to be used.
   */
  onChecksumFailure(nowUs: Micros, sf: MptcpSubflow, m: InboundMapping): boolean {
    const { c } = this;
    if (c.hasJoined || m.dsn !== m.ssn) {
      sf.failDsn = m.dsn;
      c.resetSubflow(nowUs, sf, RST_REASON.middleboxInterference);
      return false;
    }
    if (!this.isUnderWay) {
      this.signalFail(nowUs, sf, m.dsn);
      this.begin(nowUs, 'checksum failure');
    }
    sf.receiveAsStream(nowUs, m.ssn, m.dsn);
    return true;
  }

  /** MP_FAIL received on a subflow that goes on. False: we cannot go on with it. */
  onFail(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): boolean {
    const { c } = this;
    c.host.count('MPTcpExtMPFailRx');
    // The answer to ours; or once more.
    if (this.isUnderWay) return true;
    const dsn = relativeDsn(o.failDsnHi, o.failDsnLo, c.keys.idsnLocal);
    if (c.hasJoined || c.sender.bytesReinjected > 0) return false;
    if (!(dsn <= c.sender.sndNxt)) {
      c.host.count('drop_fail_implausible');
      return true;
    }
    // The other direction reverts too (3.7).
    this.signalFail(nowUs, sf, c.receiver.rcvNxt);
    this.begin(nowUs, 'MP_FAIL received');
    return true;
  }

  /** A RST with MP_FAIL: what this subflow delivered from that DSN on was thrown away (3.7), so it goes elsewhere at once. */
  onFailedReset(nowUs: Micros, o: MptcpOptions): void {
    const { c } = this;
    c.host.count('MPTcpExtMPFailRx');
    const dsn = relativeDsn(o.failDsnHi, o.failDsnLo, c.keys.idsnLocal);
    if (c.mode === 'mptcp' && dsn <= c.sender.sndNxt) c.dataRto.recover(nowUs);
  }

  private signalFail(nowUs: Micros, sf: MptcpSubflow, dsn: number): void {
    const { idsnRemote } = this.c.keys;
    sf.signal(nowUs, { kind: 'fail', dsnHi: dsnHi(dsn, idsnRemote), dsnLo: dsnLo(dsn, idsnRemote) });
  }

  // ---- options that stop passing

  /**
   * DATA_ACK has not moved for a data-level timeout. Subflows that have lost their options meanwhile, on ACKs or on data, are
   * broken: the peer cannot tell us anything there any more (3.7). True if there were any.
   */
  resetStripped(nowUs: Micros): boolean {
    let found = false;
    for (const sf of this.c.subflows) {
      if (!sf.hasLostOptions) continue;
      this.c.resetSubflow(nowUs, sf, RST_REASON.middleboxInterference);
      found = true;
    }
    return found;
  }

  // ---- the last mapping

  /**
   * The next new data carries an infinite mapping (DLL 0, checksum 0), the last option we ever send. It acts
   * retroactively, from the last data known to be intact (3.7).
   */
  takeInfiniteMapping(mapping: OutboundMapping): OutboundMapping {
    const { c } = this;
    if (this.infiniteMapping !== 'due' || mapping.isReinjection) return mapping;
    this.infiniteMapping = 'sent';
    c.host.count('MPTcpExtInfiniteMapTx');
    const back = Math.min(mapping.dsn - this.intactDsn, mapping.ssn - 1);
    const { dsn, ssn } = mapping;
    return {
      ...mapping,
      dsn: dsn - back,
      ssn: ssn - back,
      dll: 0,
      checksum: this.hadChecksums ? 0 : -1,
      isFirst: false,
    };
  }

  /** After data was sent: the infinite mapping has gone out with it. */
  finish(nowUs: Micros): void {
    if (this.isUnderWay && this.infiniteMapping === 'sent') this.becomeTcp(nowUs, this.reason!);
  }

  // ---- common

  private begin(nowUs: Micros, why: string): void {
    const { c } = this;
    this.announce(nowUs, why);
    this.isUnderWay = true;
    this.planInfiniteMapping();
    c.sender.windowEdge = NEVER;
    c.host.markDirty(c);
  }

  private planInfiniteMapping(): void {
    this.infiniteMapping = 'due';
    this.hadChecksums = this.c.keys.checksums;
    this.intactDsn = this.c.sender.sndUna;
  }

  private announce(nowUs: Micros, why: string): void {
    const { c } = this;
    this.reason = why;
    c.host.count('mptcp_fallback');
    c.host.emit({ type: 'fallback', connectionId: c.id, why });
    // All subflows but one end (3.7); those that are left here have not carried data yet.
    for (const sf of c.subflows) {
      if (sf.role === 'join') c.resetSubflow(nowUs, sf, RST_REASON.middleboxInterference);
    }
  }
}
