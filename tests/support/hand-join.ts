/** MP_JOIN handshakes with a scripted peer's connection, packet by packet (RFC 8684 3.2); numbers as on the wire. */
import { parseIp } from '../../src/core/base/ip.js';
import type { JoinOptions } from '../../src/core/engine/api.js';
import { joinHmac } from '../../src/core/mptcp/keys.js';
import { writeJoinAck, writeJoinSyn, writeJoinSynAck } from '../../src/core/wire/mptcp-options.js';
import { putSynOptions } from '../../src/core/wire/tcp.js';
import type { MptcpScript } from './mptcp-script.js';
import { type Caught, drain, elapse, inject, type Raw } from './raw-host.js';

type WriteOption = (out: Uint8Array, o: number) => number;

/** One subflow; `us` and `peer` are its ends. */
export class HandJoin {
  static readonly NONCE = 0x0a0b0c0d;
  static readonly ISN = 7_000;
  iss = 0;
  /** Our nonce, once seen. */
  nonce = 0;
  private seq = HandJoin.ISN;

  constructor(
    readonly script: MptcpScript,
    readonly linkId = 1,
    readonly us = { address: '10.0.2.1', port: 40_000 },
    readonly peer = { address: '10.9.2.1', port: 5000 },
  ) {}

  // ---- the engine opens it

  /** Orders the join; its SYN, or undefined if the order was refused. */
  dial(more: Partial<JoinOptions> = {}): Caught | undefined {
    const { script, us, peer } = this;
    script.c.join(script.nowUs, {
      linkId: this.linkId,
      localAddress: parseIp(us.address),
      remote: { address: parseIp(peer.address), port: peer.port },
      ...more,
    });
    return this.note(drain(script.engine, script.nowUs))[0];
  }

  /** SYN/ACK with the right MP_JOIN, or what `option` writes; returns what the engine sends. */
  synAck(backup = false, addressId = 9, option: WriteOption = this.rightAnswer(backup, addressId)): Caught[] {
    return this.send('S.', option);
  }

  rightAnswer(backup = false, addressId = 9): WriteOption {
    const { env, c } = this.script;
    const hmac = joinHmac(env, c.keys.remote!, c.keys.local, HandJoin.NONCE, this.nonce);
    return (out, o) => writeJoinSynAck(out, o, backup, addressId, hmac, HandJoin.NONCE);
  }

  // ---- the peer opens it

  syn(backup = false, addressId = 9): Caught[] {
    const { localToken } = this.script.c.keys;
    return this.send('S', (out, o) =>
      writeJoinSyn(
        out,
        putSynOptions(out, o, 1460, false, true, -1, -1, 7),
        backup,
        addressId,
        localToken,
        HandJoin.NONCE,
      ),
    );
  }

  third(option: WriteOption = this.rightProof()): Caught[] {
    return this.send('.', option);
  }

  rightProof(): WriteOption {
    const { env, c } = this.script;
    const hmac = joinHmac(env, c.keys.remote!, c.keys.local, HandJoin.NONCE, this.nonce);
    return (out, o) => writeJoinAck(out, o, hmac);
  }

  // ---- packets

  /** Continues the peer's stream; a SYN begins it. */
  send(flags: string, options?: WriteOption, payload = new Uint8Array(0)): Caught[] {
    const { script, us, peer } = this;
    if (flags.includes('S')) this.seq = HandJoin.ISN;
    const raw: Raw = {
      from: peer.address,
      fromPort: peer.port,
      to: us.address,
      toPort: us.port,
      flags,
      seq: this.seq,
      ack: flags.includes('.') ? this.iss + 1 : 0,
      payload,
      ...(options === undefined ? {} : { options }),
    };
    this.seq += payload.length + (/[SF]/.test(flags) ? 1 : 0);
    inject(script.engine, script.nowUs, this.linkId, raw);
    return this.note(drain(script.engine, script.nowUs));
  }

  /** What the engine sends now, on this link. */
  out(): Caught[] {
    return this.note(drain(this.script.engine, this.script.nowUs));
  }

  /** What the engine sends in the next `us`, on this link. */
  advance(us: number): Caught[] {
    const { script } = this;
    const sent = elapse(script.engine, script.nowUs, script.nowUs + us);
    script.nowUs += us;
    return this.note(sent);
  }

  private note(sent: readonly Caught[]): Caught[] {
    const mine = sent.filter((p) => p.seg.dstPort === this.peer.port && p.linkId === this.linkId);
    for (const { seg } of mine) {
      if ((seg.flags & 2) === 0) continue;
      this.iss = seg.seq;
      this.nonce = seg.mptcp.joinNonce;
    }
    return mine;
  }
}
