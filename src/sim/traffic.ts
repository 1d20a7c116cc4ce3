/**
 * Applications on the hosts. All bytes come from one endless pattern whose period is a prime, so that a byte out of
 * place, missing or twice is seen at once, and nothing has to be generated or kept.
 */
import { type Micros, NEVER } from '../core/base/time.js';
import type { ByteReader, ConnectionApi } from '../core/engine/api.js';
import { Prng } from './prng.js';

const PERIOD_BYTES = 65_521;
/** The pattern twice in a row, so that any piece up to a period long is contiguous in it. */
const PATTERN = new Uint8Array(2 * PERIOD_BYTES);
new Prng(0x6d70_7475).fill(PATTERN.subarray(0, PERIOD_BYTES));
PATTERN.copyWithin(PERIOD_BYTES, 0, PERIOD_BYTES);
const PATTERN_VIEW = new DataView(PATTERN.buffer);

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
    const from = this.receivedBytes % PERIOD_BYTES;
    if (from + lengthBytes <= PATTERN_VIEW.byteLength) {
      // Word by word: this is the hottest loop of a simulation.
      const view = new DataView(buf.buffer, buf.byteOffset + offset, lengthBytes);
      const words = lengthBytes & ~3;
      let i = 0;
      while (i < words && view.getInt32(i) === PATTERN_VIEW.getInt32(from + i)) i += 4;
      if (i === words && lengthBytes - words === 0) return;
      this.compareBytes(buf, offset + i, lengthBytes - i, i);
    } else this.compareBytes(buf, offset, lengthBytes, 0);
  }

  private compareBytes(buf: Uint8Array, offset: number, lengthBytes: number, skipBytes: number): void {
    for (let i = 0; i < lengthBytes; i++) {
      const at = this.receivedBytes + skipBytes + i;
      if (buf[offset + i] === PATTERN[at % PERIOD_BYTES]) continue;
      this.corruptAtByte = at;
      return;
    }
  }
}
