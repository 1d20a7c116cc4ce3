/**
 * What the mode of a flow comes to on the connection that carries it: the scheduler of what we send, the peer's (it is told),
 * and which of its subflows stand back. In words: core/scheduler/modes.ts; what `auto` is for a flow: classify.ts.
 */
import type { Micros } from '../../core/base/time.js';
import type { ConnectionApi, SubflowInfo } from '../../core/engine/api.js';
import { schedulerOf, type TrafficMode } from '../../core/scheduler/modes.js';
import type { FlowClass } from './classify.js';

export interface Steering {
  readonly scheduler: string;
  /** Links that cost money carry nothing while another one works. */
  readonly sparesMetered: boolean;
  /** One path at a time. */
  readonly isOnePath: boolean;
}

/**
 * Who aggregates here has the connection to itself: its delay is nobody else's.
 *
 * `copiesLeft`: bytes that may still be sent twice. Copies are for flows that somebody waits for: while the budget lasts every
 * byte goes over every path, as in mode redundant.
 */
export function steeringOf(mode: TrafficMode, flowClass: FlowClass, copiesLeft: number, configured: string): Steering {
  const isBulk = mode === 'auto' && flowClass === 'bulk';
  const aggregate = configured === 'adaptive' ? 'patient' : configured;
  const scheduler = schedulerOf(mode, !isBulk, aggregate);
  const copies = copiesLeft > 0 && scheduler === 'interactive';
  return {
    scheduler: copies ? 'redundant' : scheduler,
    sparesMetered: isBulk,
    isOnePath: mode === 'handover',
  };
}

export interface SteeringHost {
  nowUs(): Micros;
  isMetered(linkId: number): boolean;
  /** The peer is to send with this scheduler on the connection. */
  tellPeer(connection: ConnectionApi, scheduler: string): void;
}

/** Applies a steering to one connection, and again when its subflows have changed. */
export class Steered {
  private current: Steering | null = null;
  /** Subflows that stand back because of us. */
  private readonly held = new Set<number>();

  constructor(
    private readonly connection: ConnectionApi,
    private readonly host: SteeringHost,
  ) {}

  get steering(): Steering | null {
    return this.current;
  }

  set(steering: Steering): void {
    const before = this.current;
    this.current = steering;
    if (before?.scheduler !== steering.scheduler) {
      this.connection.setScheduler(steering.scheduler);
      this.host.tellPeer(this.connection, steering.scheduler);
    }
    this.look();
  }

  /** Subflows come and go, and so does who may stand back for whom. */
  look(): void {
    const steering = this.current;
    if (steering === null) return;
    if (!steering.sparesMetered && !steering.isOnePath && this.held.size === 0) return;
    const open = this.connection.info().subflows.filter((s) => s.state === 'established');
    const stays = this.chosen(open, steering);
    for (const s of open) {
      const isHeld = this.held.has(s.id);
      // A path that the policy holds back already is none of ours.
      if (isHeld ? !stays.has(s.id) : stays.has(s.id) || s.isBackupLocal) continue;
      this.hold(s.id, !isHeld);
    }
  }

  private chosen(open: readonly SubflowInfo[], { sparesMetered, isOnePath }: Steering): ReadonlySet<number> {
    // What works, and what the policy lets carry data; a subflow that we hold back ourselves is among it.
    const able = open.filter((s) => !s.isStalled && (!s.isBackupLocal || this.held.has(s.id)));
    const free = able.filter((s) => !this.host.isMetered(s.linkId));
    if (isOnePath) {
      const pool = free.length > 0 ? free : able;
      const carrying = pool.find((s) => !this.held.has(s.id) && this.held.size > 0);
      const best = carrying ?? [...pool].sort((a, b) => a.srttUs - b.srttUs)[0];
      return new Set(best === undefined ? open.map((s) => s.id) : [best.id]);
    }
    // One that is silent just now is not told to stand back: it carries again from the moment it answers.
    const mayRest = sparesMetered && free.length > 0;
    return new Set(open.filter((s) => !mayRest || !this.host.isMetered(s.linkId)).map((s) => s.id));
  }

  private hold(subflowId: number, isHeld: boolean): void {
    const nowUs = this.host.nowUs();
    if (isHeld) this.held.add(subflowId);
    else this.held.delete(subflowId);
    this.connection.setLocalBackup(nowUs, subflowId, isHeld);
    this.connection.setBackup(nowUs, subflowId, isHeld);
  }
}
