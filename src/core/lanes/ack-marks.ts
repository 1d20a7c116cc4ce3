/**
 * Which of the numbered writes into a byte stream have been acknowledged. Write n ends somewhere at or before the stream
 * offset that was current when the write was reported done (TLS in between makes it longer), so "acknowledged" is late
 * rather than early.
 */

/** Writes remembered one by one; beyond that, new ones share the newest mark. */
const MARKS = 2048;

export class AckMarks {
  /** Number of the newest write begun. */
  newest = 0;
  /** All writes up to this one are acknowledged. */
  acked = 0;

  private readonly serials = new Float64Array(MARKS);
  private readonly offsets = new Float64Array(MARKS);
  private head = 0;
  private count = 0;

  /** A write begins: its number. */
  begin(): number {
    return ++this.newest;
  }

  /** Everything begun so far lies before `streamOffset`. */
  written(streamOffset: number): void {
    if (this.count === MARKS) this.count--;
    const at = (this.head + this.count++) % MARKS;
    this.serials[at] = this.newest;
    this.offsets[at] = streamOffset;
  }

  /** The peer has everything before `streamOffset`. True if `acked` moved. */
  advance(streamOffset: number): boolean {
    let moved = false;
    while (this.count > 0 && this.offsets[this.head]! <= streamOffset) {
      this.acked = this.serials[this.head]!;
      this.head = (this.head + 1) % MARKS;
      this.count--;
      moved = true;
    }
    return moved;
  }

  /** The stream is gone: nothing of it is outstanding any more. */
  reset(): void {
    this.acked = this.newest;
    this.head = 0;
    this.count = 0;
  }
}
