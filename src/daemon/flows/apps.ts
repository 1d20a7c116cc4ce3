/**
 * Which application a flow belongs to: user and control group of its socket on this host. Asked of the kernel once per flow, and
 * only when a rule wants to know; the paths of control groups are kept until a number turns up that is not among them.
 */
import type { Micros } from '../../core/base/time.js';
import type { Endpoint } from '../../core/engine/api.js';
import type { SocketOwner } from '../../native/index.js';

export interface AppIdentity {
  readonly uid: number;
  /** Path in the hierarchy, such as `/user.slice/user-1000.slice`; null: not known. */
  readonly cgroup: string | null;
}

export interface AppSources {
  /** Null: no socket of this host. */
  owner(protocol: 'tcp' | 'udp', local: Endpoint, remote: Endpoint): SocketOwner | null;
  /** All control groups by number. */
  groups(): ReadonlyMap<number, string>;
}

/** The hierarchy is walked at most this often: a number that is not found (another namespace's) must not cost more. */
const WALK_EVERY_US: Micros = 1_000_000;

export class Apps {
  private groups: ReadonlyMap<number, string> = new Map();
  private walkedUs: Micros = Number.NEGATIVE_INFINITY;
  readonly counters = { asked: 0, unknown: 0, walks: 0 };

  constructor(private readonly sources: AppSources) {}

  find(nowUs: Micros, protocol: 'tcp' | 'udp', local: Endpoint, remote: Endpoint): AppIdentity | null {
    this.counters.asked++;
    const owner = this.sources.owner(protocol, local, remote);
    if (owner === null) {
      this.counters.unknown++;
      return null;
    }
    return { uid: owner.uid, cgroup: owner.cgroupId === null ? null : this.pathOf(nowUs, owner.cgroupId) };
  }

  private pathOf(nowUs: Micros, id: number): string | null {
    const known = this.groups.get(id);
    if (known !== undefined || nowUs - this.walkedUs < WALK_EVERY_US) return known ?? null;
    this.walkedUs = nowUs;
    this.counters.walks++;
    this.groups = this.sources.groups();
    return this.groups.get(id) ?? null;
  }
}
