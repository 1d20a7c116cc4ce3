/**
 * Which subflows work (DESIGN 3.4): one that is silent for too long, times out, loses its link or is suspected by the path
 * manager stalls; its bytes go again elsewhere, TCP probes it, and any sign of life takes it back. When silence is too long
 * and how often to probe is in stall.ts.
 */
import { ipEquals } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { RST_REASON } from '../wire/mptcp-options.js';
import type { Connection } from './connection.js';
import {
  giveUpAtUs,
  hasLostKeepalives,
  hasRecovered,
  isHopeless,
  probeIntervalUs,
  slowDownAtUs,
  suspicionAtUs,
  wasOutage,
} from './stall.js';
import type { MptcpSubflow } from './subflow.js';

export class PathHealth {
  private polledAtUs: Micros = 0;

  constructor(private readonly c: Connection) {}

  /** When `sf` is to be suspected, probed less often, given up. What was due at the last poll waits for other news. */
  nextDeadline(sf: MptcpSubflow): Micros {
    const slowAtUs = slowDownAtUs(sf);
    const suspectAtUs = suspicionAtUs(sf);
    const endAtUs = giveUpAtUs(sf);
    return Math.min(
      suspectAtUs > this.polledAtUs ? suspectAtUs : NEVER,
      slowAtUs > this.polledAtUs ? slowAtUs : NEVER,
      endAtUs > this.polledAtUs ? endAtUs : NEVER,
    );
  }

  /** Every poll. */
  check(nowUs: Micros): void {
    if (this.c.mode !== 'mptcp' || this.c.state === 'closed') return;
    for (const sf of this.c.subflows) {
      if (suspicionAtUs(sf) <= nowUs && this.hasAlternative(sf)) this.stall(nowUs, sf, 'no acknowledgment');
      else if (hasLostKeepalives(sf)) this.stall(nowUs, sf, 'keepalives unanswered');
      else if (giveUpAtUs(sf) <= nowUs && this.hasAlternative(sf)) {
        // Only now are its copies dropped (RFC 8684 3.3.6). The last subflow is the path manager's to judge.
        this.c.resetSubflow(nowUs, sf, RST_REASON.unacceptablePerformance);
      } else if (slowDownAtUs(sf) <= nowUs) this.slowDown(nowUs, sf);
    }
  }

  /** The poll is over: deadlines up to now have been served. */
  onPolled(nowUs: Micros): void {
    this.polledAtUs = nowUs;
  }

  /** A segment has arrived on `sf`. */
  onSegment(nowUs: Micros, sf: MptcpSubflow): void {
    if (hasRecovered(sf)) this.recover(nowUs, sf);
  }

  onRto(nowUs: Micros, sf: MptcpSubflow, count: number): void {
    if (this.c.mode !== 'mptcp' || this.c.state === 'closed') return;
    if (!sf.isStalled && (this.hasAlternative(sf) || isHopeless(count))) {
      this.stall(nowUs, sf, 'retransmission timeout');
    }
  }

  /** Up, down, or its addresses changed. */
  onLinkState(nowUs: Micros, linkId: number, isUp: boolean): void {
    const { c } = this;
    const addresses = isUp ? c.host.link(linkId)?.addresses : undefined;
    for (const sf of c.subflows) {
      if (sf.flow.linkId !== linkId) continue;
      const isThere = addresses?.some((a) => ipEquals(a, sf.flow.localAddress)) ?? isUp;
      if (sf.isLinkDown !== isThere) {
        if (isThere) this.onNews(nowUs, sf);
        continue;
      }
      sf.isLinkDown = !isThere;
      if (c.state === 'closed') c.closing.onLinkState(nowUs, sf);
      else if (!isThere) this.stall(nowUs, sf, isUp ? 'address gone' : 'link down');
      else {
        sf.askedSinceUs = nowUs;
        this.onNews(nowUs, sf);
        sf.tcp.kick(nowUs);
      }
    }
    c.host.markDirty(c);
  }

  /**
   * Something changed on the link of `sf`, or a packet arrived there: whatever silenced it may be over. Probes are quick
   * again, and the first is sent at once.
   */
  onNews(nowUs: Micros, sf: MptcpSubflow): void {
    if (!sf.isStalled || sf.isLinkDown) return;
    sf.quickSinceUs = nowUs;
    sf.tcp.setProbeInterval(probeIntervalUs(nowUs, nowUs));
    sf.tcp.kick(nowUs);
    this.c.host.noteSlowProbes(sf, false);
    this.c.host.markDirty(this.c);
  }

  suspect(nowUs: Micros, sf: MptcpSubflow, why: string): void {
    if (sf.isStalled) return;
    this.stall(nowUs, sf, why);
    // Somebody else says so: asked at once, a path that works after all is back within a round trip.
    sf.tcp.kick(nowUs);
  }

  private hasAlternative(sf: MptcpSubflow): boolean {
    return this.c.subflows.some((other) => other !== sf && other.isUsable && !other.isStalled);
  }

  private stall(nowUs: Micros, sf: MptcpSubflow, why: string): void {
    const { c } = this;
    if (!sf.isStalled) {
      sf.isStalled = true;
      sf.stalledAtUs = nowUs;
      sf.askedSinceUs = nowUs;
      sf.quickSinceUs = nowUs;
      sf.stallReason = why;
      c.host.count('MPTcpExtSubflowStale');
      c.host.emit({ type: 'subflow-stalled', connectionId: c.id, subflowId: sf.id, linkId: sf.flow.linkId, why });
    }
    c.reinjector.takeFrom(sf);
    sf.tcp.setProbeInterval(probeIntervalUs(nowUs, sf.quickSinceUs));
    c.host.markDirty(c);
  }

  private slowDown(nowUs: Micros, sf: MptcpSubflow): void {
    sf.tcp.setProbeInterval(probeIntervalUs(nowUs, sf.quickSinceUs));
    this.c.host.noteSlowProbes(sf, true);
  }

  private recover(nowUs: Micros, sf: MptcpSubflow): void {
    const { c } = this;
    sf.isStalled = false;
    sf.tcp.setProbeInterval(0);
    c.host.noteSlowProbes(sf, false);
    c.sender.reinjections.forget(sf.id);
    sf.priority.onRecovered(nowUs);
    if (wasOutage(nowUs, sf)) this.restart(nowUs, sf);
    c.host.count('MPTcpExtSubflowRecover');
    const stalledUs = nowUs - sf.stalledAtUs;
    c.host.emit({
      type: 'subflow-recovered',
      connectionId: c.id,
      subflowId: sf.id,
      linkId: sf.flow.linkId,
      stalledUs,
    });
  }

  /** It is measured anew, and the scheduler tries it again. */
  private restart(nowUs: Micros, sf: MptcpSubflow): void {
    sf.tcp.restartPath(nowUs);
    this.c.dispatcher.scheduler.forget?.(sf.id);
    this.c.host.count('path_restarted');
  }
}
