/**
 * BBR: paces at the measured bottleneck rate and bounds the bytes in flight by the measured bandwidth-delay product, so that
 * random loss does not slow it down and its own queue stays short. The state machine is version 1's (draft-cardwell-
 * iccrg-bbr-congestion-control-00, §4); from later versions and from our links' needs come:
 *  - heavy loss is obeyed (version 1 ignores all): startup ends, rate and flight are cut to what was delivered;
 *  - startup's flight is bounded by 2 BDP and PROBE_RTT keeps three quarters of a BDP instead of four segments; the minimum
 *    RTT is what is measured while it does, not what a queue made of it when it began;
 *  - an RTT sample close to the minimum confirms it, which spares most PROBE_RTTs;
 *  - the allowance for aggregated ACKs (version 2) that WiFi needs;
 *  - what an earlier connection measured on the path shortens startup, by the rules of careful resume (draft-ietf-tsvwg-
 *    careful-resume): after a first window without loss, at the round-trip time known, half the rate known is tried for a
 *    round. The model itself is only ever made of own samples, and is all there is when that round has been heard of.
 */
import type { Micros } from '../base/time.js';
import { NEVER, US_PER_S } from '../base/time.js';
import type { AckSample, CongestionConfig, CongestionController, KnownPath } from './controller.js';
import { MaxFilter } from './max-filter.js';

// The draft's constants.
const STARTUP_PACING_GAIN = 2.77; // 4 ln 2: the least that doubles the rate each round
const DRAIN_PACING_GAIN = 1 / STARTUP_PACING_GAIN;
const CWND_GAIN = 2;
const PROBE_BW_GAINS = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const;
const UP = 0;
const DOWN = 1;
const BW_WINDOW_ROUNDS = 10;
const FULL_BW_GROWTH = 1.25;
const FULL_BW_ROUNDS = 3;
const MIN_RTT_WINDOW_US = 10_000_000;
const PROBE_RTT_US = 200_000;
const MIN_CWND_SEGMENTS = 4;

// Our own choices.
/** A round is one of heavy loss above this share lost: far from the 1-2 % of a bad radio, far below an overflow's half. */
const HEAVY_LOSS = 0.05;
/** … and with at least this many segments lost, so that small windows do not see heavy loss in bad luck. */
const HEAVY_LOSS_SEGMENTS = 6;
/** What heavy loss or a mark multiplies rate and flight by. */
const CUT = 0.85;
/** DOWN ends when the flight is one BDP and as many segments as delayed ACKs hold back. */
const DRAINED_SEGMENTS = 2;
/** After this many rounds with a queue that deliver below this share of the estimate, the link has become slower. */
const SLOWED_ROUNDS = 3;
const SLOWED_SHARE = 0.5;
const SLOWED_RTT = 2;
/** An RTT sample within this of the minimum (an eighth, or 1 ms) confirms it. */
const MIN_RTT_TOLERANCE = 1.125;
const MIN_RTT_TOLERANCE_US = 1_000;
/** … but a flow that joined others' queue would confirm that queue for ever, so PROBE_RTT comes at least this often, */
const MIN_RTT_UNPROBED_US = 30_000_000;
/** and this soon after the first sample. */
const FIRST_PROBE_RTT_US = 5_000_000;
/** Kept in flight meanwhile. Flows behind one queue take theirs together; with half a BDP the link then stands half idle. */
const PROBE_RTT_BDPS = 0.75;
/** A PROBE_RTT that measures this many times the old minimum has found another path; it is repeated so soon. */
const OTHER_RTT = 1.5;
const REPROBE_RTT_US = 1_000_000;
/** Super-packets and the ACK clock's own lumps: this many sending quanta above the BDP. */
const QUANTA = 3;
const QUANTUM_US = 1_000;
const EXTRA_ACKED_WINDOW_ROUNDS = 10;
const EXTRA_ACKED_MAX_US = 100_000;
/** Of the rate known from an earlier connection, this much is tried at once. */
const RESUME_SHARE = 0.5;
/** … if the round trip is not this many times longer or shorter than it was. */
const RESUME_RTT_RATIO = 2;

