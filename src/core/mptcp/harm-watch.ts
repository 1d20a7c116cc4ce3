/**
 * What scheduler/harm.ts has to look at, of one connection: once a second, what each subflow has delivered, what came of it,
 * and whether bytes were waiting all the time. A demoted subflow is not used while another one works; it stays open, and its
 * reason is shown.
 */
import type { Micros } from '../base/time.js';
import { HarmJudge, type HarmPath } from '../scheduler/harm.js';
import type { Connection } from './connection.js';
import type { MptcpSubflow } from './subflow.js';

const LOOK_US: Micros = 1_000_000;
/** Saturated: bytes were waiting in so many of these slots of each look. */
const SLOT_US: Micros = 100_000;
const BUSY_SLOTS = 7;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class HarmWatch {
  private readonly judge = new HarmJudge();
  private readonly paths: Mutable<HarmPath>[] = [];
  private lookAtUs: Micros = 0;
  private slotEndUs: Micros = 0;
  private busySlots = 0;

  constructor(private readonly c: Connection) {}

  bestAloneBytesPerS(nowUs: Micros): number {
    return this.judge.bestAloneBytesPerS(nowUs);
  }

  /** Bytes wait for a path, or for the peer's window, which a slow path may keep full. */
  onWaiting(nowUs: Micros): void {
    if (nowUs < this.slotEndUs) return;
    this.slotEndUs = nowUs + SLOT_US;
    this.busySlots++;
  }

  /** Every poll. */
  check(nowUs: Micros): void {
    if (nowUs < this.lookAtUs) return;
    const { c } = this;
    // A look that comes late (nothing was sent for a while) tells nothing about saturation.
    const isOnTime = nowUs - this.lookAtUs < LOOK_US / 4;
    const isSaturated = isOnTime && this.busySlots >= BUSY_SLOTS;
    this.lookAtUs = nowUs + LOOK_US;
    this.busySlots = 0;
    if (c.mode !== 'mptcp' || c.copies.areWanted) return;
    this.judge.look(nowUs, this.observe(), c.sender.sndUna, isSaturated);
    this.askScheduler(nowUs);
    for (let v = this.judge.takeVerdict(); v !== undefined; v = this.judge.takeVerdict()) {
      const sf = c.subflow(v.id);
      if (sf === undefined) continue;
      sf.demotedWhy = v.isDemoted ? v.why : null;
      this.tell(sf, v.isDemoted, v.why);
    }
  }

  /** A scheduler that passes a path over says so; it tries again of its own accord. */
  private askScheduler(nowUs: Micros): void {
    const { scheduler } = this.c.dispatcher;
    for (const sf of this.c.subflows) {
      const why = scheduler.whyNot?.(nowUs, sf.id) ?? null;
      const isNews = (why === null) !== (sf.passedOverWhy === null);
      sf.passedOverWhy = why;
      if (isNews && sf.demotedWhy === null) this.tell(sf, why !== null, why ?? 'nothing speaks against it now');
    }
  }

  private tell(sf: MptcpSubflow, isDemoted: boolean, why: string): void {
    const { c } = this;
    c.host.count(isDemoted ? 'path_demoted' : 'path_promoted');
    const type = isDemoted ? 'subflow-demoted' : 'subflow-promoted';
    c.host.emit({ type, connectionId: c.id, subflowId: sf.id, linkId: sf.flow.linkId, why });
  }

  /** May carry nothing now: demoted, while another one works. */
  isSetAside(sf: MptcpSubflow): boolean {
    if (sf.demotedWhy === null) return false;
    for (const other of this.c.subflows)
      if (other.demotedWhy === null && other.isUsable && !other.isStalled && !other.isBackup) return true;
    return false;
  }

  private observe(): readonly HarmPath[] {
    const { paths } = this;
    const { subflows } = this.c;
    while (paths.length < subflows.length) paths.push({ id: 0, bytes: 0, srttUs: 0, isInUse: false });
    paths.length = subflows.length;
    for (let i = 0; i < subflows.length; i++) {
      const sf = subflows[i]!;
      const path = paths[i]!;
      path.id = sf.id;
      path.bytes = sf.tcp.sndUna;
      path.srttUs = sf.tcp.rtt.srttUs;
      path.isInUse = sf.isUsable && !sf.isStalled && !sf.isBackup;
    }
    return paths;
  }
}
