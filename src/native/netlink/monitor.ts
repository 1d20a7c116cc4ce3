/** Notifications of rtnetlink as typed events, on Node's loop. */
import { Poller, READABLE } from '../poller.js';
import { parseEvent } from './codec.js';
import { NetlinkSocket } from './socket.js';
import type { NetlinkEvent } from './types.js';

const NETLINK_ROUTE = 0;

/** RTNLGRP_*, by what they tell of. */
const GROUPS = {
  link: [1],
  address: [5, 9],
  route: [7, 11],
  rule: [8, 19],
  neighbour: [3],
} as const;

export type NetlinkTopic = keyof typeof GROUPS;

/**
 * Follows the namespace in which it was opened. Read the present state (Rtnetlink) after opening, so that nothing falls
 * between; after an 'overflow' event read it again.
 */
export class NetlinkMonitor {
  readonly #socket: NetlinkSocket;
  readonly #poller: Poller;
  #isClosed = false;

  constructor(topics: readonly NetlinkTopic[], onEvent: (event: NetlinkEvent) => void) {
    this.#socket = new NetlinkSocket(
      NETLINK_ROUTE,
      topics.flatMap((topic) => [...GROUPS[topic]]),
    );
    this.#poller = new Poller(this.#socket.fd, () => this.#drain(onEvent));
    this.#poller.watch(READABLE);
  }

  /** Whether monitoring keeps the process alive (true at first). */
  setRef(on: boolean): void {
    this.#poller.setRef(on);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#poller.close();
    this.#socket.close();
  }

  #drain(onEvent: (event: NetlinkEvent) => void): void {
    while (!this.#isClosed) {
      const messages = this.#socket.receive();
      if (messages === null) {
        onEvent({ type: 'overflow' });
        continue;
      }
      if (messages.length === 0) return;
      for (const message of messages) {
        const event = parseEvent(message);
        if (event !== null) onEvent(event);
        if (this.#isClosed) return;
      }
    }
  }
}
