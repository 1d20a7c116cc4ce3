/**
 * One interface as a PacketPort: IP packets in and out of an AF_PACKET socket, beside the kernel's own stack (packet(7),
 * DESIGN 3.2). The kernel segments super-packets and fills checksums (PACKET_VNET_HDR); our filter keeps all traffic
 * but our ports away. Nothing here needs an address, a route or a rule of the kernel to be changed.
 *
 * Out, per batch: vnet header, Ethernet header with the next hop's address (or none, on header-less devices), one
 * native call. In, per batch: one native call, then offsets move past those headers.
 */
import type { PacketPort, ReceiveBatch, TransmitBatch } from '../core/engine/ports.js';
import { addon, BATCH_SOCKET, check } from './addon.js';
import { portFilter } from './bpf.js';
import { Rtnetlink } from './netlink/index.js';
import type { Link } from './netlink/types.js';
import { HOP_WAIT, NextHops } from './next-hop.js';
import { monotonicUs } from './poller.js';
import { readVnetHeaders, VNET_BYTES, writeVnetHeader } from './vnet.js';

/** Slots of a ReceiveBatch must hold this much to never truncate. */
export const PACKET_SLOT_BYTES = 65_535 + 64;

const RECEIVE_BUFFER_BYTES = 16 << 20;
const SEND_BUFFER_BYTES = 4 << 20;

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const PACKET_VNET_HDR = 15;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const SIOCOUTQ = 0x5411;

const ETH_P_ALL = 0x0003;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const SOCKADDR_LL_BYTES = 20;

const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const ETHERNET_BYTES = 14;

/** Where frames begin in a slot: puts the IP header of an Ethernet frame on a multiple of 16. */
const LEAD_BYTES = 8;

const ENXIO = 6;
const ENODEV = 19;
const ENETDOWN = 100;

export interface PacketPortOptions {
  readonly interfaceName: string;
  /** Our TCP ports; `setPorts` changes them. */
  readonly ports?: Iterable<number>;
  /** Wanted receive buffer, bytes of kernel memory; default 16 MB. */
  readonly receiveBufferBytes?: number;
  /** Past the interface's qdisc, straight to the driver. */
  readonly bypassQdisc?: boolean;
  /** Packets that had to wait (HOP_WAIT) may go now: flush again. */
  readonly onWritable?: () => void;
}

/** Packets that `send` took but that did not go out, by reason. */
export interface PacketPortDrops {
  /** No route on this link, or the next hop does not answer. */
  unreachable: number;
  /** The interface is down or gone. */
  linkDown: number;
  /** The kernel refused the packet (too big, malformed). */
  refused: number;
}

export class PacketSocketPort implements PacketPort {
  readonly drops: PacketPortDrops = { unreachable: 0, linkDown: 0, refused: 0 };
  /** 14 or 0: bytes of link header in front of IP. */
  readonly linkBytes: number;
  /** What the kernel granted (half of what SO_RCVBUF shows), bytes. */
  readonly receiveBufferBytes: number;
  readonly #hops: NextHops | null;
  readonly #sourceMac = new Uint8Array(6);
  /** struct sockaddr_ll for IPv4 and IPv6, at index 4 and 6 (as `batch.family`). */
  readonly #names = new Uint8Array(7 * SOCKADDR_LL_BYTES);
  readonly #scratch = Buffer.alloc(8);
  #isClosed = false;

