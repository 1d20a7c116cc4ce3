/**
 * Data ranges to send again on another subflow (RFC 8684 3.3.6), sorted by DSN and merged. Each remembers the subflow
 * that has them outstanding, which is the one not to choose. Bounded by the data in flight.
 */
export interface ReinjectionRange {
  dsn: number;
  endDsn: number;
  /** Subflow id that carries the bytes already, -1 if any subflow will do. */
  readonly notOn: number;
}

export class ReinjectionQueue {
  private ranges: ReinjectionRange[] = [];

  get isEmpty(): boolean {
    return this.ranges.length === 0;
  }

  get first(): ReinjectionRange | undefined {
    return this.ranges[0];
  }

  get pendingBytes(): number {
    let sum = 0;
    for (const r of this.ranges) sum += r.endDsn - r.dsn;
    return sum;
  }

  add(dsn: number, endDsn: number, notOn: number): void {
    const ranges = this.ranges;
    let from = dsn;
    let i = 0;
    while (from < endDsn) {
      while (i < ranges.length && ranges[i]!.endDsn <= from) i++;
      const next = ranges[i];
      if (next !== undefined && next.dsn <= from) {
        from = next.endDsn;
        continue;
      }
      const to = next === undefined ? endDsn : Math.min(endDsn, next.dsn);
      const prev = ranges[i - 1];
      if (prev !== undefined && prev.endDsn === from && prev.notOn === notOn) prev.endDsn = to;
      else ranges.splice(i, 0, { dsn: from, endDsn: to, notOn });
      from = to;
    }
  }

  /** The first `bytes` of the first range were taken. */
  consume(bytes: number): void {
    const r = this.ranges[0]!;
    r.dsn += bytes;
    if (r.dsn >= r.endDsn) this.ranges.shift();
  }

  /** Everything below `dsn` is DATA_ACKed. */
  dropBelow(dsn: number): void {
    while (this.ranges.length > 0 && this.ranges[0]!.endDsn <= dsn) this.ranges.shift();
    const r = this.ranges[0];
    if (r !== undefined && r.dsn < dsn) r.dsn = dsn;
  }

  /** A subflow is gone or fine again: forget what waited because of it (fine) or lift its exclusion (gone). */
  forget(subflowId: number): void {
    this.ranges = this.ranges.filter((r) => r.notOn !== subflowId);
  }

  clear(): void {
    this.ranges = [];
  }
}
