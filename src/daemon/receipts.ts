/**
 * Receipts of handovers (DESIGN 3.4): each time traffic moves off a path or onto one that returned, what it cost is measured
 * at this end and written down. Pure: time is an argument, what is measured comes through SessionFacts.
 *
 *   carriers change → a receipt is open → data flows again and the change is SETTLE_US old → the receipt is written
 *
 * The gap is the longest silence in what was delivered (delivery.ts), by whichever lane. Every silence counts for one
 * receipt only: a change that comes at once, or while the data still stands still, joins the receipt that is open.
 */
import type { HandoverCause, HandoverReceipt } from '../control/protocol.js';
import { type Micros, NEVER } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';
import type { PacketLane } from '../core/lanes/packet-lane.js';
import { DeliveryTrack } from './delivery.js';

/** How long after a change the data is watched. */
const SETTLE_US = 1_000_000;
/** What was found out from silence began before; what the link told or a person ordered did not, but may be told late. */
const LOOK_BACK_US = 1_000_000;
const LOOK_BACK_TOLD_US = 50_000;
/** A silence that lasts at the change is its, if it is not older than this (a transfer that ended just before is not). */
const TOLD_LATE_US = 500_000;
/** A change so soon after another is the same disturbance: what was on its way makes a dead path look alive for a moment. */
const SAME_US = 500_000;
/** Data stands still when nothing has come for so long, and is then waited for; a packet now and then comes slower. */
const STILL_US = 50_000;
/** Data that has not come back for so long after a path was there is not waited for. */
const GIVE_UP_US = 10_000_000;
/** Counters are kept this often, and a receipt starts from those of at least a moment before its change. */
const BASELINE_AGE_US = 500_000;
const KEPT_BASELINES = 4;
/** Carriers that were back like before within a receipt, with no gap longer than this: nothing has been handed over. */
const BLIP_US = 50_000;

/** An inner flow that sent in this time before a handover is one that was carried. */
const ACTIVE_FLOW_US = 2_000_000;

/** Counters of the session's connections since each began; one that is gone takes its share with it. */
export interface SessionTotals {
  readonly connectionIds: readonly number[];
  readonly reinjectedBytes: number;
  readonly duplicateBytes: number;
  /** Inner flows that have sent lately. */
  readonly flows: number;
}

export interface ReceiptBookOptions {
  /** The peer's name, for the receipt. */
  readonly session: string;
  totals(nowUs: Micros): SessionTotals;
  /** RFC 3339 time of a moment on the clock of `nowUs`. */
  wallTime(atUs: Micros): string;
  onReceipt(receipt: Omit<HandoverReceipt, 'id'>): void;
}

/** Why the carriers are no longer what they were. */
export interface CarrierChange {
  readonly carriers: readonly string[];
  readonly cause: HandoverCause;
  /** One sentence. */
  readonly detail: string;
}

interface OpenReceipt {
  readonly atUs: Micros;
  readonly from: readonly string[];
  readonly cause: HandoverCause;
  readonly detail: string;
  readonly lookFromUs: Micros;
  readonly before: SessionTotals;
  to: readonly string[];
  changedUs: Micros;
  /** Since when nothing carries; NEVER: something does. */
  darkSinceUs: Micros;
  darkUs: number;
}

