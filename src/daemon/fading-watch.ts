/**
 * Which links are about to break: each sample of a link's signal, together with how the subflows over it fare, goes to the
 * judgement in core/pathman/fading.ts. Kept by interface index, so it outlives a rename and ends with the interface.
 */
import { type Micros, US_PER_S } from '../core/base/time.js';
import type { SubflowInfo } from '../core/engine/api.js';
import { Fading, type PathFacts } from '../core/pathman/fading.js';

/** What of a subflow the judgement looks at. */
export type FadingView = Pick<
  SubflowInfo,
  'state' | 'srttUs' | 'minRttUs' | 'isStalled' | 'bytesSent' | 'bytesRetransmitted'
>;

/** A radio that has said nothing of its signal for so long has nothing to say. */
const UNHEARD_US = 3 * US_PER_S;
/** Less than this sent since the last sample says nothing about loss. */
const MIN_SENT_BYTES = 15_000;

interface Watched {
  readonly judge: Fading;
  ssid: string | null;
  isFading: boolean;
  heardUs: Micros;
  sentBytes: number;
  retransmittedBytes: number;
}

export class FadingWatch {
  readonly #links = new Map<number, Watched>();

  /**
   * A sample, or that there is none (null); the new verdict if it is another one than before, else null. `subflows`: those
   * over the link.
   */
  sample(
    nowUs: Micros,
    link: { readonly id: number; readonly ssid: string | null },
    signalDbm: number | null,
    subflows: readonly FadingView[],
  ): boolean | null {
    let watched = this.#links.get(link.id);
    if (signalDbm === null) {
      return watched !== undefined && nowUs - watched.heardUs >= UNHEARD_US ? this.reset(link.id) : null;
    }
    if (watched === undefined) {
      watched = {
        judge: new Fading(),
        ssid: link.ssid,
        isFading: false,
        heardUs: nowUs,
        sentBytes: 0,
        retransmittedBytes: 0,
      };
      this.#links.set(link.id, watched);
    }
    // What the access points of one network say continues the same walk; another network is another story.
    if (watched.ssid !== link.ssid) watched.judge.reset();
    watched.ssid = link.ssid;
    watched.heardUs = nowUs;
    return this.#verdict(watched, watched.judge.sample(nowUs, signalDbm, factsOf(watched, subflows)));
  }

  /** Whether its next sample may change the verdict, and so should come soon. */
  isRestless(linkId: number): boolean {
    return this.#links.get(linkId)?.judge.isRestless ?? false;
  }

  /** The link is down: what was seen of its signal is over. Answers as `sample` does. */
  reset(linkId: number): boolean | null {
    const watched = this.#links.get(linkId);
    if (watched === undefined) return null;
    watched.judge.reset();
    return this.#verdict(watched, false);
  }

  forget(linkId: number): void {
    this.#links.delete(linkId);
  }

  #verdict(watched: Watched, isFading: boolean): boolean | null {
    if (watched.isFading === isFading) return null;
    watched.isFading = isFading;
    return isFading;
  }
}

/** The quickest subflow speaks for the path's delay, all of them together for its loss; stalled only if every one is. */
function factsOf(watched: Watched, subflows: readonly FadingView[]): PathFacts {
  const open = subflows.filter((s) => s.state === 'established');
  const sentBytes = subflows.reduce((n, s) => n + s.bytesSent, 0);
  const retransmittedBytes = subflows.reduce((n, s) => n + s.bytesRetransmitted, 0);
  const sent = sentBytes - watched.sentBytes;
  const again = retransmittedBytes - watched.retransmittedBytes;
  // A subflow that has gone took its counts along: then there is nothing to compare with.
  const isKnown = sent >= MIN_SENT_BYTES && again >= 0;
  if (isKnown || sent < 0 || again < 0) {
    watched.sentBytes = sentBytes;
    watched.retransmittedBytes = retransmittedBytes;
  }
  const best = open.filter((s) => s.srttUs > 0).sort((a, b) => a.srttUs - b.srttUs)[0];
  return {
    ...(best !== undefined && { srttUs: best.srttUs, minRttUs: best.minRttUs }),
    ...(isKnown && { lossRate: Math.min(1, again / sent) }),
    isStalled: open.length > 0 && open.every((s) => s.isStalled),
  };
}
