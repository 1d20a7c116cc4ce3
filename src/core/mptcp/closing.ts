/**
 * How a connection and its subflows end (RFC 8684 3.3.3, 3.5): DATA_FIN in both directions, then FINs; a FIN of one subflow;
 * MP_FASTCLOSE; no subflow left for too long. After a fallback, TCP's FIN is all there is (3.7).
 */
import { dsnHi, dsnLo } from '../base/seq.js';
import { type Micros, NEVER, US_PER_S } from '../base/time.js';
import type { CloseReason } from '../tcp/owner.js';
import { RST_REASON } from '../wire/mptcp-options.js';
import type { Connection } from './connection.js';
import { DATA_RTO_US } from './data-rto.js';
import { dssChecksumRange } from './keys.js';
import type { MptcpSubflow } from './subflow.js';

/** A connection without any subflow lives on this long for a break-before-make join (RFC 8684 3.3.3). */
const ORPHAN_TIMEOUT_US: Micros = 300 * US_PER_S;
/** A DATA_FIN said so often in vain, over two minutes, is given up as TCP would give up a FIN (RFC 9293 3.8.3, R2). */
const MAX_FIN_TRIES = 17;
/** After an MP_FAIL a peer that does not answer so many of them speaks TCP by now. */
const MAX_FIN_TRIES_UNDER_WAY = 3;

export class Closing {
  /** The connection is over; its subflows may have something to say yet. */
  isDone = false;
  /** TIME-WAIT of the connection: until then subflows wait for links that are gone. NEVER: none has to. */
  private lingerUntilUs: Micros = NEVER;
  private orphanAtUs: Micros = NEVER;
  private isEndRequestedOnTcp = false;

  constructor(private readonly c: Connection) {}

  nextDeadline(): Micros {
    const { sender } = this.c;
    const endsAtUs = Math.min(this.orphanAtUs, this.lingerUntilUs);
    return sender.isFinReady ? Math.min(endsAtUs, sender.finAtUs) : endsAtUs;
  }

  onTimer(nowUs: Micros): void {
    if (this.orphanAtUs <= nowUs) this.finish('no path for too long');
    if (this.lingerUntilUs > nowUs) return;
    this.lingerUntilUs = NEVER;
    for (const sf of this.c.subflows) if (sf.isLinkDown) sf.tcp.abort(nowUs, false);
  }

  // ---- our DATA_FIN

  /** Every poll: the DATA_FIN goes out once all bytes were taken, and again until it is acknowledged. */
  pumpDataFin(nowUs: Micros): void {
    const { c } = this;
    const s = c.sender;
    if (c.mode === 'tcp') {
      // A DATA_FIN that was acknowledged before the fallback does not spare the FIN: that is all the peer hears now (3.7).
      if (this.isEndRequestedOnTcp || !(s.isFinReady || s.finAcked)) return;
      this.isEndRequestedOnTcp = true;
      for (const sf of c.subflows) sf.tcp.sendFin(nowUs);
      c.host.markDirty(c);
      return;
    }
    if (c.mode !== 'mptcp' || !s.isFinReady || (s.finTries > 0 && s.finAtUs > nowUs)) return;
    if (s.finTries === MAX_FIN_TRIES) this.giveUpDataFin(nowUs);
    if (c.fallback.isUnderWay && s.finTries === MAX_FIN_TRIES_UNDER_WAY) {
      c.fallback.becomeTcp(nowUs, c.fallback.reason!);
      this.pumpDataFin(nowUs);
      return;
    }
    let sent = false;
    // A subflow that is ending itself says it only where no other can.
    const hasOpen = c.subflows.some((sf) => sf.isUsable && !sf.isStalled);
    for (const sf of c.subflows) {
      if (!sf.isConfirmed || !sf.tcp.isEstablished || (hasOpen && sf.isClosing)) continue;
      sf.isFinDue = true;
      sf.tcp.requestAck(nowUs);
      sent = true;
    }
    if (!sent) {
      s.finAtUs = nowUs + DATA_RTO_US;
      return;
    }
    s.onFinSent(nowUs);
    c.host.markDirty(c); // behind the last data it goes in this flush, but in its next round
  }