type Mode = 'startup' | 'drain' | 'probe-bw' | 'probe-rtt';

export class Bbr implements CongestionController {
  readonly name = 'bbr';
  readonly ssthreshBytes = Number.POSITIVE_INFINITY;

  readonly #recall: CongestionConfig['recall'];
  /** Startup has not yet asked what is known of the path. */
  #mayResume = true;
  /** Until this much is delivered, pace and flight are not the model's but what was known; and what was lost meanwhile. */
  #resumedUntilDelivered = 0;
  #resumedLostBytes = 0;
  #bwSeenUs: Micros = 0;
  #mssBytes: number;
  #initialCwndBytes: number;
  #cwnd: number;
  #pacingRate = Number.POSITIVE_INFINITY;
  #mode: Mode = 'startup';
  #pacingGain = STARTUP_PACING_GAIN;

  // Rounds (draft §4.1.1.3): a round ends when what was sent at its start is delivered.
  #round = 0;
  #roundEndDelivered = 0;
  #roundLostBytes = 0;
  #roundDeliveredBytes = 0;
  #roundMaxRate = 0;
  /** Until what a timeout left is repaired, the window is not the path's, and rates are our own doing. */
  #isAfterRto = false;

  // The model: bottleneck rate (bytes/s), round-trip time, and what heavy loss says about both.
  readonly #bw = new MaxFilter(BW_WINDOW_ROUNDS);
  #minRttUs: Micros = 0;
  /** When a sample last agreed with minRttUs, and when one was last taken with little of our own in flight. */
  #minRttSeenUs: Micros = 0;
  #minRttProbedUs: Micros = 0;
  #bwBound = Number.POSITIVE_INFINITY;
  #inFlightBound = Number.POSITIVE_INFINITY;
  /** Rates below the maximum are our own doing until this much is delivered (PROBE_RTT). */
  #selfLimitedUntilDelivered = 0;

  // Startup (§4.3.2).
  #fullBw = 0;
  #fullBwRounds = 0;
  #isPipeFilled = false;

  // Rounds that say that the link has become slower, and the best rate among them.
  #slowedRounds = 0;
  #slowedMaxRate = 0;

  // PROBE_BW (§4.3.4) and PROBE_RTT (§4.3.5).
  #phase = 0;
  #phaseStartUs: Micros = 0;
  /** A mark came since the phase, or this round of UP, began. */
  #isMarked = false;
  #probeRttDoneUs: Micros = 0;
  #isProbeRttRepeated = false;
  #probedRttUs: Micros = NEVER;
  #probedRate = 0;
  #priorCwnd = 0;
  #isIdleRestart = false;

  // Aggregated ACKs: bytes beyond rate x time within a sampling epoch.
  readonly #extraAcked = new MaxFilter(EXTRA_ACKED_WINDOW_ROUNDS);
  #ackEpochUs: Micros = 0;
  #ackEpochBytes = 0;

  static create(config: CongestionConfig): Bbr {
    return new Bbr(config);
  }

  constructor(config: CongestionConfig) {
    this.#recall = config.recall;
    this.#mssBytes = config.mssBytes;
    this.#initialCwndBytes = config.initialCwndSegments * config.mssBytes;
    this.#cwnd = this.#initialCwndBytes;
  }

