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
  private infiniteMapping: 'none' | 'due' | 'sent' = 'none';

  constructor(private readonly c: Connection) {}

  /** DATA_ACKs do not count any more, although the last mapping is yet to be sent. */
  get isUnderWay(): boolean {
    return this.infiniteMapping !== 'none';
  }

  /** Before any data: the connection is plain TCP. */
  becomeTcp(why: string): void {
    const { c } = this;
    c.mode = 'tcp';
    this.infiniteMapping = 'none';
    const sf = c.subflows[0];
    // With one subflow ever, subflow and data sequence space are the same: SYN 0, first byte 1.
    if (sf !== undefined && !sf.mappings.isInfinite) sf.mappings.setInfinite(0, 0);
    c.sender.windowEdge = NEVER;
    this.reason ??= why;
    c.keys.checksums = false;
  }

  /** Plain TCP from here on, for good. The caller knows that there is one subflow and that its data is contiguous. */
  fallBack(why: string): void {
    const { c } = this;
    if (c.mode === 'tcp') return;
    c.host.count('MPTcpExtMPFallback');
    this.becomeTcp(why);
    c.host.emit({ type: 'fallback', connectionId: c.id, why });
    c.host.markDirty(c);
  }

  /**
   * Our data is acknowledged but never DATA_ACKed: plain TCP, and the peer, who may still see our options, learns it by
   * an infinite mapping on the next data (3.7).
   */
  fallBackTelling(why: string): void {
    const { c } = this;
    if (c.mode !== 'mptcp' || this.isUnderWay) return;
    if (c.sender.unsentBytes <= 0) {
      this.fallBack(why);
      return;
    }
    this.reason = why;
    this.infiniteMapping = 'due';
    c.sender.windowEdge = NEVER;
    c.host.count('MPTcpExtMPFallback');
    c.host.emit({ type: 'fallback', connectionId: c.id, why });
    c.host.markDirty(c);
  }

  // ---- checksums and MP_FAIL

  /** A mapping's checksum is wrong: reset the subflow, or with a single one go on without MPTCP (3.7). */
  onChecksumFailure(nowUs: Micros, sf: MptcpSubflow, m: InboundMapping, bytes: Uint8Array): void {
    const { c } = this;
    const isContiguous = c.subflowsEver === 1 && m.dsn <= c.receiver.rcvNxt;
    if (c.subflows.length > 1 || !isContiguous) {
      sf.failDsn = m.dsn;
      c.resetSubflow(nowUs, sf, RST_REASON.middleboxInterference);
      return;
    }
    this.signalFail(nowUs, sf, m.dsn);
    sf.mappings.setInfinite(m.ssn, m.dsn);
    c.receiver.accept(m.dsn, bytes, 0, m.lengthBytes);
    this.infiniteMapping = 'due';
  }

  /** MP_FAIL received on a subflow that goes on. */
  onFail(nowUs: Micros, sf: MptcpSubflow, o: MptcpOptions): void {
    const { c } = this;
    c.host.count('MPTcpExtMPFailRx');
    const dsn = relativeDsn(o.failDsnHi, o.failDsnLo, c.keys.idsnLocal);
    if (c.subflows.length > 1 || c.subflowsEver > 1 || !(dsn <= c.sender.sndNxt)) return;
    if (this.isUnderWay) return;
    this.infiniteMapping = 'due';
    // The other direction reverts too (3.7).
    this.signalFail(nowUs, sf, c.receiver.rcvNxt);
  }

  private signalFail(nowUs: Micros, sf: MptcpSubflow, dsn: number): void {
    const { idsnRemote } = this.c.keys;
    sf.signal(nowUs, { kind: 'fail', dsnHi: dsnHi(dsn, idsnRemote), dsnLo: dsnLo(dsn, idsnRemote) });
  }

  // ---- the last mapping

  /** The next new data after MP_FAIL carries an infinite mapping (DLL 0, checksum 0), the last option we ever send. */
  takeInfiniteMapping(mapping: OutboundMapping): OutboundMapping {
    const { c } = this;
    if (this.infiniteMapping !== 'due' || mapping.isReinjection) return mapping;
    this.infiniteMapping = 'sent';
    this.reason ??= 'checksum failure';
    c.host.count('MPTcpExtInfiniteMapTx');
    return { ...mapping, dll: 0, checksum: c.keys.checksums ? 0 : -1 };
  }

  /** After data was sent: the infinite mapping has gone out with it. */
  finish(): void {
    if (this.infiniteMapping === 'sent') this.becomeTcp(this.reason ?? 'infinite mapping sent');
  }
}
