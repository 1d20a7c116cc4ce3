/**
 * Which subflow takes the next bytes: snapshots in, the scheduler's choice out, one unit at a time. Reinjections go
 * first, never on the subflow that has the bytes outstanding already.
 */
import { dsnHi, dsnLo } from '../base/seq.js';
import { type Micros, NEVER } from '../base/time.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from '../scheduler/scheduler.js';
import type { SendUnit } from '../tcp/owner.js';
import type { Connection } from './connection.js';
import { dssChecksum } from './keys.js';
import { type OutboundMapping, toSendUnit } from './send-buffer.js';
import type { MptcpSubflow } from './subflow.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Snapshot = Mutable<PathSnapshot>;

/** Units handed out in one poll at most; the rest waits for the next flush, so that no connection holds the loop. */
const MAX_UNITS_PER_POLL = 256;

export class Dispatcher {
  private readonly snapshots: Snapshot[] = [];
  private readonly input: Mutable<SchedulerInput> = {
    nowUs: 0,
    paths: this.snapshots,
    pendingBytes: 0,
    windowBytes: 0,
    windowFullUs: -1,
  };
  /** The subflow that may pull one unit now, and whether it is a reinjection. */
  private granted: MptcpSubflow | null = null;
  private isReinjecting = false;
  /** First byte of the copy that it may pull, -1: none. */
  private copyDsn = -1;
  private grantBytes = 0;
  private tookBytes = 0;
  /** Nothing was left to send at the end of the last run. */
  private wasEmpty = true;
  /** When a paced path admits more. */
  private readyAtUs: Micros = NEVER;

  constructor(
    private readonly connection: Connection,
    public scheduler: Scheduler,
  ) {}

  nextDeadline(): Micros {
    return this.readyAtUs;
  }

  /** The connection is over: no path is waited for any more. */
  stop(): void {
    this.readyAtUs = NEVER;
  }

  run(nowUs: Micros): void {
    const c = this.connection;
    this.readyAtUs = NEVER;
    if (c.sender.isWindowLimited) {
      this.input.windowFullUs = nowUs;
      c.harm.onWaiting(nowUs);
    }
    if (!this.hasWork) {
      this.wasEmpty = true;
      return;
    }
    // The bytes come after the path has had room for them for a while.
    if (this.wasEmpty) this.markIdlePaths(nowUs);
    this.wasEmpty = false;
    this.refreshAll(nowUs);
    let units = 0;
    if (c.copies.areWanted) {
      c.copies.dropReinjections();
      units = this.placeCopies(nowUs);
    }
    while (units++ < MAX_UNITS_PER_POLL && c.sender.reinjections.first !== undefined) {
      if (!this.place(nowUs, true)) break;
    }
    while (units++ < MAX_UNITS_PER_POLL && c.sender.sendableBytes > 0 && !c.copies.areWanted) {
      if (!this.place(nowUs, false)) break;
    }
    if (this.hasWork) {
      this.noteWaiting(nowUs);
      c.harm.onWaiting(nowUs);
    } else {
      this.wasEmpty = true;
      for (const sf of c.subflows) sf.tcp.forgetCredit();
    }
    this.markIdlePaths(nowUs);
  }

  private get hasWork(): boolean {
    return this.connection.hasPendingData || this.connection.copies.arePending;
  }

  /** TCP asks for bytes on `sf`: null unless this is the subflow that was chosen. */
  pull(sf: MptcpSubflow, maxBytes: number): SendUnit | null {
    if (this.granted !== sf) return null;
    this.granted = null;
    const { sender, keys } = this.connection;
    const limit = Math.min(maxBytes, this.grantBytes);
    if (limit <= 0) return null;
    const range = sender.reinjections.first;
    const isCopy = this.copyDsn >= 0;
    const dsn = isCopy ? this.copyDsn : this.isReinjecting ? range!.dsn : sender.sndNxt;
    const unit = isCopy
      ? sender.takeCopy(dsn, limit)
      : this.isReinjecting
        ? sender.takeReinjection(limit)
        : sender.takeNew(limit);
    const ssn = sf.tcp.sndNxt;
    const dll = unit.lengthBytes;
    const checksum =
      keys.checksums && this.connection.mode !== 'tcp'
        ? dssChecksum(
            dsnHi(dsn, keys.idsnLocal),
            dsnLo(dsn, keys.idsnLocal),
            ssn,
            dll,
            unit.parts,
            unit.firstOffset,
            dll,
          )
        : -1;
    const mapping: OutboundMapping = {
      dsn,
      ssn,
      dll,
      checksum,
      isFirst: dsn === 1 && sf.role === 'initial' && sf.side === 'active' && !this.connection.isProven,
      isReinjection: this.isReinjecting || isCopy,
    };
    if (sf.carriedTo === dsn) sf.carriedTo += dll;
    if (isCopy) this.connection.copies.onSent(sf, dll);
    if (this.isReinjecting) {
      sf.bytesReinjected += dll;
      this.connection.host.count('MPTcpExtMPTCPRetrans');
    }
    this.tookBytes = dll;
    return toSendUnit(unit, this.connection.fallback.takeInfiniteMapping(mapping));
  }

