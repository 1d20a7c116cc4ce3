/**
 * From subflow bytes to data bytes (RFC 8684 3.3.1): each stretch goes by the mapping in the segment's own DSS, by one stored
 * before, or by the infinite mapping; with checksums (3.3) a mapping is put together and verified first; bytes ahead of
 * their mapping wait.
 */
import { dsnHi, dsnLo } from '../base/seq.js';
import type { Micros } from '../base/time.js';
import { RST_REASON } from '../wire/mptcp-options.js';
import { ChecksumAssembly } from './checksum-assembly.js';
import { dssChecksumRange } from './keys.js';
import { type InboundMapping, ReceiveMappings } from './receive-mapping.js';
import type { MptcpSubflow } from './subflow.js';

/**
 * Bytes that may wait for their mapping while there are other subflows to turn to: a mapping covers less than 64 KB, so
 * this is several mappings lost at once. (With one subflow the whole window may wait, RFC 8684 3.3.1.)
 */
const MAX_UNMAPPED_BYTES = 262_144;

export class InboundData {
  readonly mappings = new ReceiveMappings();
  /** Mapping of the segment in hand (relative); length 0: it has none. */
  private currentSsn = 0;
  private currentDsn = 0;
  private currentLength = 0;
  private readonly assemblies = new Map<number, ChecksumAssembly>();

  constructor(private readonly sf: MptcpSubflow) {}

  /** The segment in hand carries this mapping. */
  setCurrent(ssn: number, dsn: number, lengthBytes: number): void {
    this.currentSsn = ssn;
    this.currentDsn = dsn;
    this.currentLength = lengthBytes;
  }

  clearCurrent(): void {
    this.currentLength = 0;
  }

  /** Subflow bytes from `firstSeq` on, at `firstOffset` of `buf`. */
  deliver(nowUs: Micros, buf: Uint8Array, firstSeq: number, firstOffset: number, lengthBytes: number): void {
    const c = this.sf.connection;
    let seq = firstSeq;
    let offset = firstOffset;
    const end = firstSeq + lengthBytes;
    while (seq < end) {
      let n = end - seq;
      const isCurrent = this.currentLength > 0 && seq >= this.currentSsn && seq < this.currentSsn + this.currentLength;
      if (isCurrent && !c.keys.checksums) {
        n = Math.min(n, this.currentSsn + this.currentLength - seq);
        this.accept(this.currentDsn + seq - this.currentSsn, buf, offset, n);
      } else {
        const infinite = this.mappings.infiniteDsn(seq);
        const m = Number.isNaN(infinite) ? this.mappings.find(seq) : null;
        if (!Number.isNaN(infinite)) {
          c.receiver.accept(infinite, buf, offset, n);
        } else if (m !== null) {
          n = Math.min(n, m.ssn + m.lengthBytes - seq);
          if (!this.deliverMapped(nowUs, m, buf, seq, offset, n)) return;
        } else {
          n = Math.min(n, this.mappings.nextStart(seq) - seq);
          if (!this.hold(nowUs, buf, seq, offset, n)) return;
        }
      }
      seq += n;
      offset += n;
    }
  }

  /** False: the subflow is over, and what follows on it is not to be used. */
  private deliverMapped(
    nowUs: Micros,
    m: InboundMapping,
    buf: Uint8Array,
    seq: number,
    offset: number,
    lengthBytes: number,
  ): boolean {
    const c = this.sf.connection;
    if (m.checksum < 0) {
      this.accept(m.dsn + seq - m.ssn, buf, offset, lengthBytes);
      return true;
    }
    let assembly = this.assemblies.get(m.ssn);
    if (assembly === undefined) {
      assembly = new ChecksumAssembly(m);
      this.assemblies.set(m.ssn, assembly);
    }
    if (!assembly.put(seq - m.ssn, buf, offset, lengthBytes)) return true;
    const { idsnRemote } = c.keys;
    const sum = dssChecksumRange(
      dsnHi(m.dsn, idsnRemote),
      dsnLo(m.dsn, idsnRemote),
      m.ssn,
      m.dll,
      assembly.bytes,
      0,
      m.lengthBytes,
    );
    if (sum !== m.checksum) {
      c.host.count('MPTcpExtDataCsumErr');
      return c.fallback.onChecksumFailure(nowUs, this.sf, m);
    }
    this.assemblies.delete(m.ssn);
    this.accept(m.dsn, assembly.bytes, 0, m.lengthBytes);
    if (m.dll > m.lengthBytes) c.closing.onPeerDataFin(nowUs, m.dsn + m.lengthBytes, this.sf);
    return true;
  }

  private accept(dsn: number, buf: Uint8Array, offset: number, lengthBytes: number): void {
    const { receiver, host } = this.sf.connection;
    const { duplicateBytes } = receiver;
    receiver.accept(dsn, buf, offset, lengthBytes);
    if (receiver.duplicateBytes > duplicateBytes) host.count('MPTcpExtDuplicateData');
  }

  /** Bytes ahead of their mapping wait; too many of them are a middlebox at work (RFC 8684 3.3.1, 3.7). */
  private hold(nowUs: Micros, buf: Uint8Array, seq: number, offset: number, lengthBytes: number): boolean {
    const c = this.sf.connection;
    const capacityBytes = c.receiver.capacityBytes;
    const limitBytes = c.subflows.length > 1 ? Math.min(MAX_UNMAPPED_BYTES, capacityBytes) : capacityBytes;
    if (this.mappings.hold(seq, buf, offset, lengthBytes, limitBytes)) return true;
    c.host.count('drop_unmapped_window');
    c.resetSubflow(nowUs, this.sf, RST_REASON.middleboxInterference);
    return false;
  }

  /**
   * From `ssn` on, bytes are the stream as they come (infinite mapping, RFC 8684 3.3.1). Those that waited for a checksum or
   * a mapping go up now.
   */
  receiveAsStream(nowUs: Micros, ssn: number, dsn: number): void {
    this.mappings.setInfinite(ssn, dsn);
    const { receiver } = this.sf.connection;
    receiver.forgetFin();
    for (const [start, assembly] of this.assemblies) {
      if (start < ssn) continue;
      this.assemblies.delete(start);
      const at = dsn + start - ssn;
      assembly.forEachPresent((from, to) => receiver.accept(at + from, assembly.bytes, from, to - from));
    }
    this.deliverHeld(nowUs);
  }

  private deliverHeld(nowUs: Micros): void {
    for (const held of this.mappings.takeHeld()) this.deliver(nowUs, held.bytes, held.seq, 0, held.bytes.length);
  }

  /** The segment is done: bytes that waited may have their mapping now, and what was passed can be forgotten. */
  onSegmentDone(nowUs: Micros, hadPayload: boolean): void {
    const { rcvNxt } = this.sf.tcp;
    if (this.mappings.heldBytes > 0 && this.currentLength > 0) this.deliverHeld(nowUs);
    if (hadPayload) {
      const { receiver, closing } = this.sf.connection;
      // The DATA_FIN may have come before bytes that it follows (3.3.3).
      if (receiver.isFinished) closing.closeIfDone(nowUs);
      this.mappings.prune(rcvNxt);
      for (const [ssn, a] of this.assemblies) if (ssn + a.mapping.lengthBytes <= rcvNxt) this.assemblies.delete(ssn);
    }
    this.currentLength = 0;
  }
}
