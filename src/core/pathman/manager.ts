/**
 * The path manager of one session (DESIGN 3.4): events in, commands out, no clock and no I/O of its own.
 *
 * It is level-triggered: an event only changes facts (a link is up, a subflow stalled), and then `#settle` makes the paths
 * follow the facts, always in the same order: deadlines, which paths exist, which are possible, attempts, who carries data,
 * what can be forgotten. So no event can be missed for good, and any order of events ends in the same place.
 *
 * Driver: handle() or onTimer(), then pollCommand() until undefined, then re-arm at nextDeadline().
 */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import { Outbox } from './outbox.js';
import type { Path } from './path.js';
import { chooseActive, strictestRole } from './policy.js';
import { nextState, type PathTrigger } from './states.js';
import { statusOf } from './status.js';
import { isWorking, PathTable } from './table.js';
import type {
  PathCommand,
  PathEvent,
  PathLink,
  PathManagerConfig,
  PathStatus,
  PathTransition,
  PeerWish,
  RemoteEndpoint,
} from './types.js';

/** No answer to an attempt in this time is a failure; shorter while the session has no subflow and another path waits. */
const JOIN_TIMEOUT_US = 10_000_000;
const CONNECT_HEDGE_US = 3_000_000;
/** A suspended subflow has this long to answer after its link returned, before it is replaced. */
const RECOVER_US = 1_000_000;
/** A stalled subflow on a link that is up is replaced after this long, if another path works. */
const STALL_REPLACE_US = 5_000_000;
/** Draining: time for what is in flight, time to wait for another path, time for the FIN to be answered. */
const DRAIN_US = 200_000;
const DRAIN_ALONE_US = 5_000_000;
const CLOSE_US = 3_000_000;
/** A subflow that lived this long owes nothing to a bad path: it is replaced at once. */
const STABLE_US = 10_000_000;
/** Overflow links stay in use this long after saturation ended. */
const OVERFLOW_HOLD_US = 5_000_000;

export class PathManager {
  readonly #config: PathManagerConfig;
  readonly #random: () => number;
  readonly #table: PathTable;
  readonly #outbox = new Outbox();
  /** none: nothing is connected; connected: joins must wait for session-ready. */
  #session: 'none' | 'connected' | 'ready' = 'none';
  #saturatedUntilUs: Micros = Number.NEGATIVE_INFINITY;
  #settledUs: Micros = Number.NEGATIVE_INFINITY;

  /** `random` is uniform in [0, 1). */
  constructor(config: PathManagerConfig, random: () => number) {
    this.#config = config;
    this.#random = random;
    this.#table = new PathTable(config);
  }

