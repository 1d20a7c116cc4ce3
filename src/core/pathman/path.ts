/** One path's facts and its retry clock. What they mean is decided in policy.ts and the files that manager.ts names. */
import type { IpAddress } from '../base/ip.js';
import { type Micros, NEVER } from '../base/time.js';
import type { LinkRole, PathLink, PathState, RemoteEndpoint } from './types.js';

const RETRY_FIRST_US = 500_000;
const RETRY_MAX_US = 30_000_000;
/** A refusal is policy and does not pass in seconds. */
const BLOCKED_FIRST_US = 60_000_000;
const BLOCKED_MAX_US = 600_000_000;
/** Retry times are spread by this share either way, so that clients of a restarted server do not come back as one. */
const JITTER = 0.25;

export class Path {
  state: PathState = 'down';
  stateSinceUs: Micros = 0;
  /** A subflow exists: being opened, in use, or suspended while the link is down. */
  hasSubflow = false;
  /** The subflow was established at some time (it is not one still being opened). */
  isEstablished = false;
  establishedAtUs: Micros = 0;
  isStalled = false;
  stalledSinceUs: Micros = 0;
  /** What we last told the subflow about backup. */
  isBackupSet = false;
  /** By the peer's word. */
  peerRole: LinkRole = 'always';
  isPeerGone = false;
  isPeerGoing = false;
  /** The peer was told 'gone'; the next sign of life is worth telling too. */
  wasToldGone = false;
  /** The FIN of draining has been ordered. */
  isCloseSent = false;
  /** Its link or local address no longer exists: only a subflow that must not be the last to go keeps it here. */
  isOrphan = false;
  /** Suspended although its link stayed up (the address went): nobody will probe it when the address is back. */
  isUnprobed = false;
  /** Its remote endpoint is known no longer: what works is kept, but not opened again. */
  isUnlisted = false;

  failures = 0;
  lastFailure: string | null = null;
  /** The last attempt got no answer at all, so that any packet from there is news. */
  wasSilent = false;
  /** Earliest next attempt. */
  retryAtUs: Micros = 0;
  /** End of joining, of waiting for a suspended subflow, or of draining. */
  deadlineUs: Micros = NEVER;

  constructor(
    readonly id: number,
    /** The link as last reported; kept as it was when it is gone. */
    public link: PathLink,
    readonly localAddress: IpAddress,
    public remote: RemoteEndpoint,
  ) {}

  /** After a failed attempt: exponential back-off with jitter; `random` is uniform in [0, 1). */
  backOff(nowUs: Micros, random: number, isRefused: boolean): void {
    const first = isRefused ? BLOCKED_FIRST_US : RETRY_FIRST_US;
    const max = isRefused ? BLOCKED_MAX_US : RETRY_MAX_US;
    const delay = Math.min(first * 2 ** Math.min(this.failures, 16), max);
    this.failures++;
    this.retryAtUs = nowUs + Math.round(delay * (1 - JITTER + 2 * JITTER * random));
  }

  /** Something changed for the better: the next attempt is now. */
  resetBackOff(nowUs: Micros): void {
    this.failures = 0;
    this.retryAtUs = nowUs;
  }

  forgetSubflow(): void {
    this.hasSubflow = false;
    this.isEstablished = false;
    this.isStalled = false;
    this.isCloseSent = false;
    this.isPeerGone = false;
    this.isPeerGoing = false;
    this.deadlineUs = NEVER;
  }
}

/** What makes a path the same one. A server passes remotes with port 0: each connection has its own. */
export function pathKey(linkId: number, localAddress: IpAddress, remote: RemoteEndpoint): string {
  return `${linkId} ${localAddress.text} ${remote.address.text} ${remote.port}`;
}
