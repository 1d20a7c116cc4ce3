/**
 * A netlink socket. Requests are synchronous: the kernel has queued its whole answer (or the next part of a dump) when
 * the system call returns, so there is nothing to wait for and nothing to interleave with.
 */
import { addon, check, SystemError } from '../addon.js';
import {
  attributeString,
  type Message,
  type MessageBuilder,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  parseAttributes,
  parseMessages,
} from './message.js';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;

const NLMSGERR_ATTR_MSG = 1;
const ERROR_BYTES = 20; // error number and the header of the request
const MAX_DUMP_ATTEMPTS = 8;
const RECEIVE_BYTES = 256 * 1024;

const EAGAIN = 11;
const ENOBUFS = 105;

/** The kernel refused a netlink request. `code` is the errno's name; the message has the kernel's own words if any. */
export class NetlinkError extends SystemError {
  constructor(what: string, errno: number, detail: string) {
    super(what, errno);
    if (detail !== '') this.message += ` (${detail})`;
    this.name = 'NetlinkError';
  }
}

export class NetlinkSocket {
  readonly fd: number;
  readonly #room = Buffer.alloc(RECEIVE_BYTES);
  #sequence = 0;

  /** `family` is a netlink protocol (NETLINK_ROUTE = 0, NETLINK_NETFILTER = 12), `groups` multicast group numbers. */
  constructor(family: number, groups: readonly number[] = []) {
    this.fd = check(addon.socket(AF_NETLINK, SOCK_RAW, family), 'netlink socket');
    try {
      check(addon.bind(this.fd, new Uint8Array([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), 'bind netlink');
      check(addon.setsockopt(this.fd, SOL_NETLINK, NETLINK_CAP_ACK, u32(1)), 'NETLINK_CAP_ACK');
      check(addon.setsockopt(this.fd, SOL_NETLINK, NETLINK_EXT_ACK, u32(1)), 'NETLINK_EXT_ACK');
      check(addon.setsockopt(this.fd, SOL_SOCKET, SO_RCVBUF, u32(1 << 20)), 'SO_RCVBUF');
      for (const group of groups) {
        check(addon.setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, u32(group)), `netlink group ${group}`);
      }
    } catch (error) {
      addon.close(this.fd);
      throw error;
    }
  }

  /** One request that is acknowledged; returns the messages before the acknowledgement. `what` is for the error. */
  request(message: MessageBuilder, what: string): Message[] {
    return this.#exchange(message, what).messages;
  }

  /** A dump, repeated if the kernel says that it changed under way (NLM_F_DUMP_INTR). */
  dump(build: () => MessageBuilder, what: string): Message[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, wasInterrupted } = this.#exchange(build(), what);
      if (!wasInterrupted || attempt === MAX_DUMP_ATTEMPTS) return messages;
    }
  }

  /** What is queued now (notifications), [] if nothing, null if the kernel had to drop some. Lent until the next call. */
  receive(): Message[] | null {
    const n = addon.recv(this.fd, this.#room, 0);
    if (n === -EAGAIN) return [];
    if (n === -ENOBUFS) return null;
    return parseMessages(this.#room.subarray(0, check(n, 'receive netlink')));
  }

  close(): void {
    addon.close(this.fd);
  }

  #exchange(message: MessageBuilder, what: string): { messages: Message[]; wasInterrupted: boolean } {
    const sequence = ++this.#sequence;
    check(addon.sendto(this.fd, message.finish(sequence), 0, null), what);
    const messages: Message[] = [];
    let wasInterrupted = false;
    for (;;) {
      const n = check(addon.recv(this.fd, this.#room, 0), what);
      // A copy per part: the messages outlive the next recv.
      for (const m of parseMessages(Buffer.from(this.#room.subarray(0, n)))) {
        if (m.sequence !== sequence) continue;
        if ((m.flags & NLM_F_DUMP_INTR) !== 0) wasInterrupted = true;
        if (m.type === NLMSG_ERROR) {
          const errno = -m.body.readInt32LE(0);
          if (errno === 0) return { messages, wasInterrupted };
          throw new NetlinkError(
            what,
            errno,
            attributeString(parseAttributes(m.body, ERROR_BYTES).get(NLMSGERR_ATTR_MSG)),
          );
        }
        if (m.type === NLMSG_DONE) return { messages, wasInterrupted };
        messages.push(m);
      }
    }
  }
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