  get cwndBytes(): number {
    return Math.floor(this.#cwnd);
  }

  get pacingRateBytesPerS(): number {
    return this.#pacingRate;
  }

  get inSlowStart(): boolean {
    return this.#mode === 'startup';
  }

  get knownPath(): KnownPath | null {
    if (this.#minRttUs === 0 || this.#bwSeenUs === 0) return null;
    return {
      rateBytesPerS: this.#boundedBw(),
      isWhole: this.#isPipeFilled,
      minRttUs: this.#minRttUs,
      measuredUs: this.#bwSeenUs,
    };
  }

  /** For status and traces: startup, drain, probe-bw or probe-rtt. */
  get mode(): string {
    return this.#mode;
  }

  onSent(_nowUs: Micros, _bytes: number, _inFlightBytes: number): void {}

  onAck(sample: AckSample): void {
    const isRoundStart = this.#countRound(sample);
    this.#measureBw(sample);
    this.#measureExtraAcked(sample);
    if (isRoundStart) this.#judgeRound(sample);
    this.#advance(sample);
    this.#measureMinRtt(sample);
    this.#setPacingRate(sample);
    this.#setCwnd(sample);
    if (this.#resumedUntilDelivered > 0) this.#validate(sample);
    else if (this.#mayResume && sample.totalDeliveredBytes >= this.#initialCwndBytes) this.#resume(sample);
    if (sample.deliveredBytes > 0) this.#isIdleRestart = false;
  }

  onCongestionEvent(_nowUs: Micros, inFlightBytes: number, kind: 'loss' | 'ecn'): void {
    this.#saveCwnd();
    // Loss is judged per round in onAck; a mark (RFC 3168) asks for less at once.
    if (kind !== 'ecn') return;
    this.#isMarked = true;
    this.#boundInFlight(inFlightBytes, CUT * this.#bdpBytes());
  }

  onRecoveryExit(_nowUs: Micros): void {
    this.#cwnd = Math.max(this.#cwnd, this.#priorCwnd);
    this.#priorCwnd = 0;
    this.#isAfterRto = false;
  }

  onRto(_nowUs: Micros, _inFlightBytes: number): void {
    this.#saveCwnd();
    // Everything in flight is presumed lost: start with one segment, as RFC 5681 (4) and Linux do.
    this.#cwnd = this.#mssBytes;
    this.#fullBw = 0;
    this.#isAfterRto = true;
  }

  onUndo(_nowUs: Micros): void {
    this.#cwnd = Math.max(this.#cwnd, this.#priorCwnd);
    this.#isAfterRto = false;
    this.#fullBw = 0;
    this.#fullBwRounds = 0;
    this.#bwBound = Number.POSITIVE_INFINITY;
    this.#inFlightBound = Number.POSITIVE_INFINITY;
  }

  /** The model outlives idleness; only the gain is taken back, so that a restart is no burst (§4.2.1). */
  onIdleRestart(nowUs: Micros, _idleUs: Micros, _rtoUs: Micros): void {
    this.#isIdleRestart = true;
    this.#ackEpochUs = nowUs;
    this.#ackEpochBytes = 0;
    if (this.#mode === 'probe-bw' && this.#bw.max > 0) this.#pacingRate = this.#boundedBw();
  }

  /** Startup again; only the counts of rounds and of bytes go on. */
  onPathRestart(nowUs: Micros): void {
    this.onUndo(nowUs);
    this.#cwnd = this.#initialCwndBytes;
    this.#priorCwnd = 0;
    this.#pacingRate = Number.POSITIVE_INFINITY;
    this.#mode = 'startup';
    this.#pacingGain = STARTUP_PACING_GAIN;
    this.#isPipeFilled = false;
    this.#resumedUntilDelivered = 0;
    this.#bw.reset(this.#round, 0);
    this.#extraAcked.reset(this.#round, 0);
    this.#minRttUs = 0;
    this.#minRttSeenUs = nowUs;
    this.#selfLimitedUntilDelivered = 0;
    this.#slowedRounds = 0;
    this.#slowedMaxRate = 0;
    this.#roundLostBytes = 0;
    this.#roundDeliveredBytes = 0;
    this.#roundMaxRate = 0;
    this.#ackEpochUs = nowUs;
    this.#ackEpochBytes = 0;
  }

  onMssChange(mssBytes: number): void {
    this.#mssBytes = mssBytes;
    this.#cwnd = Math.max(this.#cwnd, MIN_CWND_SEGMENTS * mssBytes);
  }

  onInitialWindow(windowBytes: number): void {
    this.#initialCwndBytes = windowBytes;
    this.#cwnd = windowBytes;
  }

  // --- the model -----------------------------------------------------------------------------------------------------

  #countRound(sample: AckSample): boolean {
    const isRoundStart = sample.deliveredBytes > 0 && sample.priorDeliveredBytes >= this.#roundEndDelivered;
    if (isRoundStart) {
      this.#roundEndDelivered = sample.totalDeliveredBytes;
      // Rounds of single retransmissions do not make the estimates older.
      if (!this.#isAfterRto) this.#round++;
    }
    this.#roundLostBytes += sample.lostBytes;
    this.#roundDeliveredBytes += sample.deliveredBytes;
    return isRoundStart;
  }

  #measureBw(sample: AckSample): void {
    const rate = sample.rateBytesPerS;
    if (rate <= 0) return;
    this.#roundMaxRate = Math.max(this.#roundMaxRate, rate);
    const isSelfLimited = sample.isAppLimited || sample.priorDeliveredBytes < this.#selfLimitedUntilDelivered;
    if (isSelfLimited && rate < this.#bw.max) return;
    this.#bw.update(this.#round, rate);
    this.#bwSeenUs = sample.nowUs;
  }

  #measureMinRtt(sample: AckSample): void {
    const { nowUs, rttUs } = sample;
    const isExpired =
      nowUs > this.#minRttSeenUs + MIN_RTT_WINDOW_US || nowUs > this.#minRttProbedUs + MIN_RTT_UNPROBED_US;
    const mustProbe = isExpired && !this.#isIdleRestart && this.#isPipeFilled;
    if (rttUs > 0) {
      const tolerated = Math.max(this.#minRttUs * MIN_RTT_TOLERANCE, this.#minRttUs + MIN_RTT_TOLERANCE_US);
      if (this.#minRttUs === 0) this.#minRttProbedUs = nowUs - MIN_RTT_UNPROBED_US + FIRST_PROBE_RTT_US;
      const isReplaced = isExpired && !mustProbe;
      if (this.#minRttUs === 0 || rttUs <= this.#minRttUs || isReplaced) this.#minRttUs = rttUs;
      if (rttUs <= tolerated || isReplaced) this.#minRttSeenUs = nowUs;
      // A flight as small as PROBE_RTT's is as good as one.
      if (sample.priorInFlightBytes <= this.#probeRttCwnd()) this.#minRttProbedUs = nowUs;
    }
    if (mustProbe && this.#mode !== 'probe-rtt') {
      this.#saveCwnd();
      this.#mode = 'probe-rtt';
      this.#pacingGain = 1;
      this.#probeRttDoneUs = 0;
      this.#isProbeRttRepeated = false;
    }
    if (this.#mode === 'probe-rtt') this.#probeRtt(sample);
  }

  #probeRtt(sample: AckSample): void {
    this.#selfLimitedUntilDelivered = sample.totalDeliveredBytes + sample.inFlightBytes;
    if (this.#probeRttDoneUs === 0) {
      if (sample.inFlightBytes <= this.#probeRttCwnd()) {
        this.#probeRttDoneUs = sample.nowUs + Math.max(PROBE_RTT_US, this.#minRttUs);
        this.#probedRttUs = NEVER;
        this.#probedRate = 0;
      }
      return;
    }
    if (sample.rttUs > 0) this.#probedRttUs = Math.min(this.#probedRttUs, sample.rttUs);
    if (sample.rateBytesPerS > 0) this.#probedRate = sample.rateBytesPerS;
    if (sample.nowUs > this.#probeRttDoneUs) {
      // The path has changed in the midst of it: what was measured is of neither.
      if (sample.rttUs > OTHER_RTT * this.#probedRttUs && !this.#isProbeRttRepeated) {
        this.#isProbeRttRepeated = true;
        this.#probeRttDoneUs = 0;
        return;
      }
      this.#minRttSeenUs = sample.nowUs;
      this.#minRttProbedUs = sample.nowUs;
      if (this.#probedRttUs < NEVER) this.#takeProbedRtt();
      this.#cwnd = Math.max(this.#cwnd, this.#priorCwnd);
      this.#priorCwnd = 0;
      this.#enterProbeBw(sample.nowUs);
    }
  }

  /**
   * A longer round trip with half a BDP in flight: another path, or a slower one. Its rate is found as at the start, and
   * then the minimum, which may have some of our own queue in it, once more.
   */
  #takeProbedRtt(): void {
    const isOther = this.#probedRttUs > OTHER_RTT * this.#minRttUs && this.#probedRate > 0;
    this.#minRttUs = this.#probedRttUs;
    if (!isOther) return;
    this.#bw.reset(this.#round, this.#probedRate);
    this.#isPipeFilled = false;
    this.#fullBw = 0;
    this.#fullBwRounds = 0;
    this.#priorCwnd = 0;
    this.#pacingRate = this.#probedRate;
    this.#minRttProbedUs += REPROBE_RTT_US - MIN_RTT_UNPROBED_US;
  }

  #measureExtraAcked(sample: AckSample): void {
    if (sample.deliveredBytes <= 0) return;
    const bw = this.#bw.max;
    const expected = (bw * (sample.nowUs - this.#ackEpochUs)) / US_PER_S;
    if (this.#ackEpochBytes <= expected) {
      this.#ackEpochUs = sample.nowUs;
      this.#ackEpochBytes = sample.deliveredBytes;
      this.#extraAcked.update(this.#round, Math.min(sample.deliveredBytes, this.#cwnd));
      return;
    }
    this.#ackEpochBytes += sample.deliveredBytes;
    this.#extraAcked.update(this.#round, Math.min(this.#ackEpochBytes - expected, this.#cwnd));
  }

  /** At the end of a round: what it delivered and lost. */
  #judgeRound(sample: AckSample): void {
    const lost = this.#roundLostBytes;
    const isHeavy =
      lost >= HEAVY_LOSS_SEGMENTS * this.#mssBytes && lost > HEAVY_LOSS * (lost + this.#roundDeliveredBytes);
    if (!this.#isPipeFilled) this.#judgeStartup(sample, isHeavy);
    else this.#judgeRate(sample);
    if (isHeavy) this.#obeyHeavyLoss();
    this.#roundLostBytes = 0;
    this.#roundDeliveredBytes = 0;
    this.#roundMaxRate = 0;
  }

  #judgeStartup(sample: AckSample, isHeavy: boolean): void {
    if (isHeavy) this.#isPipeFilled = true;
    if (sample.isAppLimited || this.#isAfterRto) return;
    if (this.#bw.max >= this.#fullBw * FULL_BW_GROWTH) {
      this.#fullBw = this.#bw.max;
      this.#fullBwRounds = 0;
    } else if (++this.#fullBwRounds >= FULL_BW_ROUNDS) {
      this.#isPipeFilled = true;
    }
  }

  /** Ten rounds of an outdated estimate are long when each is stretched by the queue that it causes. */
  #judgeRate(sample: AckSample): void {
    const isSlowed =
      !sample.isAppLimited &&
      this.#mode === 'probe-bw' &&
      this.#roundMaxRate < SLOWED_SHARE * this.#bw.max &&
      sample.rttUs > SLOWED_RTT * this.#minRttUs;
    if (!isSlowed) {
      this.#slowedRounds = 0;
      this.#slowedMaxRate = 0;
      return;
    }
    this.#slowedMaxRate = Math.max(this.#slowedMaxRate, this.#roundMaxRate);
    if (++this.#slowedRounds < SLOWED_ROUNDS) return;
    this.#bw.reset(this.#round, this.#slowedMaxRate);
    this.#slowedRounds = 0;
    this.#slowedMaxRate = 0;
  }

  /** Cuts rate and flight, but never below what the path has just delivered; UP asks for more again. */
  #obeyHeavyLoss(): void {
    if (this.#bw.max <= 0) return;
    this.#bwBound = Math.max(this.#roundMaxRate, CUT * Math.min(this.#bwBound, this.#bw.max));
    this.#boundInFlight(CWND_GAIN * this.#bdpBytes(), this.#roundDeliveredBytes);
  }

  #boundInFlight(inFlightBytes: number, floorBytes: number): void {
    this.#inFlightBound = Math.max(floorBytes, CUT * Math.min(this.#inFlightBound, inFlightBytes));
  }

  /** The first window was delivered. */
  #resume(sample: AckSample): void {
    if (sample.rttUs <= 0 || (sample.isAppLimited && this.#mode === 'startup')) return;
    this.#mayResume = false;
    if (this.#mode !== 'startup' || sample.inRecovery || this.#roundLostBytes > 0 || this.#isAfterRto) return;
    const known = this.#recall?.(sample.nowUs, this) ?? null;
    if (known === null) return;
    const ratio = this.#minRttUs / known.minRttUs;
    if (ratio > RESUME_RTT_RATIO || ratio < 1 / RESUME_RTT_RATIO) return;
    const rate = RESUME_SHARE * known.rateBytesPerS;
    if (rate <= this.#pacingRate) return;
    this.#pacingRate = rate;
    const flightBytes = (rate * this.#minRttUs) / US_PER_S + QUANTA * ((rate * QUANTUM_US) / US_PER_S);
    this.#cwnd = Math.max(this.#cwnd, flightBytes);
    this.#resumedUntilDelivered = sample.totalDeliveredBytes + sample.inFlightBytes + flightBytes;
    this.#resumedLostBytes = 0;
  }

  /** What was tried has arrived, or is getting lost: from here on the model counts, also where it says less. */
  #validate(sample: AckSample): void {
    this.#resumedLostBytes += sample.lostBytes;
    const toleratedBytes = Math.max(HEAVY_LOSS_SEGMENTS * this.#mssBytes, HEAVY_LOSS * this.#cwnd);
    const isRefused = this.#resumedLostBytes >= toleratedBytes;
    if (!isRefused && sample.totalDeliveredBytes + this.#resumedLostBytes < this.#resumedUntilDelivered) return;
    this.#resumedUntilDelivered = 0;
    if (this.#boundedBw() > 0) this.#pacingRate = this.#pacingGain * this.#boundedBw();
    this.#cwnd = Math.min(this.#cwnd, this.#targetBytes(CWND_GAIN));
  }

  // --- the state machine -----------------------------------------------------------------------------------------------

  #advance(sample: AckSample): void {
    if (this.#mode === 'startup' && this.#isPipeFilled) {
      this.#mode = 'drain';
      this.#pacingGain = DRAIN_PACING_GAIN;
    }
    if (this.#mode === 'drain' && sample.inFlightBytes <= this.#bdpBytes()) this.#enterProbeBw(sample.nowUs);
    else if (this.#mode === 'probe-bw') this.#cycle(sample);
  }

  #enterProbeBw(nowUs: Micros): void {
    if (!this.#isPipeFilled) {
      this.#mode = 'startup';
      this.#pacingGain = STARTUP_PACING_GAIN;
      return;
    }
    this.#mode = 'probe-bw';
    // Any phase but DOWN, spread by the clock so that flows do not probe together.
    const offset = Math.floor(nowUs) % (PROBE_BW_GAINS.length - 1);
    this.#setPhase(nowUs, offset === UP ? UP : offset + 1);
  }

  #cycle(sample: AckSample): void {
    const isFullLength = sample.nowUs - this.#phaseStartUs > this.#minRttUs;
    let isOver = isFullLength;
    if (this.#phase === UP) {
      // Long enough for the extra bytes to be in flight, unless the path is already losing some.
      isOver = isFullLength && (sample.lostBytes > 0 || sample.priorInFlightBytes >= this.#targetBytes(1.25));
      // A bound from earlier keeps the flight below that, and UP would never end: a step for each round without a mark.
      if (isFullLength && !isOver && sample.priorInFlightBytes + this.#mssBytes > this.#inFlightBound) {
        if (!this.#isMarked) this.#setPhase(sample.nowUs, UP);
        this.#isMarked = false;
        this.#phaseStartUs = sample.nowUs;
      }
    } else if (this.#phase === DOWN) {
      // Version 1 stops after one RTT; a standing queue would then never be drained.
      isOver = sample.inFlightBytes <= this.#bdpBytes() + DRAINED_SEGMENTS * this.#mssBytes;
    }
    if (isOver) this.#setPhase(sample.nowUs, (this.#phase + 1) % PROBE_BW_GAINS.length);
  }

  #setPhase(nowUs: Micros, phase: number): void {
    this.#phase = phase;
    this.#phaseStartUs = nowUs;
    this.#isMarked = false;
    this.#pacingGain = PROBE_BW_GAINS[phase]!;
    if (phase !== UP) return;
    // What heavy loss took away is asked for again a step at a time.
    this.#bwBound = Number.POSITIVE_INFINITY;
    this.#inFlightBound *= 1.25;
    if (this.#inFlightBound > CWND_GAIN * this.#bdpBytes()) this.#inFlightBound = Number.POSITIVE_INFINITY;
  }

  // --- the answers -----------------------------------------------------------------------------------------------------

  #setPacingRate(sample: AckSample): void {
    // The initial window in a round trip, also where the first samples are of less: a handshake's, a request's.
    if (!Number.isFinite(this.#pacingRate) && sample.srttUs > 0)
      this.#pacingRate = (STARTUP_PACING_GAIN * this.#cwnd * US_PER_S) / sample.srttUs;
    const rate = this.#pacingGain * this.#boundedBw();
    // Until the pipe is full a lower rate is only an early sample.
    if (rate > 0 && (this.#isPipeFilled || rate > this.#pacingRate)) this.#pacingRate = rate;
  }

  #setCwnd(sample: AckSample): void {
    const target = this.#targetBytes(CWND_GAIN) + this.#aggregationBytes();
    if (this.#isPipeFilled) this.#cwnd = Math.min(this.#cwnd + sample.deliveredBytes, target);
    else if (this.#cwnd < target || sample.totalDeliveredBytes < this.#initialCwndBytes) {
      this.#cwnd += sample.deliveredBytes;
    }
    if (this.#mode === 'probe-bw') this.#cwnd = Math.min(this.#cwnd, this.#inFlightBound);
    this.#cwnd = Math.max(this.#cwnd, MIN_CWND_SEGMENTS * this.#mssBytes);
    if (this.#mode === 'probe-rtt') this.#cwnd = Math.min(this.#cwnd, this.#probeRttCwnd());
  }

  #boundedBw(): number {
    return Math.min(this.#bw.max, this.#bwBound);
  }

  #bdpBytes(): number {
    return (this.#boundedBw() * this.#minRttUs) / US_PER_S;
  }

  #targetBytes(gain: number): number {
    if (this.#minRttUs === 0 || this.#bw.max === 0) return this.#initialCwndBytes;
    const quantum = Math.max(2 * this.#mssBytes, (this.#bw.max * QUANTUM_US) / US_PER_S);
    return Math.max(gain * this.#bdpBytes() + QUANTA * quantum, MIN_CWND_SEGMENTS * this.#mssBytes);
  }

  #aggregationBytes(): number {
    if (!this.#isPipeFilled) return 0;
    return Math.min(this.#extraAcked.max, (this.#bw.max * EXTRA_ACKED_MAX_US) / US_PER_S);
  }

  #probeRttCwnd(): number {
    return Math.max(PROBE_RTT_BDPS * this.#bdpBytes(), MIN_CWND_SEGMENTS * this.#mssBytes);
  }

  #saveCwnd(): void {
    this.#priorCwnd = Math.max(this.#priorCwnd, this.#cwnd);
  }
}
