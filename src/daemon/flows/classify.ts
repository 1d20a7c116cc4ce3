/**
 * Mode `auto` of a flow: by what it does, not by its port. A flow begins as interactive (the quickest path); one that has
 * carried much and still does is bulk (every path that costs nothing); one that has become quiet is interactive again. The
 * way back is slower than the way there, so that a transfer in pieces does not waver.
 */
import type { Micros } from '../../core/base/time.js';

export type FlowClass = 'interactive' | 'bulk';

/** A page's objects and answers of some 100 KB are still somebody waiting for them. */
const BULK_TOTAL_BYTES = 256 * 1024;
/** ... and at least this in one window: 1 Mbit/s. */
const WINDOW_US: Micros = 500_000;
const BULK_WINDOW_BYTES = 64 * 1024;
/** Interactive again after so long with less than this in each window. */
const QUIET_US: Micros = 3_000_000;
const QUIET_WINDOW_BYTES = 16 * 1024;

export class FlowClassifier {
  class: FlowClass = 'interactive';
  private windowStartUs: Micros;
  private windowStartBytes = 0;
  private quietSinceUs: Micros;

  constructor(nowUs: Micros) {
    this.windowStartUs = nowUs;
    this.quietSinceUs = nowUs;
  }

  /** `bytes`: carried so far, both ways. True: the class has changed. */
  sample(nowUs: Micros, bytes: number): boolean {
    const before = this.class;
    const windowBytes = bytes - this.windowStartBytes;
    if (windowBytes >= QUIET_WINDOW_BYTES) this.quietSinceUs = nowUs;
    if (bytes >= BULK_TOTAL_BYTES && windowBytes >= BULK_WINDOW_BYTES) this.class = 'bulk';
    else if (nowUs - this.quietSinceUs >= QUIET_US) this.class = 'interactive';
    if (nowUs - this.windowStartUs >= WINDOW_US) {
      this.windowStartUs = nowUs;
      this.windowStartBytes = bytes;
    }
    return this.class !== before;
  }
}
