/** Indexed binary heap: actor number → its one deadline. Equal deadlines go by actor number, so runs are repeatable. */
import { type Micros, NEVER } from '../core/base/time.js';

export class DeadlineHeap {
  private readonly heap: number[] = [];
  /** Place of an actor in `heap`, -1 while it has no deadline. */
  private readonly place: number[] = [];
  private readonly deadline: Micros[] = [];

  /** Registers an actor without a deadline; returns its number. */
  add(): number {
    this.place.push(-1);
    this.deadline.push(NEVER);
    return this.place.length - 1;
  }

  /** Sets, moves or (NEVER) removes the deadline of `actor`. */
  set(actor: number, atUs: Micros): void {
    const at = this.place[actor]!;
    if (this.deadline[actor] === atUs) return;
    this.deadline[actor] = atUs;
    if (at < 0) {
      if (atUs === NEVER) return;
      this.heap.push(actor);
      this.siftUp(this.heap.length - 1, actor);
    } else if (atUs === NEVER) {
      this.place[actor] = -1;
      const last = this.heap.pop()!;
      if (last !== actor) this.settle(at, last);
    } else this.settle(at, actor);
  }

  get(actor: number): Micros {
    return this.deadline[actor]!;
  }

  /** Earliest deadline, NEVER if there is none. */
  get firstUs(): Micros {
    return this.heap.length === 0 ? NEVER : this.deadline[this.heap[0]!]!;
  }

  /** Whose deadline that is, -1 if there is none. */
  get first(): number {
    return this.heap.length === 0 ? -1 : this.heap[0]!;
  }

  private isBefore(a: number, b: number): boolean {
    const da = this.deadline[a]!;
    const db = this.deadline[b]!;
    return da < db || (da === db && a < b);
  }

  /** Puts `actor` in at place `at`, then wherever it belongs. */
  private settle(at: number, actor: number): void {
    this.heap[at] = actor;
    if (at > 0 && this.isBefore(actor, this.heap[(at - 1) >> 1]!)) this.siftUp(at, actor);
    else this.siftDown(at, actor);
  }

  private siftUp(from: number, actor: number): void {
    const heap = this.heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = heap[parent]!;
      if (!this.isBefore(actor, other)) break;
      heap[at] = other;
      this.place[other] = at;
      at = parent;
    }
    heap[at] = actor;
    this.place[actor] = at;
  }

  private siftDown(from: number, actor: number): void {
    const heap = this.heap;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.isBefore(heap[child + 1]!, heap[child]!)) child++;
      const other = heap[child]!;
      if (!this.isBefore(other, actor)) break;
      heap[at] = other;
      this.place[other] = at;
      at = child;
    }
    heap[at] = actor;
    this.place[actor] = at;
  }
}
