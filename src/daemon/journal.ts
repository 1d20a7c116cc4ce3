/**
 * The daemon's one stream of events for people and scripts: what is worth knowing later, in words and in figures. The
 * log, `mptun events` and tests are subscribers; the last ones are kept for whoever comes later.
 */
import type { Logger } from 'pino';

import { EVENT_SCHEMA, type EventLevel, type EventRecord } from '../control/protocol.js';

/** Events kept for later subscribers; when full, the oldest goes. */
export const JOURNAL_KEPT = 512;

export interface EventFields {
  readonly session?: string | null;
  readonly path?: string | null;
  readonly data?: Record<string, unknown>;
}

export class Journal {
  private readonly kept: EventRecord[] = [];
  private readonly subscribers = new Set<(event: EventRecord) => void>();
  private seq = 0;

  /** `log` gets every event as one line; null in tests. `now` is the wall clock in ms. */
  constructor(
    private readonly log: Logger | null,
    private readonly now: () => number = Date.now,
  ) {}

  record(level: EventLevel, type: string, message: string, fields: EventFields = {}): EventRecord {
    const event: EventRecord = {
      schema: EVENT_SCHEMA,
      seq: ++this.seq,
      time: new Date(this.now()).toISOString(),
      level,
      type,
      message,
      session: fields.session ?? null,
      path: fields.path ?? null,
      data: fields.data ?? {},
    };
    this.kept.push(event);
    if (this.kept.length > JOURNAL_KEPT) this.kept.shift();
    if (this.log !== null) {
      const context: Record<string, unknown> = { event: type, ...event.data };
      if (event.session !== null) context.session = event.session;
      if (event.path !== null) context.path = event.path;
      this.log[level](context, message);
    }
    for (const subscriber of this.subscribers) subscriber(event);
    return event;
  }

  /** Calls back for each kept event after `afterSeq` at once, then for each new one; the result ends it. */
  subscribe(afterSeq: number, onEvent: (event: EventRecord) => void): () => void {
    for (const event of this.kept) if (event.seq > afterSeq) onEvent(event);
    this.subscribers.add(onEvent);
    return () => this.subscribers.delete(onEvent);
  }

  /** Seq of the newest event, 0 before the first. */
  get lastSeq(): number {
    return this.seq;
  }
}
