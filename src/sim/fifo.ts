/** A queue of packets as parallel ring arrays: nothing is allocated per packet once it has grown to its working size. */
export class PacketFifo<T> {
  private items: (T | undefined)[] = new Array<T | undefined>(64).fill(undefined);
  private sizes = new Int32Array(64);
  private times = new Float64Array(64);
  private head = 0;
  private mask = 63;
  length = 0;
  /** Sum of the sizes of what is inside. */
  bytes = 0;

  push(item: T, sizeBytes: number, timeUs: number): void {
    if (this.length > this.mask) this.grow();
    const at = (this.head + this.length) & this.mask;
    this.items[at] = item;
    this.sizes[at] = sizeBytes;
    this.times[at] = timeUs;
    this.length++;
    this.bytes += sizeBytes;
  }

  /** As push, but keeps times sorted (behind equals): for links that reorder. */
  pushSorted(item: T, sizeBytes: number, timeUs: number): void {
    this.push(item, sizeBytes, timeUs);
    for (let i = this.length - 1; i > 0; i--) {
      const here = (this.head + i) & this.mask;
      const before = (this.head + i - 1) & this.mask;
      if (this.times[before]! <= timeUs) break;
      this.items[here] = this.items[before];
      this.sizes[here] = this.sizes[before]!;
      this.times[here] = this.times[before]!;
      this.items[before] = item;
      this.sizes[before] = sizeBytes;
      this.times[before] = timeUs;
    }
  }

  /** Of the first packet; only when length > 0. */
  get headBytes(): number {
    return this.sizes[this.head]!;
  }

  get headTimeUs(): number {
    return this.times[this.head]!;
  }

  shift(): T {
    const item = this.items[this.head] as T;
    this.items[this.head] = undefined;
    this.bytes -= this.sizes[this.head]!;
    this.head = (this.head + 1) & this.mask;
    this.length--;
    return item;
  }

  private grow(): void {
    const capacity = (this.mask + 1) * 2;
    const items = new Array<T | undefined>(capacity).fill(undefined);
    const sizes = new Int32Array(capacity);
    const times = new Float64Array(capacity);
    for (let i = 0; i < this.length; i++) {
      const at = (this.head + i) & this.mask;
      items[i] = this.items[at];
      sizes[i] = this.sizes[at]!;
      times[i] = this.times[at]!;
    }
    this.items = items;
    this.sizes = sizes;
    this.times = times;
    this.head = 0;
    this.mask = capacity - 1;
  }
}
