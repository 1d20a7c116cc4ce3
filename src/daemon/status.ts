/** From the daemon's parts to the documents of the control protocol: plain copies, made when somebody asks. */
import { readdirSync } from 'node:fs';
import { isMetered } from '../config/match.js';
import type { Config, UsageCap } from '../config/types.js';
import {
  type BestLinkEstimate,
  type FlowStatus,
  type PathStatus,
  STATUS_SCHEMA,
  type StatusDocument,
  type Totals,
} from '../control/protocol.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi, Endpoint, SubflowInfo } from '../core/engine/api.js';
import type { PacketLane } from '../core/lanes/packet-lane.js';
import { BestAlone, type BestPath } from '../core/scheduler/best-alone.js';
import { VERSION } from '../version.js';
import type { CapUsage } from './caps.js';
import type { HostLink } from './link-monitor.js';
import { laneName } from './session.js';
import type { TunWriter } from './tun-writer.js';

/** Rates are averages over about this long. */
const RATE_WINDOW_MS = 1_000;

/** Bit/s from byte counters that are read now and then. */
export class RateMeter {
  private readonly marks = new Map<string, { atMs: number; bytes: number; bps: number }>();

  rate(key: string, bytes: number, nowMs: number): number {
    const mark = this.marks.get(key);
    if (mark === undefined) {
      this.marks.set(key, { atMs: nowMs, bytes, bps: 0 });
      return 0;
    }
    const elapsedMs = nowMs - mark.atMs;
    if (elapsedMs < RATE_WINDOW_MS) return mark.bps;
    const bps = Math.max(0, Math.round(((bytes - mark.bytes) * 8_000) / elapsedMs));
    this.marks.set(key, { atMs: nowMs, bytes, bps });
    return bps;
  }

  totals(key: string, txBytes: number, rxBytes: number, nowMs: number): Totals {
    return {
      tx_bps: this.rate(`${key}/tx`, txBytes, nowMs),
      rx_bps: this.rate(`${key}/rx`, rxBytes, nowMs),
      tx_bytes: txBytes,
      rx_bytes: rxBytes,
    };
  }
}

/** Keeps the estimate "what the best link alone would give" from the byte counters that `paths` bring. */
export class BestLinkMeter {
  private readonly tx = new BestAlone();
  private readonly rx = new BestAlone();

  estimate(paths: readonly PathStatus[], nowMs: number): StatusDocument['estimate'] {
    const nowUs = Math.round(nowMs * 1_000);
    for (const p of paths) {
      this.tx.note(nowUs, p.name, p.tx_bytes);
      this.rx.note(nowUs, p.name, p.rx_bytes);
    }
    const sum = (f: (p: PathStatus) => number) => paths.reduce((n, p) => n + f(p), 0);
    return {
      tx: bestLink(
        this.tx.best(nowUs),
        sum((p) => p.tx_bps),
      ),
      rx: bestLink(
        this.rx.best(nowUs),
        sum((p) => p.rx_bps),
      ),
    };
  }
}

function bestLink(best: BestPath | null, allBps: number): BestLinkEstimate | null {
  if (best === null) return null;
  const bestBps = Math.round(8 * best.bytesPerS);
  return {
    best_path: best.path,
    best_bps: bestBps,
    all_bps: allBps,
    ratio: Math.round((1000 * allBps) / bestBps) / 1000,
  };
}

export interface LaneConnection {
  readonly session: string;
  readonly lane: number;
  readonly connection: ConnectionApi;
}

/** What one link does for the given connections. */
export interface PathInput {
  readonly link: HostLink;
  readonly session: string | null;
  readonly connections: readonly LaneConnection[];
  readonly hostDrops: number;
  /** What has gone over it, where it has a cap. */
  readonly usage: CapUsage | null;
  readonly limitBps: number | null;
  readonly role: PathStatus['role'];
  readonly order: PathStatus['order'];
  readonly congestion: string;
  /** What the path manager says of the link's best path; null on a server, where the subflows say it. */
  readonly known: { readonly state: PathStatus['state']; readonly reason: string | null } | null;
  /** When the state was first seen. */
  since(state: string): string;
}

export function pathStatus(input: PathInput, meter: RateMeter, nowMs: number): PathStatus {
  const { link } = input;
  const subflows = input.connections.flatMap(({ connection }) =>
    connection.info().subflows.filter((s) => s.linkId === link.id),
  );
  const open = subflows.filter((s) => s.state === 'established');
  const known = input.known ?? pathState(link, subflows, open);
  const { state } = known;
  // The path is in use, yet some connection of ours sets it aside.
  const reason = known.reason ?? open.find((s) => s.idleReason?.startsWith('demoted'))?.idleReason ?? null;
  const sum = (f: (s: SubflowInfo) => number) => subflows.reduce((n, s) => n + f(s), 0);
  const best = open.filter((s) => s.srttUs > 0).sort((a, b) => a.srttUs - b.srttUs)[0];
  const sent = sum((s) => s.bytesSent);
  return {
    name: link.name,
    session: input.session,
    type: link.type,
    role: input.role,
    metered: isMetered(link.rule, link),
    state,
    since: input.since(state),
    reason,
    order: input.order,
    local: link.addresses.map((a) => a.text),
    remote: [...new Set(open.map((s) => endpointText(s.remote)))],
    rtt_s: best === undefined ? null : best.srttUs / 1e6,
    rtt_min_s: best === undefined ? null : best.minRttUs / 1e6,
    loss_ratio: sent === 0 ? null : Math.min(1, sum((s) => s.segmentsLost * s.mssBytes) / sent),
    cwnd_bytes: sum((s) => s.cwndBytes),
    in_flight_bytes: sum((s) => s.inFlightBytes),
    limit_bps: input.limitBps,
    congestion: open[0]?.congestion ?? input.congestion,
    retransmitted_bytes: sum((s) => s.bytesRetransmitted),
    reinjected_bytes: sum((s) => s.bytesReinjected),
    host_drops: input.hostDrops,
    cap: capStatus(link.rule.cap, input.usage),
    ...meter.totals(
      `path/${link.id}`,
      sent,
      sum((s) => s.bytesReceived),
      nowMs,
    ),
  };
}