  handle(nowUs: Micros, event: PathEvent): void {
    // These come by the thousand and seldom mean anything.
    if (event.type === 'packet-received' && !this.#isNews(event.linkId)) return;
    this.#take(nowUs, event);
    this.#settle(nowUs);
  }

  onTimer(nowUs: Micros): void {
    this.#settle(nowUs);
  }

  /** When onTimer has something to do; NEVER if nothing is pending. Always later than the last call's time. */
  nextDeadline(): Micros {
    let next = NEVER;
    const consider = (us: Micros) => {
      if (us > this.#settledUs && us < next) next = us;
    };
    consider(this.#saturatedUntilUs);
    for (const path of this.#table.all()) {
      consider(path.deadlineUs);
      if (path.state === 'blocked' || (path.state === 'probing' && !path.hasSubflow)) consider(path.retryAtUs);
      if (path.isStalled) consider(path.stalledSinceUs + STALL_REPLACE_US);
    }
    return next;
  }

  pollCommand(): PathCommand | undefined {
    return this.#outbox.nextCommand();
  }

  /** Changes of state since the last call, oldest first. */
  pollTransition(): PathTransition | undefined {
    return this.#outbox.nextTransition();
  }

  /** Best first. */
  paths(nowUs: Micros): PathStatus[] {
    const all = this.#table.ordered([...this.#table.all()]);
    return all.map((path) =>
      statusOf(path, nowUs, this.#table.roleOf(path), this.#table.fading.has(path.link.id), all),
    );
  }

  pathIdOf(linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): number | undefined {
    return this.#table.byAddresses(linkId, localAddress, remote)?.id;
  }

  // --- facts -----------------------------------------------------------------------------------------------------------

  #take(nowUs: Micros, event: PathEvent): void {
    switch (event.type) {
      case 'link-added':
        this.#setLink(event.link);
        break;
      case 'link-changed': {
        const old = this.#table.links.get(event.linkId);
        if (old === undefined) break;
        this.#setLink({ ...old, isUp: event.isUp ?? old.isUp, addresses: event.addresses ?? old.addresses });
        break;
      }
      case 'link-removed': {
        const old = this.#table.links.get(event.linkId);
        if (old === undefined) break;
        this.#setLink({ ...old, isUp: false, addresses: [] });
        this.#table.links.delete(event.linkId);
        this.#table.fading.delete(event.linkId);
        break;
      }
      case 'link-fading':
        if (!this.#table.links.has(event.linkId)) break;
        if (event.isFading) this.#table.fading.add(event.linkId);
        else this.#table.fading.delete(event.linkId);
        break;
      case 'packet-received':
        this.#signOfLife(nowUs, event.linkId);
        break;
      case 'remote-addresses':
        this.#table.remotes = event.remotes;
        break;
      case 'session-ready':
        this.#session = 'ready';
        break;
      case 'session-lost':
        this.#loseSession(nowUs);
        break;
      case 'peer-joined':
        this.#peerJoined(nowUs, event.linkId, event.localAddress, event.remote);
        break;
      case 'role-changed': {
        const old = this.#table.links.get(event.linkId);
        if (old === undefined) break;
        this.#setLink({ ...old, role: event.role });
        for (const path of this.#table.onLink(event.linkId)) path.resetBackOff(nowUs);
        break;
      }
      case 'saturation':
        this.#saturatedUntilUs = event.isSaturated ? NEVER : Math.min(this.#saturatedUntilUs, nowUs + OVERFLOW_HOLD_US);
        break;
      default: {
        const path = this.#table.byId(event.pathId);
        if (path !== undefined) this.#takePathEvent(nowUs, path, event);
      }
    }
  }

  #takePathEvent(nowUs: Micros, path: Path, event: Extract<PathEvent, { pathId: number }>): void {
    switch (event.type) {
      case 'join-started':
        // The driver may have been slow to begin; the time to answer counts from here.
        if (path.state === 'joining') path.deadlineUs = Math.max(path.deadlineUs, nowUs + CONNECT_HEDGE_US);
        break;
      case 'join-established':
        if (path.state === 'joining') this.#established(nowUs, path);
        break;
      case 'join-failed':
        if (path.state === 'joining') this.#failed(nowUs, path, event.reason, !event.isTransient);
        break;
      case 'subflow-stalled':
        if (!path.hasSubflow || path.isStalled) break;
        path.isStalled = true;
        path.stalledSinceUs = nowUs;
        // Of a link that is down the peer knows already.
        if (path.state !== 'down' && this.#table.anotherWorks(path)) this.#tell(path, { what: 'silent' });
        break;
      case 'subflow-recovered':
        this.#recovered(nowUs, path);
        break;
      case 'subflow-closed':
        this.#closed(nowUs, path, event.why);
        break;
      case 'peer-wish':
        this.#wished(path, event.wish);
    }
  }

  /** Everything about links goes through here, so that the engine hears of up and down before anything else. */
  #setLink(link: PathLink): void {
    const wasUp = this.#table.links.get(link.id)?.isUp;
    this.#table.links.set(link.id, link);
    for (const path of this.#table.onLink(link.id)) path.link = link;
    if (wasUp !== undefined && wasUp !== link.isUp) {
      this.#outbox.order({ type: 'link-state', linkId: link.id, isUp: link.isUp });
    }
  }

  /** Some path over this link waits for an answer or has never got one. */
  #isNews(linkId: number): boolean {
    for (const path of this.#table.all()) {
      if (path.link.id === linkId && path.state === 'probing' && (path.hasSubflow || path.wasSilent)) return true;
    }
    return false;
  }

  /** A packet from where there was silence: whatever kept it away may be over. */
  #signOfLife(nowUs: Micros, linkId: number): void {
    const onLink = this.#table.onLink(linkId);
    const suspended = onLink.filter((p) => p.state === 'probing' && p.hasSubflow);
    if (suspended.length === 1) this.#recovered(nowUs, suspended[0]!);
    if (onLink.some((p) => p.isEstablished)) return;
    for (const path of onLink) {
      if (path.state !== 'probing' || !path.wasSilent) continue;
      path.resetBackOff(nowUs);
      path.wasSilent = false;
    }
  }

  #established(nowUs: Micros, path: Path): void {
    path.isEstablished = true;
    path.establishedAtUs = nowUs;
    path.failures = 0;
    path.lastFailure = null;
    path.wasSilent = false;
    path.deadlineUs = NEVER;
    if (this.#session === 'none') this.#session = 'connected';
    this.#move(nowUs, path, 'joined', 'established');
    this.#tellReturned(path);
  }

  #failed(nowUs: Micros, path: Path, reason: string, isRefused: boolean): void {
    path.forgetSubflow();
    path.lastFailure = reason;
    path.wasSilent = reason === 'timeout';
    path.backOff(nowUs, this.#random(), isRefused);
    this.#move(nowUs, path, isRefused ? 'refused' : 'failed', reason);
  }

  #recovered(nowUs: Micros, path: Path): void {
    if (!path.hasSubflow) return;
    path.isStalled = false;
    path.isPeerGone = false;
    if (path.state === 'probing') {
      path.deadlineUs = NEVER;
      this.#move(nowUs, path, 'recovered', 'its subflow answered');
    }
    if (path.state !== 'down') this.#tellReturned(path);
  }

  #closed(nowUs: Micros, path: Path, why: string): void {
    if (path.state === 'joining') {
      this.#failed(nowUs, path, why, false);
      return;
    }
    if (!path.hasSubflow) return;
    const wasStable = nowUs - path.establishedAtUs >= STABLE_US;
    path.forgetSubflow();
    path.lastFailure = why;
    if (wasStable) path.resetBackOff(nowUs);
    else path.backOff(nowUs, this.#random(), false);
    this.#move(nowUs, path, 'lost', why);
  }

  #wished(path: Path, wish: PeerWish): void {
    switch (wish.what) {
      case 'role':
        path.peerRole = wish.role;
        break;
      case 'going':
        path.isPeerGoing = true;
        break;
      case 'returned':
        path.isPeerGoing = false;
        if (!path.isPeerGone) break;
        path.isPeerGone = false;
        if (path.hasSubflow) this.#outbox.order({ type: 'link-state', linkId: path.link.id, isUp: path.link.isUp });
        break;
      case 'gone':
        path.isPeerGone = path.hasSubflow;
        this.#suspect(path, 'peer says that its link is gone');
        break;
      case 'silent':
        this.#suspect(path, 'peer hears nothing from us here');
    }
  }

  #suspect(path: Path, why: string): void {
    if (path.hasSubflow && path.isEstablished) this.#outbox.order({ type: 'suspect', pathId: path.id, why });
  }

