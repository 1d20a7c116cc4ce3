/**
 * MP_FASTCLOSE on an ACK (RFC 8684 3.5, option A): one subflow says it and waits for the peer's RST (FASTCLOSE_WAIT), asks
 * again after each RTO, and ends with the RST of option R when nobody answers. The other subflows are reset at once. The
 * receiving side and option R are in closing.ts and connection.ts.
 */
import { type Micros, NEVER } from '../base/time.js';
import type { OptionVerdict } from '../tcp/owner.js';
import { MPO, type MptcpOptions, RST_REASON } from '../wire/mptcp-options.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

/** The first, and three repetitions (3.5 recommends 3). */
const FASTCLOSE_TRIES = 4;

export class FastClose {
  private waiting: MptcpSubflow | null = null;
  private tries = 0;
  private repeatAtUs: Micros = NEVER;

  constructor(private readonly c: Connection) {}

  /** FASTCLOSE_WAIT: nothing but the peer's RST counts. */
  get isWaiting(): boolean {
    return this.waiting !== null && this.waiting.closeReason === null;
  }

  nextDeadline(): Micros {
    return this.isWaiting ? this.repeatAtUs : NEVER;
  }

  /** False: there is no subflow to say it on. */
  start(nowUs: Micros): boolean {
    const { c } = this;
    const sf = c.subflows.find((s) => s.isConfirmed && s.tcp.isEstablished && !s.isLinkDown && !s.isStalled);
    if (sf === undefined) return false;
    for (const other of c.subflows) if (other !== sf) other.tcp.abort(nowUs, true);
    sf.isClosing = true;
    this.waiting = sf;
    c.closing.finish('aborted');
    this.say(nowUs, sf);
    return true;
  }

  onTimer(nowUs: Micros): void {
    const sf = this.waiting;
    if (sf === null || this.nextDeadline() > nowUs) return;
    if (this.tries < FASTCLOSE_TRIES) {
      this.say(nowUs, sf);
      return;
    }
    this.c.isAborting = true;
    sf.resetReason = RST_REASON.unspecified;
    sf.tcp.abort(nowUs, true);
  }

  /** A segment that is no RST, on the subflow that waits. An MP_FASTCLOSE: both ends had the same wish, a RST ends it. */
  onSegment(nowUs: Micros, o: MptcpOptions): OptionVerdict {
    const { c } = this;
    if ((o.present & MPO.fastclose) !== 0) {
      c.host.count('MPTcpExtMPFastcloseRx');
      if (c.keys.isFastcloseKey(o.fastcloseKeyHi, o.fastcloseKeyLo)) this.waiting?.tcp.abort(nowUs, true);
    }
    return 'drop';
  }

  private say(nowUs: Micros, sf: MptcpSubflow): void {
    const { hi, lo } = this.c.keys.fastcloseKey;
    sf.signal(nowUs, { kind: 'fastclose', keyHi: hi, keyLo: lo });
    this.repeatAtUs = nowUs + sf.tcp.rtt.backedOffUs(this.tries);
    this.tries++;
  }
}
