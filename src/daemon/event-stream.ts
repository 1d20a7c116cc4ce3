/** Events on their way to one subscriber of the control socket, who may read slowly or not at all. */
import type { ServerResponse } from 'node:http';
import { EVENT_SCHEMA, type EventRecord } from '../control/protocol.js';

/** Events queued for a subscriber that does not read; when full, the oldest goes and is counted. */
export const MAX_QUEUED_EVENTS = 1024;

/** A bounded queue in front of the subscriber's socket. */
export class EventStream {
  private readonly queue: EventRecord[] = [];
  private isBlocked = false;
  private isEnding = false;
  private lost = 0;

  constructor(private readonly res: ServerResponse) {
    res.on('drain', () => {
      this.isBlocked = false;
      this.pump();
    });
  }

  push(event: EventRecord): void {
    this.queue.push(event);
    if (this.queue.length > MAX_QUEUED_EVENTS) {
      this.queue.shift();
      this.lost++;
    }
    this.pump();
  }

  /** Closes when the queue is out. */
  end(): void {
    this.isEnding = true;
    this.pump();
  }

  private pump(): void {
    while (!this.isBlocked && this.queue.length > 0) {
      const event = this.queue[0]!;
      if (this.lost > 0) {
        this.write(lostEvent(event, this.lost));
        this.lost = 0;
      } else {
        this.queue.shift();
        this.write(event);
      }
    }
    if (this.isEnding && this.queue.length === 0) this.res.end();
  }

  private write(event: EventRecord): void {
    this.isBlocked = !this.res.write(`${JSON.stringify(event)}\n`);
  }
}

function lostEvent(next: EventRecord, count: number): EventRecord {
  return {
    schema: EVENT_SCHEMA,
    seq: next.seq - 1,
    time: next.time,
    level: 'warn',
    type: 'events-lost',
    message: `${count} events were not read in time and are lost`,
    session: null,
    path: null,
    data: { count },
  };
}