  /** Options do not pass on these subflows, one way or the other (3.7); another one may yet come. */
  private giveUpDataFin(nowUs: Micros): void {
    const { c } = this;
    c.sender.finTries = 0;
    for (const sf of c.subflows) {
      if (!sf.isConfirmed || !sf.tcp.isEstablished) continue;
      c.resetSubflow(nowUs, sf, sf.isStalled ? RST_REASON.unacceptablePerformance : RST_REASON.middleboxInterference);
    }
  }

  /** DSS checksum of our DATA_FIN alone: pseudo-header only (3.3.3). */
  finChecksum(): number {
    const { idsnLocal } = this.c.keys;
    const fin = this.c.sender.finDsn;
    return dssChecksumRange(dsnHi(fin, idsnLocal), dsnLo(fin, idsnLocal), 0, 1, NO_BYTES, 0, 0);
  }

  // ---- the peer's ends

  onPeerDataFin(nowUs: Micros, finDsn: number, sf: MptcpSubflow): void {
    this.c.receiver.setFin(finDsn);
    // DATA_ACKed at once, and again for every repetition (3.3.3).
    sf.tcp.requestAck(nowUs);
    this.closeIfDone(nowUs);
  }

  /** Both DATA_FINs are acknowledged: the subflows close with FINs (3.3.3). */
  closeIfDone(nowUs: Micros): void {
    const { c } = this;
    if (this.isDone || !c.receiver.isFinished || !c.sender.finAcked || c.mode !== 'mptcp') return;
    // The peer is done when it has our DATA_ACK, which a RST does not carry.
    const isHeard = c.subflows.some(mayBeHeard);
    for (const sf of c.subflows) this.endForGood(nowUs, sf, isHeard);
    this.finish('done');
  }

  /**
   * The connection needs `sf` no more. A FIN also where the path has failed, as a courtesy to middleboxes (3.3.3).
   * `isHeard`: there is a path that works. Where none is, the FIN with our last DATA_ACK waits for its link.
   */
  private endForGood(nowUs: Micros, sf: MptcpSubflow, isHeard: boolean): void {
    sf.isClosing = true;
    sf.isFinWaiting = false;
    if (isHeard && sf.isLinkDown) {
      sf.tcp.abort(nowUs, false);
    } else if (isHeard && sf.isStalled && sf.tcp.oldestUnackedSentUs !== NEVER) {
      // Behind bytes that reached the peer elsewhere a FIN would wait for a path that is dead (3.3.3).
      sf.resetReason = RST_REASON.tooMuchOutstanding;
      sf.tcp.abort(nowUs, true);
    } else {
      sf.tcp.setProbeInterval(0);
      sf.tcp.sendFin(nowUs, true);
      if (sf.isLinkDown) this.linger(nowUs, sf);
    }
  }

  /** The connection is over, and the link of `sf` has gone or come back. */
  onLinkState(nowUs: Micros, sf: MptcpSubflow): void {
    if (!sf.isLinkDown) sf.tcp.kick(nowUs);
    else if (this.c.subflows.some(mayBeHeard)) sf.tcp.abort(nowUs, false);
    else this.linger(nowUs, sf);
  }

  private linger(nowUs: Micros, sf: MptcpSubflow): void {
    if (this.lingerUntilUs === NEVER) this.lingerUntilUs = nowUs + sf.tcp.config.timeWaitUs;
  }

  /** With the right key: a RST on every subflow (3.5) but the one that a RST has just ended, `reset`. */
  onFastclose(nowUs: Micros, keyHi: number, keyLo: number, reset: MptcpSubflow | null): void {
    const { c } = this;
    c.host.count('MPTcpExtMPFastcloseRx');
    if (!c.keys.isFastcloseKey(keyHi, keyLo) || this.isDone) return;
    for (const sf of c.subflows) if (sf !== reset) sf.tcp.abort(nowUs, true);
    this.finish('fastclose received');
  }

  // ---- subflows

  /** With a FIN. Bytes that are on their way may be stuck there: they go again elsewhere first (3.3.3). */
  endSubflow(nowUs: Micros, sf: MptcpSubflow): void {
    this.c.reinjector.takeFrom(sf);
    sf.isClosing = true;
    this.finWhenSafe(nowUs, sf);
  }

