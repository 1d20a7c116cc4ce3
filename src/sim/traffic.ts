/**
 * Applications on the hosts. All bytes come from one endless pattern whose period is a prime, so that a byte out of
 * place, missing or twice is seen at once, and nothing has to be generated or kept.
 */
import { type Micros, NEVER } from '../core/base/time.js';
import type { ByteReader, ConnectionApi } from '../core/engine/api.js';
import { Prng } from './prng.js';

const PERIOD_BYTES = 65_521;
const PATTERN = new Uint8Array(PERIOD_BYTES);
new Prng(0x6d70_7475).fill(PATTERN);

/** A writer keeps this much unsent in the connection, and refills when it falls to half. */
const WRITE_AHEAD_BYTES = 262_144;

/** Writes the pattern, as fast as the connection takes it. */
export class PatternWriter {
  private writtenBytes = 0;
  private limitBytes = 0;
  private endsAtLimit = false;
  private hasEnded = false;

  constructor(
    private readonly connection: ConnectionApi,
    private readonly clock: { readonly nowUs: Micros },
  ) {
    connection.setSendSpace(WRITE_AHEAD_BYTES / 2, () => this.fill());
  }

  /** Adds `bytes` (Infinity: for ever) to what is to be written; then ends the stream, if asked to. */
  send(bytes: number, thenEnds: boolean): void {
    this.limitBytes += bytes;
    this.endsAtLimit = thenEnds;
    this.fill();
  }

  private fill(): void {
    const connection = this.connection;
    if (this.hasEnded || connection.state === 'closed') return;
    while (this.writtenBytes < this.limitBytes && connection.unsentBytes < WRITE_AHEAD_BYTES) {
      const at = this.writtenBytes % PERIOD_BYTES;
      const n = Math.min(PERIOD_BYTES - at, this.limitBytes - this.writtenBytes);
      connection.write(this.clock.nowUs, PATTERN.subarray(at, at + n));
      this.writtenBytes += n;
    }
    if (!this.endsAtLimit || this.writtenBytes < this.limitBytes) return;
    this.hasEnded = true;
    connection.end(this.clock.nowUs);
  }
}

/** Checks every byte against the pattern and keeps the times that matter. */
export class PatternReader implements ByteReader {
  receivedBytes = 0;
  /** First byte that is not what was sent, or -1. */
  corruptAtByte = -1;
  firstUs: Micros = NEVER;
  lastUs: Micros = NEVER;
  endedUs: Micros = NEVER;
  longestGapUs = 0;
  longestGapAtUs: Micros = -1;
  onProgress: ((receivedBytes: number) => void) | null = null;
  onFinished: (() => void) | null = null;
  /** While true, nothing is taken. */
  isPaused = false;

  constructor(private readonly clock: { readonly nowUs: Micros }) {}

  onBytes(buf: Uint8Array, offset: number, lengthBytes: number): number {
    if (this.isPaused) return 0;
    this.noteGap(this.clock.nowUs);
    this.lastUs = this.clock.nowUs;
    if (this.firstUs === NEVER) this.firstUs = this.lastUs;
    if (this.corruptAtByte < 0) this.compare(buf, offset, lengthBytes);
    this.receivedBytes += lengthBytes;
    this.onProgress?.(this.receivedBytes);
    return lengthBytes;
  }

  onEnd(): void {
    this.endedUs = this.clock.nowUs;
    this.onFinished?.();
  }

  /** A gap that is still open when the run ends counts too. */
  noteGap(nowUs: Micros): void {
    if (this.lastUs === NEVER || nowUs - this.lastUs <= this.longestGapUs) return;
    this.longestGapUs = nowUs - this.lastUs;
    this.longestGapAtUs = this.lastUs;
  }

  private compare(buf: Uint8Array, offset: number, lengthBytes: number): void {
    let at = this.receivedBytes % PERIOD_BYTES;
    for (let i = 0; i < lengthBytes; i++) {
      if (buf[offset + i] !== PATTERN[at]) {
        this.corruptAtByte = this.receivedBytes + i;
        return;
      }
      if (++at === PERIOD_BYTES) at = 0;
    }
  }
}
