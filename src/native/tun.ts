/**
 * TUN and TAP devices (Documentation/networking/tuntap.rst). With a vnet header packets of up to 64 KB cross in one
 * piece, and checksums are left to whoever comes last. Interface flags, addresses and routes are netlink's business.
 */
import type { ReceiveBatch, TransmitBatch, TunPort } from '../core/engine/ports.js';
import { addon, check } from './addon.js';
import { clearVnetFields, readVnetHeaders, VNET_BYTES, writeVnetHeader } from './vnet.js';

const O_RDWR_NONBLOCK = 0o2 | 0o4000;

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETPERSIST = 0x400454cb;
const TUNSETCARRIER = 0x400454e2;

const IFF_TUN = 0x0001;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;

const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/** Where packets begin in a slot: with the vnet header behind it the IP header is 16-byte aligned. */
const LEAD_BYTES = 6;

/** Slots of a ReceiveBatch must hold this much to never truncate. */
export const TUN_SLOT_BYTES = 65_535 + 32;

export interface TunOptions {
  /** Interface name; may end in "%d", which the kernel numbers. At most 15 bytes. */
  readonly name: string;
  readonly mode: 'tun' | 'tap';
  /** True: packets carry gsoSize and checksum state (IFF_VNET_HDR). False: plain packets of at most the MTU. */
  readonly vnetHeader: boolean;
  /** What the kernel may leave to us; default both where there is a vnet header. */
  readonly offloads?: { readonly checksum: boolean; readonly tso: boolean };
  /** Further queues of the same device may be opened (IFF_MULTI_QUEUE). */
  readonly multi?: boolean;
}

/**
 * One queue of a TUN or TAP device; the device goes away with its last queue. In TAP mode "packet" means an Ethernet
 * frame, and `send` (which starts at an IP header) is not usable: use `sendFrames`.
 */
export class TunDevice implements TunPort {
  /** Packets that the kernel refused (malformed, or the interface is down), and that were therefore dropped. */
  refusedPackets = 0;
  #isClosed = false;

  constructor(
    readonly name: string,
    readonly fd: number,
    readonly mode: 'tun' | 'tap',
    readonly hasVnetHeader: boolean,
  ) {}

  receive(batch: ReceiveBatch): number {
    const n = addon.receiveBatch(
      this.fd,
      0,
      batch.slab,
      batch.slotBytes,
      LEAD_BYTES,
      batch.slots,
      batch.length,
      batch.truncated,
    );
    // EBADFD: the interface was deleted under us. Its link monitor says so; here there is just nothing to read.
    const count = Math.max(n, 0);
    if (this.hasVnetHeader) readVnetHeaders(batch, count, LEAD_BYTES, 0);
    else clearVnetFields(batch, count, LEAD_BYTES);
    batch.count = count;
    return count;
  }

  send(batch: TransmitBatch, from: number): number {
    if (this.hasVnetHeader) for (let i = from; i < batch.count; i++) writeVnetHeader(batch, i, 0);
    const prefixBytes = this.hasVnetHeader ? VNET_BYTES : 0;
    let next = from;
    while (next < batch.count) {
      const n = addon.sendBatch(
        this.fd,
        0,
        batch.headers,
        batch.headerOffset,
        batch.headerLength,
        prefixBytes,
        batch.parts,
        batch.partStart,
        batch.partOffset,
        batch.partLength,
        next,
        batch.count,
        null,
        0,
        null,
      );
      if (n === 0) break;
      next = this.#advance(next, n);
    }
    return next - from;
  }

  /**
   * Sends packets [from, to) that lie whole in `slab` (TAP: Ethernet frames), without scatter-gather or offloads. Only
   * for devices without vnet header. Returns how many were taken.
   */
  sendFrames(slab: Uint8Array, offset: Int32Array, length: Int32Array, from: number, to: number): number {
    if (this.hasVnetHeader) throw new Error('sendFrames: the device has a vnet header');
    let next = from;
    while (next < to) {
      const n = addon.sendBatch(this.fd, 0, slab, offset, length, 0, null, null, null, null, next, to, null, 0, null);
      if (n === 0) break;
      next = this.#advance(next, n);
    }
    return next - from;
  }

  /** Carrier as the kernel and its netlink listeners see it (TUNSETCARRIER): a cable pulled or plugged. */
  setCarrier(on: boolean): void {
    const value = new Uint8Array(4);
    value[0] = on ? 1 : 0;
    check(addon.ioctl(this.fd, TUNSETCARRIER, value), `carrier of ${this.name}`);
  }

  /** Whether the device outlives its last queue. */
  setPersistent(on: boolean): void {
    check(addon.ioctl(this.fd, TUNSETPERSIST, on ? 1 : 0), `persistence of ${this.name}`);
  }

  /** What the kernel may leave to us from now on. */
  setOffloads(checksum: boolean, tso: boolean): void {
    const bits = (checksum ? TUN_F_CSUM : 0) | (checksum && tso ? TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0);
    check(addon.ioctl(this.fd, TUNSETOFFLOAD, bits), `offloads of ${this.name}`);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    addon.close(this.fd);
  }

  /** A refused packet is dropped and counted: to offer it again would block those behind it for ever. */
  #advance(next: number, rc: number): number {
    if (rc > 0) return next + rc;
    this.refusedPackets++;
    return next + 1;
  }
}

/** Opens or creates a device. Needs CAP_NET_ADMIN; throws SystemError (EPERM, EBUSY: in use, EINVAL: bad name). */
export function openTun(options: TunOptions): TunDevice {
  const fd = check(addon.open('/dev/net/tun', O_RDWR_NONBLOCK), 'open /dev/net/tun');
  try {
    const request = interfaceRequest(options.name);
    const flags =
      (options.mode === 'tun' ? IFF_TUN : IFF_TAP) |
      IFF_NO_PI |
      (options.vnetHeader ? IFF_VNET_HDR : 0) |
      (options.multi === true ? IFF_MULTI_QUEUE : 0);
    request[IFNAMSIZ] = flags & 0xff;
    request[IFNAMSIZ + 1] = flags >> 8;
    check(addon.ioctl(fd, TUNSETIFF, request), `create ${options.mode} ${options.name}`);
    const name = Buffer.from(request.subarray(0, request.indexOf(0))).toString('latin1');
    const device = new TunDevice(name, fd, options.mode, options.vnetHeader);
    const offloads = options.offloads ?? { checksum: options.vnetHeader, tso: options.vnetHeader };
    device.setOffloads(offloads.checksum, offloads.tso);
    return device;
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

/** struct ifreq with the name filled in. */
export function interfaceRequest(name: string): Uint8Array {
  const bytes = Buffer.from(name, 'latin1');
  if (bytes.length === 0 || bytes.length >= IFNAMSIZ) throw new RangeError(`not an interface name: "${name}"`);
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(bytes);
  return request;
}
