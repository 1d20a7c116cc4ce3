/** Reads the TUN whenever it is readable: always drained, so that queueing happens in FQ-CoDel and nowhere else. */
import { ReceiveBatch } from '../core/engine/ports.js';
import { Poller, READABLE, TUN_SLOT_BYTES, type TunDevice } from '../native/index.js';

const SLOTS = 32;
/** Batches per readiness event: then the loop sees to the links as well. */
const ROUNDS = 4;

export class TunLoop {
  private readonly batch = new ReceiveBatch(SLOTS, TUN_SLOT_BYTES);
  private readonly poller: Poller;
  private isClosed = false;

  /** `onBatch`: packets, lent until it returns. `onDone`: after the last batch of an event. */
  constructor(
    private readonly tun: TunDevice,
    private readonly onBatch: (batch: ReceiveBatch) => void,
    private readonly onDone: () => void,
  ) {
    this.poller = new Poller(tun.fd, () => this.drain());
    this.poller.watch(READABLE);
  }

  /** Reads what there is now: sooner than the event loop would, and what is then sent carries our acknowledgments too. */
  look(): void {
    if (!this.isClosed) this.drain();
  }

  close(): void {
    this.isClosed = true;
    this.poller.close();
  }

  private drain(): void {
    for (let round = 0; round < ROUNDS; round++) {
      if (this.tun.receive(this.batch) === 0) break;
      this.onBatch(this.batch);
      if (this.batch.count < SLOTS) break;
    }
    this.onDone();
  }
}