  onSubflowFin(nowUs: Micros, sf: MptcpSubflow): void {
    const { c } = this;
    if (c.mode === 'tcp') {
      c.receiver.setFin(c.receiver.rcvNxt);
      this.closeIfDone(nowUs);
      return;
    }
    // A FIN ends this subflow only (3.3.3).
    if (!sf.isClosing) c.reinjector.takeFrom(sf);
    sf.isClosing = true;
    this.finWhenSafe(nowUs, sf);
    c.host.markDirty(c);
  }

  /** Every poll: FINs that waited for data to be acknowledged, or for another subflow. */
  pumpSubflowFins(nowUs: Micros): void {
    for (const sf of this.c.subflows) if (sf.isFinWaiting) this.finWhenSafe(nowUs, sf);
  }

  /** The last functioning subflow is not closed before all outstanding data is DATA_ACKed (3.3.3). */
  private finWhenSafe(nowUs: Micros, sf: MptcpSubflow): void {
    const { c } = this;
    const functions = (other: MptcpSubflow) => !other.isStalled && !other.isLinkDown && other.tcp.canSendData;
    const isLast = functions(sf) && !c.subflows.some((o) => o !== sf && o.isUsable && functions(o));
    sf.isFinWaiting = isLast && c.mode === 'mptcp' && !this.isDone && c.sender.unackedBytes > 0;
    if (sf.isFinWaiting) return;
    sf.isFinEarly ||= !this.isDone;
    sf.tcp.sendFin(nowUs, true);
  }

  /**
   * Both FINs are acknowledged and the peer's came first, which ends TCP. But the peer's answer to our DATA_FIN may be on its
   * way, or its own DATA_FIN come again: where no other subflow would hear it this one stays in TIME-WAIT (3.3.3, appendix D).
   */
  lingers(sf: MptcpSubflow): boolean {
    const { c } = this;
    return c.mode === 'mptcp' && sf.isFinEarly && !c.subflows.some((other) => other !== sf && mayBeHeard(other));
  }

  /** There is a subflow (again). */
  onSubflowAdded(): void {
    this.orphanAtUs = NEVER;
  }

  onSubflowClosed(nowUs: Micros, sf: MptcpSubflow, why: CloseReason): void {
    const { c } = this;
    if (why !== 'done') c.reinjector.takeFrom(sf);
    c.coupling.leave(sf.tcp.cc);
    if (sf.tcp.icmpCode >= 0) c.icmpCode = sf.tcp.icmpCode;
    const text = sf.resetReason > 0 && why === 'reset' ? `reset (reason ${sf.resetReason})` : why;
    // A RST is final unless it says otherwise (3.6); silence and errors of the network never are.
    const isPermanent = (why === 'reset' || why === 'refused') && !sf.isResetTransient;
    c.host.emit({
      type: 'subflow-closed',
      connectionId: c.id,
      subflowId: sf.id,
      linkId: sf.flow.linkId,
      why: text,
      isPermanent,
    });
    const isAlive = c.subflows.some((other) => other.closeReason === null);
    if (!isAlive && !this.isDone) {
      if (c.mode !== 'mptcp') this.finish(why === 'done' && this.isComplete ? 'done' : text);
      else this.orphanAtUs = nowUs + ORPHAN_TIMEOUT_US;
    }
    c.host.markDirty(c);
  }

  private get isComplete(): boolean {
    const { receiver, sender, mode } = this.c;
    return receiver.isFinished && (sender.finAcked || mode === 'tcp');
  }

  // ---- the end

  finish(why: string): void {
    const { c } = this;
    if (this.isDone) return;
    this.isDone = true;
    c.state = 'closed';
    this.orphanAtUs = NEVER;
    c.dataRto.stop();
    c.dispatcher.stop();
    c.sender.reinjections.clear();
    c.host.over(c);
    c.host.emit({ type: 'connection-closed', connectionId: c.id, why });
    c.host.markDirty(c);
  }
}

/** What goes out on `sf` is likely to arrive. */
function mayBeHeard(sf: MptcpSubflow): boolean {
  return sf.isConfirmed && !sf.isStalled && !sf.isLinkDown && sf.closeReason === null;
}

const NO_BYTES = new Uint8Array(0);
