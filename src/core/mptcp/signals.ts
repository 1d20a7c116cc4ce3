/**
 * Options that must reach the peer beside the data flow: ADD_ADDR and its echo, REMOVE_ADDR, MP_PRIO, MP_FAIL,
 * MP_FASTCLOSE. They ride on pure ACKs, one at a time, because the largest need the option space alone (RFC 8684
 * 3.4.1) and because a run of duplicate ACKs could look like loss (RFC 8684 4: at most two in a row).
 */
import type { IpAddress } from '../base/ip.js';
import {
  type AddAddrOption,
  addAddrBytes,
  FAIL_BYTES,
  FASTCLOSE_BYTES,
  PRIO_BYTES,
  REMOVE_ADDR_BASE_BYTES,
  writeAddAddr,
  writeFail,
  writeFastclose,
  writePrio,
  writeRemoveAddr,
} from '../wire/mptcp-options.js';

export type Signal =
  | { kind: 'add-addr'; option: AddAddrOption }
  | { kind: 'remove-addr'; ids: readonly number[] }
  | { kind: 'prio'; backup: boolean }
  | { kind: 'fail'; dsnHi: number; dsnLo: number }
  | { kind: 'fastclose'; keyHi: number; keyLo: number };

/** Signals waiting per subflow; when full the oldest goes (its own timer, if it has one, brings it back). */
export const MAX_PENDING_SIGNALS = 16;

export class SignalQueue {
  private queue: Signal[] = [];

  get isEmpty(): boolean {
    return this.queue.length === 0;
  }

  push(signal: Signal): void {
    if (this.queue.length >= MAX_PENDING_SIGNALS) this.queue.shift();
    this.queue.push(signal);
  }

  /** After a fallback an MP_FAIL is the only one that is still due (RFC 8684 3.7). */
  keepFailOnly(): void {
    this.queue = this.queue.filter((s) => s.kind === 'fail');
  }

  /** ADD_ADDRs whose HMAC is no longer the right one. */
  dropAnnouncements(): void {
    this.queue = this.queue.filter((s) => s.kind !== 'add-addr' || s.option.echo);
  }

  get first(): Signal | undefined {
    return this.queue[0];
  }

  /** Writes the first signal if `roomBytes` admits it, and removes it. Returns the new offset. */
  writeFirst(out: Uint8Array, o: number, roomBytes: number): number {
    const signal = this.queue[0];
    if (signal === undefined || signalBytes(signal) > roomBytes) return o;
    this.queue.shift();
    switch (signal.kind) {
      case 'add-addr':
        return writeAddAddr(out, o, signal.option);
      case 'remove-addr':
        return writeRemoveAddr(out, o, signal.ids);
      case 'prio':
        return writePrio(out, o, signal.backup);
      case 'fail':
        return writeFail(out, o, signal.dsnHi, signal.dsnLo);
      case 'fastclose':
        return writeFastclose(out, o, signal.keyHi, signal.keyLo);
    }
  }
}

export function signalBytes(signal: Signal): number {
  switch (signal.kind) {
    case 'add-addr':
      return addAddrBytes(signal.option.address.family, signal.option.port >= 0, signal.option.echo);
    case 'remove-addr':
      return REMOVE_ADDR_BASE_BYTES + signal.ids.length;
    case 'prio':
      return PRIO_BYTES;
    case 'fail':
      return FAIL_BYTES;
    case 'fastclose':
      return FASTCLOSE_BYTES;
  }
}

/** Counter of the kernel's MIB that a sent signal belongs to. */
export function signalCounter(signal: Signal): string {
  switch (signal.kind) {
    case 'add-addr':
      return signal.option.echo ? 'MPTcpExtEchoAddTx' : 'MPTcpExtAddAddrTx';
    case 'remove-addr':
      return 'MPTcpExtRmAddrTx';
    case 'prio':
      return 'MPTcpExtMPPrioTx';
    case 'fail':
      return 'MPTcpExtMPFailTx';
    case 'fastclose':
      return 'MPTcpExtMPFastcloseTx';
  }
}

export function echoOf(option: AddAddrOption): AddAddrOption {
  return { echo: true, addressId: option.addressId, address: option.address, port: option.port, hmac: NO_HMAC };
}

export function announcementOf(addressId: number, address: IpAddress, port: number, hmac: Uint8Array): AddAddrOption {
  return { echo: false, addressId, address, port, hmac };
}

const NO_HMAC = new Uint8Array(0);
