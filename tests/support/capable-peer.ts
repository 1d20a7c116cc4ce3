/**
 * An engine against MP_CAPABLE handshakes made by hand (RFC 8684 3.1): the test says which bytes the peer's options have, and
 * reads what the engine answers. One connection; numbers as on the wire.
 */
import { parseIp } from '../../src/core/base/ip.js';
import type { ConnectOptions, ListenOptions } from '../../src/core/engine/api.js';
import type { EngineConfig } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import type { Connection } from '../../src/core/mptcp/connection.js';
import { deriveFromKey } from '../../src/core/mptcp/keys.js';
import { nodeEnv, unhex } from './node-env.js';
import { type Caught, drain, elapse, inject } from './raw-host.js';

export const US = '192.0.2.1';
export const PEER = '198.51.100.1';
export const OUR_PORT = 8443;
export const PEER_PORT = 40_000;
export const PEER_KEY = unhex('0102030405060708');
export const PEER_ISN = 5_000;

/** An option of kind 30 with these bytes behind kind and length. */
export function mptcp(...bytes: readonly number[]): readonly number[] {
  return [30, bytes.length + 2, ...bytes];
}

/** MP_CAPABLE: version and flags, then keys, DLL and checksum as they stand on the wire. */
export function capable(flags: number, rest: readonly number[] = [], version = 1): readonly number[] {
  return mptcp(version, flags, ...rest);
}

export class CapablePeer {
  nowUs = 1_000_000;
  readonly engine: Engine;
  c!: Connection;
  readonly received: number[] = [];
  private seq = PEER_ISN;
  private rcvNxt = 0;

  /** The engine listens, or with `dial` connects (its SYN is the first thing that `out` returns). */
  constructor(
    readonly side: 'listen' | 'dial',
    options: Partial<ListenOptions & ConnectOptions> = {},
    config: Partial<EngineConfig> = {},
  ) {
    this.engine = new Engine(nodeEnv, config);
    this.engine.addLink(0, { id: 0, name: 'wan0', mtuBytes: 1500, addresses: [parseIp(US)], isUp: true });
    if (side === 'listen') this.engine.listen({ ...options, port: OUR_PORT, onAccept: () => undefined });
    else {
      this.adopt(
        this.engine.connect(this.nowUs, {
          ...options,
          linkId: 0,
          localAddress: parseIp(US),
          localPort: OUR_PORT,
          remote: { address: parseIp(PEER), port: PEER_PORT },
        }),
      );
    }
  }

  /** Sends a segment that continues the peer's stream, and returns what the engine sends at once. */
  send(flags: string, option: readonly number[] = [], payload: Uint8Array = new Uint8Array(0)): Caught[] {
    const seq = this.seq;
    this.seq += payload.length + (/[SF]/.test(flags) ? 1 : 0);
    return this.sendAt(seq, this.rcvNxt, flags, option, payload);
  }

  sendAt(
    seq: number,
    ack: number,
    flags: string,
    option: readonly number[],
    payload: Uint8Array = new Uint8Array(0),
  ): Caught[] {
    inject(this.engine, this.nowUs, 0, {
      from: PEER,
      fromPort: PEER_PORT,
      to: US,
      toPort: OUR_PORT,
      flags,
      seq,
      ack,
      payload,
      options: (out, o) => {
        out.set(option, o);
        return o + option.length;
      },
    });
    if (this.c === undefined && this.engine.connections().length > 0) this.adopt(this.engine.connections()[0]!);
    return this.out();
  }

  /** What the engine sends now. */
  out(): Caught[] {
    return this.note(drain(this.engine, this.nowUs));
  }

  /** What it sends in the next `us`. */
  advance(us: number): Caught[] {
    const sent = this.note(elapse(this.engine, this.nowUs, this.nowUs + us));
    this.nowUs += us;
    return sent;
  }

  write(...bytes: readonly number[]): Caught[] {
    this.c.write(this.nowUs, Uint8Array.from(bytes));
    return this.out();
  }

  /** The engine's key, as eight bytes. */
  get key(): readonly number[] {
    return [...this.c.keys.local];
  }

  get idsn(): { local: number; peer: number } {
    return { local: this.c.keys.idsnLocal.lo, peer: deriveFromKey(nodeEnv, PEER_KEY).idsn.lo };
  }

  private adopt(c: Connection): void {
    this.c = c;
    c.setReader({
      onBytes: (buf, offset, lengthBytes) => {
        this.received.push(...buf.subarray(offset, offset + lengthBytes));
        return lengthBytes;
      },
      onEnd: () => undefined,
    });
  }

  private note(sent: Caught[]): Caught[] {
    for (const { seg, payload } of sent) {
      const end = seg.seq + payload.length + ((seg.flags & 3) !== 0 ? 1 : 0);
      if ((seg.flags & 4) === 0) this.rcvNxt = end >>> 0;
    }
    return sent;
  }
}
