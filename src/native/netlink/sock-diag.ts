/**
 * Whose socket it is: user and control group of a TCP or UDP socket of this network namespace, by its addresses (sock_diag(7),
 * linux/inet_diag.h). Needs no privilege.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Endpoint } from '../../core/engine/api.js';
import { MessageBuilder, NLM_F_ACK, NLM_F_REQUEST, parseAttributes } from './message.js';
import { NetlinkError, NetlinkSocket } from './socket.js';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const REQUEST_BYTES = 56;
/** inet_diag_msg. */
const ANSWER_BYTES = 72;
const UID_AT = 64;
const INET_DIAG_CGROUP_ID = 21;
const AF_INET = 2;
const AF_INET6 = 10;

export interface SocketOwner {
  readonly uid: number;
  /** Inode number of its control group (version 2); null: the kernel does not tell. */
  readonly cgroupId: number | null;
}

export class SocketOwners {
  readonly #socket = new NetlinkSocket(NETLINK_SOCK_DIAG);

  /** Null: no such socket here. */
  find(protocol: 'tcp' | 'udp', local: Endpoint, remote: Endpoint): SocketOwner | null {
    const request = Buffer.alloc(REQUEST_BYTES);
    request[0] = local.address.family === 4 ? AF_INET : AF_INET6;
    request[1] = protocol === 'tcp' ? 6 : 17;
    // Every state.
    request.writeUInt32LE(0xffff_ffff, 4);
    request.writeUInt16BE(local.port, 8);
    request.writeUInt16BE(remote.port, 10);
    request.set(local.address.bytes, 12);
    request.set(remote.address.bytes, 28);
    // INET_DIAG_NOCOOKIE.
    request.fill(0xff, 48, 56);
    const message = new MessageBuilder(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_ACK).fixed(request);
    try {
      const body = this.#socket.request(message, 'find a socket')[0]?.body;
      if (body === undefined || body.length < ANSWER_BYTES) return null;
      const id = parseAttributes(body, ANSWER_BYTES).get(INET_DIAG_CGROUP_ID);
      return {
        uid: body.readUInt32LE(UID_AT),
        cgroupId: id === undefined || id.length < 8 ? null : id.readUInt32LE(0) + id.readUInt32LE(4) * 2 ** 32,
      };
    } catch (error) {
      if (error instanceof NetlinkError) return null;
      throw error;
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** Directories of the hierarchy that are looked at to find a group by its number. */
const MAX_GROUPS = 4_096;

/** Paths of control groups below `root` by number, as far as they exist now. */
export function controlGroups(root: string): Map<number, string> {
  const groups = new Map<number, string>();
  const queue = [''];
  while (queue.length > 0 && groups.size < MAX_GROUPS) {
    const path = queue.shift()!;
    try {
      groups.set(statSync(join(root, path)).ino, path === '' ? '/' : path);
      for (const entry of readdirSync(join(root, path), { withFileTypes: true })) {
        if (entry.isDirectory()) queue.push(`${path}/${entry.name}`);
      }
    } catch {
      // It has gone while we looked.
    }
  }
  return groups;
}

/** Where the hierarchy (version 2) is mounted, or null. */
export function cgroupRoot(): string | null {
  try {
    const mount = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .find((line) => line.split(' ')[2] === 'cgroup2');
    return mount?.split(' ')[1] ?? null;
  } catch {
    return null;
  }
}