  /** Gives one unit to a path. False when nothing more can be placed now. */
  private place(nowUs: Micros, isReinjection: boolean): boolean {
    const { sender } = this.connection;
    const range = sender.reinjections.first;
    const exclude = isReinjection ? range!.notOn : -1;
    const waiting = isReinjection ? range!.endDsn - range!.dsn : sender.sendableBytes;
    this.input.nowUs = nowUs;
    this.input.pendingBytes = isReinjection ? sender.reinjections.pendingBytes : sender.unsentBytes;
    this.input.windowBytes = isReinjection ? waiting : Math.max(0, sender.windowEdge - sender.sndNxt);
    const subflows = this.connection.subflows;
    const excluded = this.snapshots.find((s) => subflows[s.index]!.id === exclude);
    const wasUsable = excluded?.isUsable ?? false;
    if (excluded !== undefined) excluded.isUsable = false;
    const index = this.scheduler.select(this.input);
    if (excluded !== undefined) excluded.isUsable = wasUsable;
    if (index < 0) return false;
    this.grant(nowUs, index, waiting, isReinjection, -1);
    return true;
  }

  /** Every path goes on from its own place in the stream, a unit each in turn. Returns the units placed. */
  private placeCopies(nowUs: Micros): number {
    const { sender, copies, subflows } = this.connection;
    const { input, snapshots, scheduler } = this;
    input.nowUs = nowUs;
    let units = 0;
    for (let before = -1; units > before && units < MAX_UNITS_PER_POLL; ) {
      before = units;
      for (const path of snapshots) {
        if (!scheduler.carries!(input, path)) continue;
        const sf = subflows[path.index]!;
        const dsn = copies.nextDsn(sf);
        const behindBytes = copies.pendingBytes(sf);
        if (behindBytes > 0) this.grant(nowUs, path.index, behindBytes, false, dsn);
        else if (sender.sendableBytes > 0) this.grant(nowUs, path.index, sender.sendableBytes, false, -1);
        else continue;
        units++;
      }
    }
    return units;
  }

  /** Lets subflow `index` pull one unit; what it has no room for, it leaves. */
  private grant(nowUs: Micros, index: number, bytes: number, isReinjection: boolean, copyDsn: number): void {
    const sf = this.connection.subflows[index]!;
    this.granted = sf;
    this.isReinjecting = isReinjection;
    this.copyDsn = copyDsn;
    this.grantBytes = bytes;
    this.tookBytes = 0;
    sf.tcp.pollTransmit(nowUs, this.connection.host.sink(sf.flow.linkId));
    this.granted = null;
    this.refresh(nowUs, this.snapshots[index]!, sf);
    if (this.tookBytes === 0) this.snapshots[index]!.availableBytes = 0;
  }

  private noteWaiting(nowUs: Micros): void {
    for (const snapshot of this.snapshots) {
      if (!snapshot.isUsable || snapshot.isStalled) continue;
      const at = this.connection.subflows[snapshot.index]!.tcp.awaitCredit(nowUs);
      if (at > nowUs) this.readyAtUs = Math.min(this.readyAtUs, at);
    }
  }

  /** A path that window, cwnd and pacing leave room on is limited by the application, or by the scheduler's choice. */
  private markIdlePaths(nowUs: Micros): void {
    for (const sf of this.connection.subflows) {
      if (sf.isUsable && sf.tcp.availableBytes(nowUs) > 0) sf.tcp.markAppLimited(nowUs);
    }
  }

  private refreshAll(nowUs: Micros): void {
    const subflows = this.connection.subflows;
    while (this.snapshots.length < subflows.length) this.snapshots.push(emptySnapshot(this.snapshots.length));
    this.snapshots.length = subflows.length;
    for (let i = 0; i < subflows.length; i++) this.refresh(nowUs, this.snapshots[i]!, subflows[i]!);
  }

  private refresh(nowUs: Micros, s: Snapshot, sf: MptcpSubflow): void {
    const tcp = sf.tcp;
    s.id = sf.id;
    s.isBackup = sf.isBackup;
    s.isUsable = sf.isUsable && !this.connection.harm.isSetAside(sf);
    s.isStalled = sf.isStalled;
    s.isDoubted = sf.doubtedAtUs !== NEVER;
    s.srttUs = tcp.rtt.srttUs;
    s.rttVarUs = tcp.rtt.rttVarUs;
    s.minRttUs = tcp.rtt.minRttUs;
    s.cwndBytes = tcp.cc.cwndBytes;
    s.inFlightBytes = tcp.inFlightBytes;
    s.availableBytes = s.isUsable && !this.connection.host.isLinkBusy(sf.flow.linkId) ? tcp.availableBytes(nowUs) : 0;
    if (sf.lateAtUs !== NEVER) s.availableBytes = 0;
    const { penalty } = sf;
    if (penalty.windowBytes !== Number.POSITIVE_INFINITY) {
      penalty.relax(nowUs, s.srttUs, s.cwndBytes);
      s.cwndBytes = Math.min(s.cwndBytes, penalty.windowBytes);
      s.availableBytes = Math.max(0, Math.min(s.availableBytes, penalty.windowBytes - s.inFlightBytes));
    }
    s.isHeldByLimit = s.availableBytes === 0 && tcp.isHeldByLimit(nowUs);
    s.readyAtUs = s.availableBytes > 0 ? nowUs : tcp.readyAtUs(nowUs);
    s.rateBytesPerS = tcp.deliveryRateBytesPerS;
    s.mssBytes = tcp.mssBytes;
  }
}

function emptySnapshot(index: number): Snapshot {
  return {
    index,
    id: -1,
    isBackup: false,
    isUsable: false,
    isStalled: false,
    isDoubted: false,
    isHeldByLimit: false,
    srttUs: 0,
    rttVarUs: 0,
    minRttUs: 0,
    cwndBytes: 0,
    inFlightBytes: 0,
    availableBytes: 0,
    readyAtUs: 0,
    rateBytesPerS: 0,
    mssBytes: 1,
  };
}