  /** Use `openPacketPort`. */
  constructor(
    readonly link: Link,
    readonly fd: number,
    options: PacketPortOptions,
  ) {
    const hasHeader = link.hardwareType === ARPHRD_ETHER || link.hardwareType === ARPHRD_LOOPBACK;
    this.linkBytes = hasHeader ? ETHERNET_BYTES : 0;
    this.#sourceMac.set(link.mac.subarray(0, 6));
    this.#names.set(sockaddrLl(link.index, ETH_P_IP), 4 * SOCKADDR_LL_BYTES);
    this.#names.set(sockaddrLl(link.index, ETH_P_IPV6), 6 * SOCKADDR_LL_BYTES);
    // Closed to everything from before the first packet could arrive.
    this.setPorts(options.ports ?? []);
    check(setOption(fd, SOL_PACKET, PACKET_VNET_HDR, 1), 'PACKET_VNET_HDR');
    check(setOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1), 'PACKET_IGNORE_OUTGOING');
    if (options.bypassQdisc === true) check(setOption(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1), 'PACKET_QDISC_BYPASS');
    this.receiveBufferBytes = growBuffer(
      fd,
      SO_RCVBUFFORCE,
      SO_RCVBUF,
      options.receiveBufferBytes ?? RECEIVE_BUFFER_BYTES,
    );
    growBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER_BYTES);
    check(addon.bind(fd, sockaddrLl(link.index, ETH_P_ALL)), `bind to ${link.name}`);
    this.#hops =
      link.hardwareType === ARPHRD_ETHER ? new NextHops(link.index, options.onWritable ?? (() => undefined)) : null;
  }

  receive(batch: ReceiveBatch): number {
    const n = addon.receiveBatch(
      this.fd,
      BATCH_SOCKET,
      batch.slab,
      batch.slotBytes,
      LEAD_BYTES,
      batch.slots,
      batch.length,
      batch.truncated,
    );
    // An error (ENETDOWN is reported once after the interface went down) is no packet; the link monitor tells of it.
    batch.count = Math.max(n, 0);
    readVnetHeaders(batch, batch.count, LEAD_BYTES, this.linkBytes);
    return batch.count;
  }

  send(batch: TransmitBatch, from: number): number {
    const nowUs = monotonicUs();
    const end = batch.count;
    // Runs of packets that may go are sent in one call; a packet without a next hop ends a run.
    let runStart = from;
    for (let i = from; i < end; i++) {
      writeVnetHeader(batch, i, this.linkBytes);
      const hop = this.#writeLinkHeader(batch, i, nowUs);
      if (hop === 0) continue;
      const sent = this.#sendRun(batch, runStart, i);
      if (sent < i || hop === HOP_WAIT) return sent - from;
      this.drops.unreachable++;
      runStart = i + 1;
    }
    return this.#sendRun(batch, runStart, end) - from;
  }

  queuedBytes(): number {
    const rc = addon.ioctl(this.fd, SIOCOUTQ, this.#scratch);
    return rc < 0 ? 0 : this.#scratch.readInt32LE(0);
  }

  takeDrops(): number {
    // struct tpacket_stats: u32 packets, u32 drops; reading resets both.
    const rc = addon.getsockopt(this.fd, SOL_PACKET, PACKET_STATISTICS, this.#scratch);
    return rc < 8 ? 0 : this.#scratch.readUInt32LE(4);
  }

  /** Replaces the set of our ports, at once and without losing a packet of those that stay. */
  setPorts(ports: Iterable<number>): void {
    check(addon.attachFilter(this.fd, portFilter(ports, this.linkBytes)), `filter on ${this.link.name}`);
  }

  /** The interface has another hardware address now. */
  setHardwareAddress(mac: Uint8Array): void {
    if (mac.length === 6) this.#sourceMac.set(mac);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#hops?.close();
    addon.close(this.fd);
  }

  /** 0 if the packet can go, else HOP_WAIT or HOP_DROP. */
  #writeLinkHeader(batch: TransmitBatch, i: number, nowUs: number): number {
    if (this.linkBytes === 0) return 0;
    const h = batch.headers;
    const ip = batch.headerOffset[i]!;
    const o = ip - ETHERNET_BYTES;
    const isV4 = batch.family[i] === 4;
    if (this.#hops === null) {
      h.fill(0, o, o + 12); // loopback
    } else {
      const mac = isV4
        ? this.#hops.lookup(h, ip + 12, ip + 16, 4, nowUs)
        : this.#hops.lookup(h, ip + 8, ip + 24, 6, nowUs);
      if (typeof mac === 'number') return mac;
      for (let k = 0; k < 6; k++) {
        h[o + k] = mac[k]!;
        h[o + 6 + k] = this.#sourceMac[k]!;
      }
    }
    const type = isV4 ? ETH_P_IP : ETH_P_IPV6;
    h[o + 12] = type >> 8;
    h[o + 13] = type;
    return 0;
  }

  /** Sends [from, to); returns the index of the first packet that was not taken. */
  #sendRun(batch: TransmitBatch, from: number, to: number): number {
    let next = from;
    while (next < to) {
      const n = addon.sendBatch(
        this.fd,
        BATCH_SOCKET,
        batch.headers,
        batch.headerOffset,
        batch.headerLength,
        VNET_BYTES + this.linkBytes,
        batch.parts,
        batch.partStart,
        batch.partOffset,
        batch.partLength,
        next,
        to,
        this.#names,
        SOCKADDR_LL_BYTES,
        batch.family,
      );
      if (n === 0) return next;
      if (n > 0) {
        next += n;
      } else if (n === -ENETDOWN || n === -ENXIO || n === -ENODEV) {
        // Nothing will ever leave by here: hold nothing back, the engine learns from the link's state.
        this.drops.linkDown += to - next;
        return to;
      } else {
        this.drops.refused++;
        next++;
      }
    }
    return to;
  }
}

/**
 * Opens a port on an interface of the caller's namespace. Needs CAP_NET_RAW; throws SystemError (EPERM), and RangeError
 * if there is no such interface.
 */
export function openPacketPort(options: PacketPortOptions): PacketSocketPort {
  const netlink = new Rtnetlink();
  let link: Link | null;
  try {
    link = netlink.link(options.interfaceName);
  } finally {
    netlink.close();
  }
  if (link === null) throw new RangeError(`no such interface: ${options.interfaceName}`);
  const fd = check(addon.socket(AF_PACKET, SOCK_RAW, 0), 'packet socket');
  try {
    return new PacketSocketPort(link, fd, options);
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

/** struct sockaddr_ll without a hardware address. */
function sockaddrLl(interfaceIndex: number, protocol: number): Uint8Array {
  const name = Buffer.alloc(SOCKADDR_LL_BYTES);
  name.writeUInt16LE(AF_PACKET, 0);
  name.writeUInt16BE(protocol, 2);
  name.writeInt32LE(interfaceIndex, 4);
  return name;
}

function setOption(fd: number, level: number, option: number, value: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return addon.setsockopt(fd, level, option, bytes);
}

/** With the privilege beyond the system's limit, without it (a user namespace) up to the limit. Returns the grant. */
function growBuffer(fd: number, force: number, plain: number, wantedBytes: number): number {
  if (setOption(fd, SOL_SOCKET, force, wantedBytes) < 0) {
    check(setOption(fd, SOL_SOCKET, plain, wantedBytes), 'socket buffer');
  }
  const bytes = Buffer.alloc(4);
  check(addon.getsockopt(fd, SOL_SOCKET, plain, bytes), 'socket buffer');
  // The kernel doubles what it is given, for its own bookkeeping.
  return bytes.readInt32LE(0) / 2;
}
