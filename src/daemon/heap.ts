/** V8's heap limits, set for what a daemon on the packet path does to it. */
import { setFlagsFromString } from 'node:v8';

/**
 * After a full collection the next one comes when the old generation has grown by this, in percent. TLS allocates a
 * buffer outside the heap for each record; those that live through a round trip are promoted and count. V8's own choice
 * is near 130 % of a small heap, which is a full collection every 10 MB of traffic and a third of all CPU time.
 */
const GROWTH_PERCENT = 400;

/** Call it before traffic flows. */
export function tuneHeap(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
