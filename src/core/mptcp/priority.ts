/**
 * MP_PRIO is a word on a pure ACK, and nobody acknowledges it (RFC 8684 3.3.8): one that is lost leaves a path out of use
 * for good. So proof is wanted that the ACK which carried it arrived: any segment that echoes a timestamp of ours from then
 * or later (RFC 7323 4.3). Where the path is too quiet for that, the peer is asked with an empty segment that it has to
 * answer; without proof the word is said again, less and less often.
 *
 *   said ─ 2 RTT ─> asked ─ 2 RTT ─> said again, asked ─ 4 RTT ─> … SAID_MAX times
 */
import { type Micros, NEVER, US_PER_MS } from '../base/time.js';
import type { MptcpSubflow } from './subflow.js';

const PROOF_RTTS = 2;
const MIN_WAIT_US = 50 * US_PER_MS;
/** A path that loses as many in a row has other troubles, and a recovery from them begins anew. */
const SAID_MAX = 6;

export class PriorityWord {
  checkAtUs: Micros = NEVER;
  private saidUs: Micros = NEVER;
  private times = 0;
  private hasAsked = false;

  constructor(private readonly sf: MptcpSubflow) {}

  /** Our wish is another one now. */
  say(nowUs: Micros): void {
    this.times = 0;
    this.hasAsked = false;
    this.repeat(nowUs);
  }

  /** The path works again; what was said meanwhile may be lost. */
  onRecovered(nowUs: Micros): void {
    if (this.saidUs !== NEVER && !this.sf.tcp.hasEchoed(this.saidUs)) this.say(nowUs);
  }

  /** The ACK that carries it leaves now, and not when it was wanted. */
  onSent(nowUs: Micros): void {
    this.saidUs = nowUs;
    this.wait(nowUs);
  }

  check(nowUs: Micros): void {
    if (nowUs < this.checkAtUs) return;
    this.checkAtUs = NEVER;
    // After a fallback nothing is said any more.
    if (this.sf.connection.mode !== 'mptcp' || this.sf.isStalled || this.sf.tcp.hasEchoed(this.saidUs)) return;
    if (this.hasAsked && this.times === SAID_MAX) return;
    if (this.hasAsked) this.repeat(nowUs);
    else this.wait(nowUs);
    this.hasAsked = true;
    this.sf.tcp.ask();
  }

  private repeat(nowUs: Micros): void {
    this.times++;
    this.saidUs = nowUs;
    this.wait(nowUs);
    this.sf.signal(nowUs, { kind: 'prio', backup: this.sf.isBackupWanted });
  }

  private wait(nowUs: Micros): void {
    const leastUs = Math.max(MIN_WAIT_US, PROOF_RTTS * this.sf.tcp.rtt.srttUs);
    this.checkAtUs = nowUs + leastUs * 2 ** (this.times - 1);
  }
}