function capStatus(cap: UsageCap | null, usage: CapUsage | null): PathStatus['cap'] {
  if (cap === null || usage === null) return null;
  return {
    day_bytes: usage.dayBytes,
    month_bytes: usage.monthBytes,
    daily_limit_bytes: cap.dailyBytes,
    monthly_limit_bytes: cap.monthlyBytes,
    reached: usage.reached?.period ?? null,
  };
}

function pathState(
  link: HostLink,
  subflows: readonly SubflowInfo[],
  open: readonly SubflowInfo[],
): { state: PathStatus['state']; reason: string | null } {
  if (!link.isUp) return { state: 'down', reason: link.addresses.length === 0 ? 'no address' : 'link is down' };
  if (open.length === 0) {
    return subflows.length > 0
      ? { state: 'joining', reason: 'being opened' }
      : { state: 'probing', reason: 'no connection over it yet' };
  }
  const carrying = open.find((s) => s.idleReason === null);
  if (carrying !== undefined) return { state: 'active', reason: null };
  return { state: 'warm', reason: open[0]!.idleReason };
}

export function flowStatus(
  { session, lane, connection }: LaneConnection,
  linkName: (id: number) => string,
): FlowStatus {
  const info = connection.info();
  return {
    id: info.id,
    session,
    lane: laneName(lane === 1 ? 1 : 0),
    state: info.state,
    is_mptcp: info.isMptcp,
    fallback_reason: info.fallbackReason,
    checksums: info.checksums,
    remote: endpointText(connection.remote),
    tx_bytes: info.bytesSent,
    rx_bytes: info.bytesReceived,
    unsent_bytes: connection.unsentBytes,
    unacked_bytes: connection.unackedBytes,
    reinjected_bytes: info.bytesReinjected,
    copied_bytes: info.bytesCopied,
    duplicate_bytes: info.bytesDuplicate,
    out_of_order_bytes: info.outOfOrderBytes,
    subflows: info.subflows.map((s) => ({
      id: s.id,
      path: linkName(s.linkId),
      local: endpointText(s.local),
      remote: endpointText(s.remote),
      state: s.state,
      backup: s.isBackupLocal || s.isBackupRemote,
      stalled: s.isStalled,
      idle_reason: s.idleReason,
      rtt_s: s.srttUs > 0 ? s.srttUs / 1e6 : null,
      cwnd_bytes: s.cwndBytes,
      in_flight_bytes: s.inFlightBytes,
      mss_bytes: s.mssBytes,
      congestion: s.congestion,
      tx_bytes: s.bytesSent,
      rx_bytes: s.bytesReceived,
      retransmitted_bytes: s.bytesRetransmitted,
    })),
  };
}

/** The parts of a status document that both ends fill in the same way. */
export function commonStatus(
  config: Config,
  mode: Pick<StatusDocument['traffic'], 'mode' | 'mode_ordered' | 'scheduler'>,
  startedAt: Date,
  now: Date,
): Pick<
  StatusDocument,
  'schema' | 'time' | 'name' | 'mode' | 'version' | 'pid' | 'started_at' | 'traffic' | 'process'
> {
  const { congestion, checksum } = config.traffic;
  const cpu = process.cpuUsage();
  return {
    schema: STATUS_SCHEMA,
    time: now.toISOString(),
    name: config.name,
    mode: config.mode,
    version: VERSION,
    pid: process.pid,
    started_at: startedAt.toISOString(),
    traffic: { ...mode, congestion, checksum },
    process: {
      memory_bytes: process.memoryUsage.rss(),
      cpu_s: (cpu.user + cpu.system) / 1e6,
      fds: openDescriptors(),
    },
  };
}

/** Counters of a lane and a TUN writer, for metrics. */
export function laneCounters(lanes: readonly PacketLane[], writer: TunWriter): Record<string, number> {
  const sums: Record<string, number> = {};
  const add = (name: string, value: number) => {
    sums[name] = (sums[name] ?? 0) + value;
  };
  for (const lane of lanes) {
    for (const [name, value] of Object.entries(lane.counters)) add(`lane_${snake(name)}`, value);
    for (const index of [0, 1] as const) {
      for (const [name, value] of Object.entries(lane.queueOf(index).counters)) add(`queue_${snake(name)}`, value);
    }
  }
  add('tun_packets_written', writer.packetsWritten);
  add('tun_packets_not_taken', writer.packetsNotTaken);
  for (const [reason, value] of Object.entries(writer.refused)) add(`drop_${reason}`, value);
  return sums;
}

/** Wall-clock time of a moment on the monotonic clock. */
export function wallTime(atUs: Micros, nowUs: Micros): string {
  return new Date(Date.now() - (nowUs - atUs) / 1000).toISOString();
}

export function endpointText({ address, port }: Endpoint): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}

function openDescriptors(): number | null {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return null;
  }
}
