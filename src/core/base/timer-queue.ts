/**
 * Which of many owners wants to be called first: a binary heap with lazy deletion. Deadlines come from the owners' state;
 * the heap only has to be right about the earliest. An owner whose deadline moved later is found out when its old entry
 * comes up (re-arming on every ACK is the expensive part).
 */
import { type Micros, NEVER } from './time.js';

interface Entry<T> {
  readonly atUs: Micros;
  readonly owner: T;
}

export class TimerQueue<T> {
  private readonly heap: Entry<T>[] = [];
  /** Earliest entry of each owner that is in the heap. */
  private readonly scheduled = new Map<T, Micros>();

  /** Tells the owner's current deadline. */
  set(owner: T, atUs: Micros): void {
    const known = this.scheduled.get(owner);
    if (atUs === NEVER || (known !== undefined && known <= atUs)) return;
    this.scheduled.set(owner, atUs);
    this.push({ atUs, owner });
  }

  delete(owner: T): void {
    this.scheduled.delete(owner);
  }

  /** Earliest instant at which `takeDue` may have something. */
  nextUs(): Micros {
    this.prune();
    return this.heap.length === 0 ? NEVER : this.heap[0]!.atUs;
  }

  /** An owner whose entry is due at `nowUs`, or undefined. It is no longer scheduled: `set` it again. */
  takeDue(nowUs: Micros): T | undefined {
    this.prune();
    const first = this.heap[0];
    if (first === undefined || first.atUs > nowUs) return undefined;
    this.pop();
    this.scheduled.delete(first.owner);
    return first.owner;
  }

  /** Drops entries that a later `set` made superfluous. */
  private prune(): void {
    while (this.heap.length > 0 && this.scheduled.get(this.heap[0]!.owner) !== this.heap[0]!.atUs) this.pop();
  }

  private push(entry: Entry<T>): void {
    const heap = this.heap;
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent]!.atUs <= entry.atUs) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }

  private pop(): void {
    const heap = this.heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.atUs < heap[child]!.atUs) child++;
      if (heap[child]!.atUs >= last.atUs) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}
