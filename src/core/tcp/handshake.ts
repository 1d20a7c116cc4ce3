/**
 * SYN and SYN/ACK: numbers and options (RFC 9293 3.5, 3.10.7.2; RFC 7323 1.3, 2.2, 3.2; RFC 2018 2; RFC 3168 6.1.1), their
 * retransmission (RFC 6298 5.7), data in a SYN.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import { SegmentView, TCP_ACK, TCP_CWR, TCP_ECE } from '../wire/segment.js';
import type { Tcb } from './tcb.js';

/** RFC 7323 2.3: a larger shift is taken as this one. */
const MAX_SHIFT = 14;
/** SYNs that carry data; then perhaps somebody on the way drops those that do (RFC 7413 4.1.3, 7.1). */
const SYNS_WITH_DATA = 3;
/** Room for every option there may be, and nothing behind a path whose MTU is less than this is tried (RFC 8200 5). */
const SYN_OPTION_BYTES = 40;
const SYN_DATA_MTU_BYTES = 1280;

export class Handshake {
  /** A SYN or SYN/ACK leaves at the next poll. */
  isSynDue = false;
  retransmits = 0;
  deadlineUs: Micros = NEVER;
  #synSentUs: Micros = 0;
  #synData: Uint8Array | null = null;
  /** Our data for the SYN, as much as fits. */
  #offered: Uint8Array = NO_DATA;
  /** Bytes of the peer's SYN that the owner has taken. */
  takenBytes = 0;
  hasTakenData = false;
  /** The SYN/ACK has to wait. */
  isHeld = false;
  /** The SYN/ACK left, and the data of the SYN was taken: data may follow. */
  isEarly = false;

  constructor(private readonly tcb: Tcb) {}

  /** Takes the peer's SYN or SYN/ACK; `irs` of the subflow is set already. */
  onPeerSyn(nowUs: Micros, seg: SegmentView): void {
    const { negotiated: n, ts, receiver, sender, config } = this.tcb;
    const isSynAck = (seg.flags & TCP_ACK) !== 0;
    n.offerWscale &&= seg.wscale >= 0;
    n.sendShift = n.offerWscale ? Math.min(seg.wscale, MAX_SHIFT) : 0;
    n.receiveShift = n.offerWscale ? config.windowScale : 0;
    n.offerSack &&= seg.sackPermitted;
    n.sack = n.offerSack;
    n.offerTs &&= seg.hasTs;
    ts.enabled = n.offerTs;
    if (n.offerTs) ts.onSyn(nowUs, seg.tsVal);
    // A SYN says ECE and CWR, a SYN/ACK only ECE.
    const marks = seg.flags & (TCP_ECE | TCP_CWR);
    n.offerEcn &&= marks === (isSynAck ? TCP_ECE : TCP_ECE | TCP_CWR);
    n.ecn = n.offerEcn;
    receiver.onSyn(0);
    sender.onPeerSyn(nowUs, seg, n.sack, n.ecn);
  }

  get mayAnswer(): boolean {
    return this.isSynDue && !this.isHeld;
  }

  /** Data for our SYN. Whoever is to take it may have less room than we (RFC 7413 4.2.1): it goes where IPv6 does. */
  offerData(data: Uint8Array): void {
    const { config, sf } = this.tcb;
    const headerBytes = (sf.flow.family === 6 ? 40 : 20) + 20 + SYN_OPTION_BYTES;
    this.#offered = data.subarray(0, Math.max(0, Math.min(config.mtuBytes, SYN_DATA_MTU_BYTES) - headerBytes));
  }

  /** Most that a SYN/ACK may acknowledge of it. */
  get offeredBytes(): number {
    return this.#offered.length;
  }

  get dataForSyn(): Uint8Array {
    return this.retransmits < SYNS_WITH_DATA ? this.#offered : NO_DATA;
  }

  /** The owner has the SYN's data: it counts as part of the SYN. */
  takeData(syn: SegmentView): void {
    const { sf } = this.tcb;
    this.hasTakenData = syn.payloadLen > 0;
    this.takenBytes = syn.payloadLen;
    sf.irs = (syn.seq + syn.payloadLen) >>> 0;
  }

  /** T23, RFC 9293 3.10.7.2: data in a SYN is kept (one segment's worth) until the handshake is complete. */
  keepData(syn: SegmentView): void {
    const bytes = Math.min(syn.payloadLen, this.tcb.negotiated.localMss);
    if (bytes <= 0) return;
    this.#synData = syn.buf.slice(syn.payloadOff, syn.payloadOff + bytes);
    this.tcb.receiver.onSyn(bytes);
  }

  onSynSent(nowUs: Micros): void {
    this.isSynDue = false;
    this.#synSentUs = nowUs;
    this.deadlineUs = nowUs + this.tcb.rtt.backedOffUs(this.retransmits);
  }

  /** Our SYN/ACK left before there was this subflow; `sentUs` NEVER: when is not known. */
  onAnswered(nowUs: Micros, sentUs: Micros): void {
    const { receiver, owner, sf } = this.tcb;
    this.onSynSent(nowUs);
    this.#synSentUs = sentUs;
    receiver.advertise(Math.min(owner.windowBytes(sf), 0xffff), 0, false);
    receiver.onAckSent(false);
  }

  /** Our SYN is acknowledged by `seg`, at `seq` relative: the connection is established. */
  complete(nowUs: Micros, seg: SegmentView, seq: number): void {
    const { tcb } = this;
    tcb.sender.onSynAcked(nowUs, seq, this.retransmits);
    this.#measure(nowUs, seg);
    this.isSynDue = false;
    this.deadlineUs = NEVER;
    tcb.state = 'established';
    tcb.owner.onEstablished(nowUs, tcb.sf);
    if (this.#synData !== null && tcb.isOpen) this.#deliverData(nowUs, this.#synData);
    tcb.closing.onEstablished(nowUs);
  }

  #measure(nowUs: Micros, seg: SegmentView): void {
    const { rtt, ts, config } = this.tcb;
    if (this.#synSentUs === NEVER) return;
    if (this.retransmits === 0) {
      rtt.onSample(nowUs, nowUs - this.#synSentUs, 1);
      return;
    }
    const ageUs = ts.enabled && seg.hasTs ? ts.ageUs(nowUs, seg.tsEcr) : 0;
    if (ageUs > 0 && ageUs < config.maxRtoUs) rtt.onSample(nowUs, ageUs, 1);
    rtt.onSynRetransmitted(); // RFC 6298 5.7
  }

  #deliverData(nowUs: Micros, data: Uint8Array): void {
    const { owner, sf, stats } = this.tcb;
    const view = new SegmentView();
    view.buf = data;
    view.payloadLen = data.length;
    this.#synData = null;
    owner.onPayload(nowUs, sf, view, 1, 0, data.length);
    stats.bytesReceived += data.length;
  }

  onTimer(nowUs: Micros): void {
    const { config, rtt, negotiated, closing } = this.tcb;
    if (nowUs < this.deadlineUs) return;
    if (this.retransmits >= config.synRetries) {
      closing.close(nowUs, 'timeout');
      return;
    }
    this.retransmits++;
    this.isSynDue = true;
    negotiated.offerEcn = false; // RFC 3168 6.1.1.1: perhaps somebody drops ECN-setup SYNs
    this.deadlineUs = nowUs + rtt.backedOffUs(this.retransmits);
  }

  /** The path may be back: asks at once, without the back-off. */
  kick(): void {
    this.retransmits = 0;
    this.isSynDue = true;
  }
}

const NO_DATA = new Uint8Array(0);
