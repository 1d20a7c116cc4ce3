/**
 * What all rules of the path manager share: the facts, and what can be done to a path. Each of these leaves an order for the
 * driver, or a move of the state machine (states.ts), or both.
 */
import { type Micros, NEVER } from '../base/time.js';
import { Outbox } from './outbox.js';
import type { Path } from './path.js';
import { chooseActive } from './policy.js';
import { nextState, type PathTrigger } from './states.js';
import { PathTable } from './table.js';
import { CLOSE_US } from './timing.js';
import type { PathManagerConfig, PeerWish } from './types.js';

export class PathOrders {
  readonly table: PathTable;
  readonly outbox = new Outbox();
  /** none: nothing is connected; connected: joins must wait for session-ready. */
  session: 'none' | 'connected' | 'ready' = 'none';
  /** Until when overflow links count as needed: all of them, or one. */
  saturatedUntilUs: Micros = Number.NEGATIVE_INFINITY;
  /** When a path that still overlaps with its successor is to rest. */
  restAtUs: Micros = NEVER;
  readonly saturatedLinks = new Map<number, Micros>();

  constructor(
    public config: PathManagerConfig,
    /** Uniform in [0, 1). */
    readonly random: () => number,
  ) {
    this.table = new PathTable(config);
  }

  // --- the subflow

  /** Ends an established subflow in order; draining waits for the FIN's answer. */
  dismiss(nowUs: Micros, path: Path, cause: string): void {
    this.tell(path, { what: 'going' });
    this.move(nowUs, path, 'drop', cause);
    path.isCloseSent = true;
    path.deadlineUs = nowUs + CLOSE_US;
    this.outbox.order({ type: 'close', pathId: path.id, how: 'fin' });
  }

  /** Ends a subflow at once. */
  reset(path: Path): void {
    this.outbox.order({ type: 'close', pathId: path.id, how: 'reset' });
    path.forgetSubflow();
  }

  /** The engine is to take its bytes elsewhere and probe it. */
  suspect(path: Path, why: string): void {
    if (path.hasSubflow && path.isEstablished) this.outbox.order({ type: 'suspect', pathId: path.id, why });
  }

  // --- use, and what the peer is told

  /** The paths of `working` (best first) that are to carry data now. */
  choose(nowUs: Micros, working: readonly Path[]): readonly Path[] {
    const isNeeded = (p: Path) =>
      nowUs < this.saturatedUntilUs || nowUs < (this.saturatedLinks.get(p.link.id) ?? Number.NEGATIVE_INFINITY);
    return chooseActive(working, (p) => this.table.roleOf(p), isNeeded, this.config.mode);
  }

  /** Whether a subflow over this path is worth having now: always, or (not kept warm) when it would carry data or soon may. */
  isWanted(nowUs: Micros, path: Path): boolean {
    if (path.link.keepWarm !== false) return true;
    const others = this.table.working().filter((p) => p !== path);
    if (others.every((p) => this.table.roleOf(p) === 'backup')) return true;
    return this.choose(nowUs, this.table.ordered(others.concat(path))).includes(path);
  }

  /** NEVER: saturated from now on. Anything else: until then at the latest. */
  setSaturated(linkId: number | undefined, untilUs: Micros): void {
    if (linkId === undefined) {
      this.saturatedUntilUs = untilUs === NEVER ? NEVER : Math.min(this.saturatedUntilUs, untilUs);
      return;
    }
    const before = this.saturatedLinks.get(linkId);
    if (untilUs === NEVER) this.saturatedLinks.set(linkId, NEVER);
    else if (before !== undefined) this.saturatedLinks.set(linkId, Math.min(before, untilUs));
  }

  setBackup(path: Path, backup: boolean): void {
    if (path.isBackupSet === backup) return;
    path.isBackupSet = backup;
    this.outbox.order({ type: 'set-backup', pathId: path.id, backup });
    // A server does not tell roles: it would echo the client's, and neither could ever take it back.
    if (this.config.side === 'client') this.tell(path, { what: 'role', role: backup ? 'backup' : 'always' });
  }

  tellReturned(path: Path): void {
    if (!path.wasToldGone) return;
    path.wasToldGone = false;
    this.tell(path, { what: 'returned' });
  }

  tell(path: Path, wish: PeerWish): void {
    this.outbox.order({ type: 'tell-peer', pathId: path.id, wish });
  }

  maxPathsOver({ link }: Path): number {
    return link.maxPaths ?? this.config.maxPathsPerLink;
  }

  // --- the state

  /** Where the table of states.ts knows no such move, nothing happens. */
  move(nowUs: Micros, path: Path, trigger: PathTrigger, cause: string): void {
    const to = nextState(path.state, trigger);
    if (to === undefined) return;
    this.outbox.note({ nowUs, pathId: path.id, linkName: path.link.name, from: path.state, to, cause });
    path.state = to;
    path.stateSinceUs = nowUs;
  }
}
