/** A port that misbehaves as configured, around any other; reproducible with a seeded `random`. For tests. */
import { CSUM_UNKNOWN, type PacketPort, type ReceiveBatch, type TransmitBatch } from '../../core/engine/ports.js';

/** Probabilities, 0 to 1, per packet (`refuseSend`: per call); absent is 0. */
export interface Faults {
  readonly loseOut?: number;
  readonly loseIn?: number;
  readonly duplicateIn?: number;
  /** One byte is flipped, and the checksum left for the receiver to verify. */
  readonly corruptIn?: number;
  /** `send` takes nothing. */
  readonly refuseSend?: number;
}

export class FaultyPort implements PacketPort {
  faults: Faults;
  readonly counts = { lostOut: 0, lostIn: 0, duplicatedIn: 0, corruptedIn: 0, refusedSends: 0 };

  /** `random` is uniform in [0, 1). */
  constructor(
    readonly inner: PacketPort,
    readonly random: () => number,
    faults: Faults,
  ) {
    this.faults = faults;
  }

  receive(batch: ReceiveBatch): number {
    const { loseIn = 0, duplicateIn = 0, corruptIn = 0 } = this.faults;
    const received = this.inner.receive(batch);
    let kept = 0;
    for (let i = 0; i < received; i++) {
      if (this.#happens(loseIn)) {
        this.counts.lostIn++;
        continue;
      }
      if (this.#happens(corruptIn) && batch.length[i]! > 0) {
        batch.slab[batch.offset[i]! + Math.floor(this.random() * batch.length[i]!)]! ^= 1;
        batch.checksum[i] = CSUM_UNKNOWN;
        this.counts.corruptedIn++;
      }
      copySlot(batch, i, kept++);
    }
    // Duplicates come late, behind the batch, and share their slot's bytes.
    for (let i = 0, n = kept; i < n && kept < batch.slots; i++) {
      if (!this.#happens(duplicateIn)) continue;
      copySlot(batch, i, kept++);
      this.counts.duplicatedIn++;
    }
    batch.count = kept;
    return kept;
  }

  send(batch: TransmitBatch, from: number): number {
    const { loseOut = 0, refuseSend = 0 } = this.faults;
    if (this.#happens(refuseSend)) {
      this.counts.refusedSends++;
      return 0;
    }
    const end = batch.count;
    try {
      // Runs between lost packets go to the inner port as batches that end early.
      for (let next = from; next < end; ) {
        let stop = next;
        while (stop < end && !this.#happens(loseOut)) stop++;
        batch.count = stop;
        const taken = stop > next ? this.inner.send(batch, next) : 0;
        if (next + taken < stop) return next + taken - from;
        if (stop < end) this.counts.lostOut++;
        next = stop + 1;
      }
      return end - from;
    } finally {
      batch.count = end;
    }
  }

  queuedBytes(): number {
    return this.inner.queuedBytes();
  }

  takeDrops(): number {
    return this.inner.takeDrops();
  }

  close(): void {
    this.inner.close();
  }

  #happens(probability: number): boolean {
    return probability > 0 && this.random() < probability;
  }
}

function copySlot(batch: ReceiveBatch, from: number, to: number): void {
  batch.offset[to] = batch.offset[from]!;
  batch.length[to] = batch.length[from]!;
  batch.gsoSize[to] = batch.gsoSize[from]!;
  batch.checksum[to] = batch.checksum[from]!;
  batch.truncated[to] = batch.truncated[from]!;
}