/** The receipts of one session. */
export class ReceiptBook {
  private readonly track = new DeliveryTrack();
  private readonly baselines: { atUs: Micros; totals: SessionTotals }[] = [];
  /** Names of the paths that carry data. */
  carriers: readonly string[] = [];
  private readonly known = new Set<string>();
  private open: OpenReceipt | null = null;
  private closedUs: Micros = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: ReceiptBookOptions) {}

  /** Inner data came out of the tunnel. */
  delivered(nowUs: Micros, bytes: number): void {
    this.track.delivered(nowUs, bytes);
  }

  /** Keeps the counters, so that a receipt can start from before its change. Call about once a second. */
  sample(nowUs: Micros): void {
    this.baselines.push({ atUs: nowUs, totals: this.options.totals(nowUs) });
    if (this.baselines.length > KEPT_BASELINES) this.baselines.shift();
  }

  /** Names of the paths that carry data now. A path that has not carried before just joins: no receipt. */
  setCarriers(nowUs: Micros, change: CarrierChange): void {
    const from = this.carriers;
    const to = change.carriers;
    if (sameNames(from, to)) return;
    this.carriers = [...to];
    const isFirst = this.known.size === 0;
    const isJoinOnly = from.every((n) => to.includes(n)) && to.every((n) => from.includes(n) || !this.known.has(n));
    for (const name of to) this.known.add(name);
    if (this.open !== null && this.isSame(nowUs, this.open)) this.join(nowUs, to);
    else if (!isFirst && !isJoinOnly) this.begin(nowUs, from, change);
  }

  /** Writes the receipt that has settled. Call a few times a second. */
  onTimer(nowUs: Micros): void {
    const { open } = this;
    if (open === null || open.darkSinceUs !== NEVER || nowUs < open.changedUs + SETTLE_US) return;
    if (this.isStill(nowUs) && nowUs < open.changedUs + GIVE_UP_US) return;
    this.finish(nowUs);
  }

  private begin(nowUs: Micros, from: readonly string[], { carriers, cause, detail }: CarrierChange): void {
    if (this.open !== null) this.finish(nowUs);
    const wasFoundOut = cause === 'silent' || cause === 'peer';
    const lookBackUs = wasFoundOut ? LOOK_BACK_US : LOOK_BACK_TOLD_US;
    let lookFromUs = nowUs - lookBackUs;
    const { track } = this;
    const isIts = track.isSilent(nowUs) && (wasFoundOut || nowUs - track.lastUs <= TOLD_LATE_US);
    if (isIts) lookFromUs = Math.min(lookFromUs, track.lastUs);
    this.open = {
      atUs: nowUs,
      from,
      cause,
      detail,
      lookFromUs: Math.max(lookFromUs, this.closedUs),
      before: this.baseline(nowUs),
      to: carriers,
      changedUs: nowUs,
      darkSinceUs: carriers.length === 0 ? nowUs : NEVER,
      darkUs: 0,
    };
  }

  private isSame(nowUs: Micros, open: OpenReceipt): boolean {
    return open.darkSinceUs !== NEVER || nowUs - open.changedUs < SAME_US || this.isStill(nowUs);
  }

  private join(nowUs: Micros, to: readonly string[]): void {
    const open = this.open!;
    if (open.darkSinceUs !== NEVER) open.darkUs += nowUs - open.darkSinceUs;
    open.darkSinceUs = to.length === 0 ? nowUs : NEVER;
    open.changedUs = nowUs;
    open.to = to;
  }

  private finish(nowUs: Micros): void {
    const open = this.open!;
    this.open = null;
    this.closedUs = nowUs;
    const gapUs = this.gapUs(open, nowUs);
    const isBack = sameNames(open.from, open.to) && open.darkUs === 0;
    if (isBack && (gapUs === null || gapUs < BLIP_US)) return;
    const after = this.options.totals(nowUs);
    const carried = open.before.connectionIds.filter((id) => after.connectionIds.includes(id)).length;
    this.options.onReceipt({
      time: this.options.wallTime(open.atUs),
      session: this.options.session,
      from: [...open.from],
      to: [...open.to],
      cause: open.cause,
      detail: open.detail,
      gap_s: gapUs === null ? null : gapUs / 1e6,
      dark_s: open.darkUs / 1e6,
      reinjected_bytes: Math.max(0, after.reinjectedBytes - open.before.reinjectedBytes),
      duplicated_bytes: Math.max(0, after.duplicateBytes - open.before.duplicateBytes),
      connections_carried: carried,
      connections_lost: open.before.connectionIds.length - carried,
      flows_carried: open.before.flows,
    });
  }

  /** Where nothing has come since, nobody knows how long it would have taken. */
  private gapUs(open: OpenReceipt, nowUs: Micros): number | null {
    return this.track.lastUs < open.atUs ? null : this.track.longestSilenceUs(open.lookFromUs, nowUs);
  }

  private isStill(nowUs: Micros): boolean {
    return this.track.isSilent(nowUs, STILL_US);
  }

  private baseline(nowUs: Micros): SessionTotals {
    for (let i = this.baselines.length - 1; i >= 0; i--) {
      const b = this.baselines[i]!;
      if (b.atUs <= nowUs - BASELINE_AGE_US) return { ...b.totals, flows: this.options.totals(nowUs).flows };
    }
    return this.options.totals(nowUs);
  }
}

/** SessionTotals as they are now; `flows`: those that have a connection of their own. */
export function sessionTotals(
  nowUs: Micros,
  connections: readonly { readonly connection: ConnectionApi }[],
  lane: PacketLane,
  flows: readonly CarriedFlow[],
): SessionTotals {
  const infos = [...connections, ...flows].map(({ connection }) => connection.info());
  return {
    // A flow that is over has ended its connection; the lanes' last as long as the session.
    connectionIds: connections.map(({ connection }) => connection.id),
    reinjectedBytes: infos.reduce((n, i) => n + i.bytesReinjected, 0),
    duplicateBytes: infos.reduce((n, i) => n + i.bytesDuplicate, 0),
    flows:
      lane.activeFlows(nowUs, ACTIVE_FLOW_US) + flows.filter((flow) => nowUs - flow.movedUs <= ACTIVE_FLOW_US).length,
  };
}

/** An application's connection with a Multipath TCP connection of its own. */
export interface CarriedFlow {
  readonly connection: ConnectionApi;
  /** When it last moved bytes, either way. */
  readonly movedUs: Micros;
}

/** A receipt in one line. */
export function receiptText(r: Omit<HandoverReceipt, 'id'>): string {
  const names = (list: readonly string[]) => (list.length === 0 ? 'nothing' : list.join('+'));
  const gap = r.gap_s === null ? 'no data was due' : `gap ${Math.round(r.gap_s * 1000)} ms`;
  const lost = r.connections_lost === 0 ? '' : `, ${r.connections_lost} lost`;
  return `${names(r.from)} → ${names(r.to)} (${r.cause}): ${gap}, ${r.connections_carried} connections carried${lost}`;
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}
