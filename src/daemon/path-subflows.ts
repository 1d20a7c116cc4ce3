/**
 * What is wanted of a path, done to its subflow in every connection that uses the session's paths: the lanes', and those of
 * long flows (`followers`).
 */
import { ipEquals } from '../core/base/ip.js';
import type { Micros } from '../core/base/time.js';
import type { ConnectionApi } from '../core/engine/api.js';
import type { LaneIndex } from '../core/lanes/packet-lane.js';
import type { PolicyPath } from '../core/lanes/policy.js';
import type { RateLimit } from '../core/tcp/rate-limit.js';
import { LinkLimits } from './link-limits.js';
import type { Member, UsedPaths, Way } from './path-members.js';

/** A connection that was given a subflow on a path gets another one there only after this. */
const AGAIN_US = 3_000_000;

export interface LaneOf {
  readonly lane: LaneIndex;
  readonly connection: ConnectionApi;
}

export interface PathSubflowsOptions {
  readonly nowUs: () => Micros;
  /** Connections of the lanes that are up. */
  connections(): readonly LaneOf[];
  /** Is there a route over this link to the remote address? */
  hasRoute(way: Way): boolean;
  congestionOf(linkId: number): string;
  /** What may leave over this link, bytes/s; Infinity: no limit. */
  rateLimitOf(linkId: number): number;
}

export class PathSubflows {
  /** Connections besides the lanes' that use the session's paths: long flows (flows/relay-client.ts). */
  readonly followers = new Map<number, ConnectionApi>();
  private readonly limits = new LinkLimits<number>();

  constructor(
    private readonly paths: UsedPaths,
    private readonly options: PathSubflowsOptions,
  ) {}

  *connections(): Iterable<ConnectionApi> {
    for (const { connection } of this.options.connections()) yield connection;
    yield* this.followers.values();
  }

  // ---- Members come ------------------------------------------------------------------------------------------------

  /** A subflow that was opened belongs to this path. */
  add(way: Way, connection: ConnectionApi, subflowId: number): Member {
    const member = { connection, subflowId, isEstablished: false, isStalled: false, isSilent: false };
    this.paths.of(way).members.push(member);
    connection.limitSubflow(this.options.nowUs(), subflowId, this.limitOf(way.linkId));
    return member;
  }

  /** Gives a connection a subflow on this path, if it can take one and has none there. */
  open(way: Way, connection: ConnectionApi): void {
    if (!connection.isMptcp || connection.state !== 'established') return;
    const path = this.paths.of(way);
    const nowUs = this.options.nowUs();
    if (path.memberOf(connection.id) !== undefined) return;
    path.lastJoinUs.set(connection.id, nowUs);
    const subflowId = connection.join(nowUs, {
      linkId: way.linkId,
      localAddress: way.localAddress,
      remote: way.remote,
      backup: path.isBackup,
      congestion: this.options.congestionOf(way.linkId),
    });
    if (subflowId >= 0) this.add(way, connection, subflowId);
  }

  /** ... if there is a route, and it was not tried just now. */
  cover(pathId: number, connection: ConnectionApi): void {
    const path = this.paths.get(pathId);
    if (path === undefined || !this.options.hasRoute(path.way)) return;
    const lastUs = path.lastJoinUs.get(connection.id) ?? Number.NEGATIVE_INFINITY;
    if (this.options.nowUs() - lastUs >= AGAIN_US) this.open(path.way, connection);
  }

  /** Subflows that a follower has already belong to the paths that they take. */
  adopt(connection: ConnectionApi): void {
    for (const subflow of connection.info().subflows) {
      for (const path of this.paths) {
        const { way } = path;
        const isIt =
          way.linkId === subflow.linkId &&
          ipEquals(way.localAddress, subflow.local.address) &&
          ipEquals(way.remote.address, subflow.remote.address);
        if (!isIt || path.memberOf(connection.id) !== undefined) continue;
        const member = this.add(way, connection, subflow.id);
        member.isEstablished = subflow.state === 'established';
        // The path may have become a backup since this connection was opened over it.
        if (path.isBackup !== subflow.isBackupLocal) this.setMemberBackup(member, path.isBackup);
      }
    }
  }

  // ---- What is wanted of them --------------------------------------------------------------------------------------

  /** The rules of the links have changed: what may leave over each, and how, is set anew. */
  applyRules(): void {
    for (const { way, members } of this.paths) {
      const nowUs = this.options.nowUs();
      const limit = this.limitOf(way.linkId);
      const congestion = this.options.congestionOf(way.linkId);
      for (const m of members) {
        m.connection.limitSubflow(nowUs, m.subflowId, limit);
        m.connection.setCongestion(nowUs, m.subflowId, congestion);
      }
    }
  }

  /** Nothing that was known of any path can be trusted any more: each is asked at once. */
  probeAll(why: string): void {
    const nowUs = this.options.nowUs();
    for (const { way, members } of this.paths) {
      for (const m of members) {
        if (!m.isEstablished) continue;
        m.connection.suspectSubflow(nowUs, m.subflowId, why);
        m.connection.onLinkState(nowUs, way.linkId, true);
      }
    }
  }

  setBackup(pathId: number, isBackup: boolean): void {
    this.each(pathId, (m) => this.setMemberBackup(m, isBackup));
  }

  suspect(pathId: number, why: string): void {
    this.each(pathId, (m) => m.connection.suspectSubflow(this.options.nowUs(), m.subflowId, why));
  }

  close(pathId: number, how: 'fin' | 'reset'): void {
    this.each(pathId, (m) => m.connection.closeSubflow(this.options.nowUs(), m.subflowId, how));
  }

  // ---- For the policy channel --------------------------------------------------------------------------------------

  /** Our wishes, path by path, with the address ids that name them in each connection. */
  policyPaths(
    describe: (linkId: number) => Pick<PolicyPath, 'name' | 'rateLimitBytesPerS' | 'congestion'>,
  ): PolicyPath[] {
    const lanes = this.options.connections();
    const infos = lanes.map(({ connection }) => connection.info());
    return [...this.paths].map((path) => {
      const subflows = lanes.flatMap(({ lane, connection }, i) => {
        const own = path.memberOf(connection.id);
        const subflow = infos[i]!.subflows.find((s) => s.id === own?.subflowId);
        return subflow === undefined ? [] : [{ lane, subflow }];
      });
      const isSilent = path.state === 'ok' && path.members.some((m) => m.isSilent);
      return {
        ...describe(path.way.linkId),
        role: path.isBackup ? 'backup' : 'always',
        state: isSilent ? 'silent' : path.state,
        addressIds: subflows.map(({ lane, subflow }) => ({
          lane,
          addressId: subflow.localAddressId,
          serverAddressId: subflow.remoteAddressId,
        })),
      };
    });
  }

  private limitOf(linkId: number): RateLimit | null {
    return this.limits.of(this.options.nowUs(), linkId, this.options.rateLimitOf(linkId));
  }

  /** Both ways: what the peer sends, and what we do. */
  private setMemberBackup({ connection, subflowId }: Member, isBackup: boolean): void {
    const nowUs = this.options.nowUs();
    connection.setBackup(nowUs, subflowId, isBackup);
    connection.setLocalBackup(nowUs, subflowId, isBackup);
  }

  private each(pathId: number, action: (member: Member) => void): void {
    for (const member of [...(this.paths.get(pathId)?.members ?? [])]) action(member);
  }
}