  #loseSession(nowUs: Micros): void {
    this.#session = 'none';
    for (const path of this.#table.all()) {
      const wasJoining = path.state === 'joining';
      path.forgetSubflow();
      path.peerRole = 'always';
      path.wasToldGone = false;
      path.resetBackOff(nowUs);
      this.#move(nowUs, path, wasJoining ? 'failed' : 'lost', 'session lost');
    }
  }

  #peerJoined(nowUs: Micros, linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): void {
    const link = this.#table.links.get(linkId);
    if (link === undefined) return;
    const path = this.#table.ensure(link, localAddress, remote);
    if (path === undefined) return;
    if (path.hasSubflow) {
      this.#recovered(nowUs, path);
      return;
    }
    path.hasSubflow = true;
    this.#established(nowUs, path);
  }

  // --- consequences ----------------------------------------------------------------------------------------------------

  #settle(nowUs: Micros): void {
    this.#settledUs = nowUs;
    for (const path of this.#table.all()) this.#expire(nowUs, path);
    this.#table.matchAddresses();
    for (const path of this.#table.all()) this.#reach(nowUs, path);
    if (this.#config.side === 'client') {
      this.#trim(nowUs);
      this.#attempt(nowUs);
    }
    this.#chooseCarriers(nowUs);
    this.#forget();
  }

  #expire(nowUs: Micros, path: Path): void {
    const isDue = nowUs >= path.deadlineUs;
    if (path.state === 'joining' && isDue) {
      this.#outbox.order({ type: 'close', pathId: path.id, how: 'reset' });
      this.#failed(nowUs, path, 'timeout', false);
    } else if (path.state === 'probing' && path.hasSubflow && isDue) {
      // The last subflow is never given up: the connection lives in it, and it may yet answer. A server leaves it to the
      // client, which alone can open another.
      if (this.#config.side === 'server') path.deadlineUs = NEVER;
      else if (this.#table.hasAnotherSubflow(path)) this.#reset(path);
      else path.deadlineUs = nowUs + RECOVER_US;
    } else if (path.state === 'draining') this.#drain(nowUs, path);
    else if (path.state === 'blocked' && nowUs >= path.retryAtUs) this.#move(nowUs, path, 'retry', 'time to try again');
    else if (
      path.isStalled &&
      (path.state === 'warm' || path.state === 'active') &&
      nowUs >= path.stalledSinceUs + STALL_REPLACE_US &&
      this.#config.side === 'client' &&
      this.#table.anotherWorks(path)
    ) {
      this.#reset(path);
      path.resetBackOff(nowUs);
      this.#move(nowUs, path, 'lost', 'stalled for too long');
    }
  }

  #drain(nowUs: Micros, path: Path): void {
    if (path.isCloseSent) {
      if (nowUs < path.deadlineUs) return;
      this.#reset(path);
      this.#move(nowUs, path, 'lost', 'FIN not answered');
      return;
    }
    // Make before break: another path has to work, unless none comes in time.
    const waitUs = this.#table.anotherWorks(path) ? DRAIN_US : DRAIN_ALONE_US;
    path.deadlineUs = path.stateSinceUs + waitUs;
    if (nowUs < path.deadlineUs) return;
    path.isCloseSent = true;
    path.deadlineUs = nowUs + CLOSE_US;
    this.#outbox.order({ type: 'close', pathId: path.id, how: 'fin' });
  }

  #reach(nowUs: Micros, path: Path): void {
    const isThere = path.link.isUp && !path.isOrphan;
    const isAllowed = this.#table.roleOf(path) !== 'never';
    if (isThere && isAllowed) {
      if (path.state === 'draining' && !path.isCloseSent) {
        path.deadlineUs = NEVER;
        this.#move(nowUs, path, 'keep', 'allowed again');
      }
      if (path.state === 'blocked' && path.retryAtUs <= nowUs)
        this.#move(nowUs, path, 'retry', 'circumstances changed');
      if (path.state !== 'down') return;
      path.resetBackOff(nowUs);
      if (path.hasSubflow) this.#resume(nowUs, path);
      this.#move(nowUs, path, 'possible', 'link and addresses are there');
      return;
    }
    if (path.state === 'down') {
      if (isThere && path.hasSubflow) this.#reset(path); // came back, but is not wanted any more
      return;
    }
    const isInUse = path.state === 'warm' || path.state === 'active';
    if (isThere && isInUse) {
      this.#setBackup(path, true);
      this.#tell(path, { what: 'going' });
      this.#move(nowUs, path, 'drop', 'role is never');
      path.deadlineUs = nowUs + (this.#table.anotherWorks(path) ? DRAIN_US : DRAIN_ALONE_US);
      return;
    }
    if (isThere && path.state === 'draining') return;
    // A subflow that was established outlives its link for now: the same addresses may return in a moment.
    if (path.hasSubflow && (isThere || !path.isEstablished)) this.#reset(path);
    path.deadlineUs = NEVER;
    path.isUnprobed = path.hasSubflow && path.link.isUp;
    if (path.hasSubflow && !path.wasToldGone) {
      path.wasToldGone = true;
      this.#tell(path, { what: 'gone' });
    }
    this.#move(
      nowUs,
      path,
      'impossible',
      isThere ? 'role is never' : path.isOrphan ? 'address is gone' : 'link is down',
    );
  }

  /** Its link or address is back: the suspended subflow has a moment to answer. */
  #resume(nowUs: Micros, path: Path): void {
    path.deadlineUs = nowUs + RECOVER_US;
    // A link that came up has been announced as such; one that was up all the time lost only the address.
    if (path.isUnprobed) this.#outbox.order({ type: 'link-state', linkId: path.link.id, isUp: true });
    path.isUnprobed = false;
  }

  #attempt(nowUs: Micros): void {
    const ready = this.#table.ordered(
      [...this.#table.all()].filter(
        (p) => p.state === 'probing' && !p.hasSubflow && !p.isUnlisted && p.retryAtUs <= nowUs,
      ),
    );
    if (this.#session === 'none') {
      const isConnecting = [...this.#table.all()].some((p) => p.state === 'joining');
      if (ready.length > 0 && !isConnecting) this.#open(nowUs, ready[0]!, ready.length > 1);
      return;
    }
    if (this.#session !== 'ready') return;
    for (const path of ready) {
      const held = this.#table.held();
      if (held.filter((p) => p.link.id === path.link.id).length >= this.#config.maxPathsPerLink) continue;
      if (held.length >= this.#config.maxSubflows && !this.#makeRoom(nowUs, path, held)) continue;
      this.#open(nowUs, path, false);
    }
  }

  #open(nowUs: Micros, path: Path, isHedged: boolean): void {
    const { id: pathId, localAddress, remote } = path;
    const linkId = path.link.id;
    path.hasSubflow = true;
    path.deadlineUs = nowUs + (isHedged ? CONNECT_HEDGE_US : JOIN_TIMEOUT_US);
    this.#move(nowUs, path, 'attempt', 'its turn');
    if (this.#session === 'none') {
      path.isBackupSet = false;
      this.#outbox.order({ type: 'connect', pathId, linkId, localAddress, remote });
      return;
    }
    const works = this.#table.working().concat(path);
    path.isBackupSet = !this.#choose(nowUs, this.#table.ordered(works)).includes(path);
    this.#outbox.order({ type: 'join', pathId, linkId, localAddress, remote, backup: path.isBackupSet });
  }

  /** True if there is room for `path` now: a suspended subflow goes at once, a lesser one is drained first. */
  #makeRoom(nowUs: Micros, path: Path, held: readonly Path[]): boolean {
    const suspended = held.find((p) => p.state === 'down' && this.#table.hasAnotherSubflow(p));
    if (suspended !== undefined) {
      this.#reset(suspended);
      return true;
    }
    if (held.some((p) => p.state === 'draining')) return false;
    const worst = this.#table.ordered(held.filter((p) => p.state === 'warm')).at(-1);
    if (
      worst === undefined ||
      strictestRole(this.#table.roleOf(path), this.#table.roleOf(worst)) === this.#table.roleOf(path)
    )
      return false;
    this.#dismiss(nowUs, worst, 'a better path needs its place');
    return false;
  }

  /** A subflow came back with its address after another had taken its place: the lesser one goes. */
  #trim(nowUs: Micros): void {
    const held = this.#table.held().filter((p) => p.state !== 'draining');
    const isOver = (path: Path) =>
      held.length > this.#config.maxSubflows ||
      held.filter((p) => p.link.id === path.link.id).length > this.#config.maxPathsPerLink;
    for (const path of this.#table.ordered([...held]).reverse()) {
      if (!path.isEstablished || !isOver(path) || !held.some((p) => p !== path && isWorking(p))) continue;
      if (path.state === 'warm' || path.state === 'active') this.#dismiss(nowUs, path, 'more subflows than allowed');
      else this.#reset(path);
      held.splice(held.indexOf(path), 1);
    }
  }

  /** Ends an established subflow in order; draining waits for the FIN's answer. */
  #dismiss(nowUs: Micros, path: Path, cause: string): void {
    this.#tell(path, { what: 'going' });
    this.#move(nowUs, path, 'drop', cause);
    path.isCloseSent = true;
    path.deadlineUs = nowUs + CLOSE_US;
    this.#outbox.order({ type: 'close', pathId: path.id, how: 'fin' });
  }

  #chooseCarriers(nowUs: Micros): void {
    const working = this.#table.ordered(this.#table.working());
    const chosen = this.#choose(nowUs, working);
    const established = [...this.#table.all()].filter((p) => p.state === 'warm' || p.state === 'active');
    // First the new ones, then the others: make before break.
    for (const path of established) if (chosen.includes(path)) this.#use(nowUs, path);
    for (const path of established) {
      if (chosen.includes(path)) continue;
      // Nothing works: leave everything as it is; whatever answers first is used.
      if (working.length === 0) continue;
      const isHopeful =
        !working.includes(path) && this.#config.mode === 'aggregate' && this.#table.roleOf(path) === 'always';
      if (!isHopeful) this.#rest(nowUs, path);
    }
  }

  #use(nowUs: Micros, path: Path): void {
    this.#setBackup(path, false);
    if (path.state === 'active') return;
    this.#move(nowUs, path, 'use', 'chosen to carry data');
  }

  #rest(nowUs: Micros, path: Path): void {
    this.#setBackup(path, true);
    if (path.state === 'active') this.#move(nowUs, path, 'rest', 'others carry the data');
  }

  /** Forgets paths that are no more, and ends the subflows of links that are no more, the last one excepted. */
  #forget(): void {
    for (const path of this.#table.all()) {
      if (path.isOrphan && path.hasSubflow && this.#table.hasAnotherSubflow(path)) this.#reset(path);
      const isOver = path.isOrphan || path.isUnlisted || this.#config.side === 'server';
      if (isOver && !path.hasSubflow) this.#table.remove(path);
    }
  }

  // --- small things ----------------------------------------------------------------------------------------------------

  #choose(nowUs: Micros, working: readonly Path[]): readonly Path[] {
    return chooseActive(working, (p) => this.#table.roleOf(p), nowUs < this.#saturatedUntilUs, this.#config.mode);
  }

  #setBackup(path: Path, backup: boolean): void {
    if (path.isBackupSet === backup) return;
    path.isBackupSet = backup;
    this.#outbox.order({ type: 'set-backup', pathId: path.id, backup });
    // A server does not tell roles: it would echo the client's, and neither could ever take it back.
    if (this.#config.side === 'client') this.#tell(path, { what: 'role', role: backup ? 'backup' : 'always' });
  }

  #tellReturned(path: Path): void {
    if (!path.wasToldGone) return;
    path.wasToldGone = false;
    this.#tell(path, { what: 'returned' });
  }

  #tell(path: Path, wish: PeerWish): void {
    this.#outbox.order({ type: 'tell-peer', pathId: path.id, wish });
  }

  #reset(path: Path): void {
    this.#outbox.order({ type: 'close', pathId: path.id, how: 'reset' });
    path.forgetSubflow();
  }

  #move(nowUs: Micros, path: Path, trigger: PathTrigger, cause: string): void {
    const to = nextState(path.state, trigger);
    if (to === undefined) return;
    this.#outbox.note({ nowUs, pathId: path.id, linkName: path.link.name, from: path.state, to, cause });
    path.state = to;
    path.stateSinceUs = nowUs;
  }
}
