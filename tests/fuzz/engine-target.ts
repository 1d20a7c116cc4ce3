/**
 * Segments of a peer that may say anything, to an engine with a listener and a connection. The input is a list of records:
 *
 *   kind   0: raw packet, length (1) and its bytes     1: time passes, milliseconds (1)
 *          else a segment of the connection (2..199) or to the listener (200..): flags (1), sequence and acknowledgment number
 *          relative to what the engine expects (2 + 2, signed), window (2), bytes of options (1), bytes of payload (1), options
 */
import type { Micros } from '../../src/core/base/time.js';
import { CSUM_VALID, ReceiveBatch } from '../../src/core/engine/ports.js';
import type { Connection } from '../../src/core/mptcp/connection.js';
import { MAX_SUBFLOWS } from '../../src/core/mptcp/joining.js';
import { connected, LOCAL, S, SERVER } from '../support/two-hosts.js';
import type { Target } from './fuzzer.js';

const MAX_RECORDS = 40;
const RECEIVE_BUFFER_BYTES = 65_536;

export const engineTarget: Target = {
  seeds() {
    const segment = (kind: number, flags: number, payload: number, options: string) => {
      const bytes = Buffer.from(options.replace(/ /g, ''), 'hex');
      return Buffer.concat([Buffer.of(kind, flags, 0, 0, 0, 0, 0xff, 0xff, bytes.length, payload), bytes]);
    };
    const dss = '1e 14 20 05 00 00 00 02 00 00 00 02 00 00 00 02 00 08 00 00';
    const seeds = [
      [segment(2, 0x18, 8, dss), Buffer.of(1, 50)],
      [segment(2, 0x11, 0, ''), Buffer.of(1, 250)],
      [segment(2, 0x04, 0, '')],
      [segment(2, 0x10, 0, '1e 04 50 01'), segment(2, 0x10, 0, '1e 04 41 01')],
      [segment(2, 0x10, 0, '1e 10 30 03 0a 00 02 01 00 00 00 00 00 00 00 00')],
      [
        segment(2, 0x10, 0, '1e 0c 60 00 00 00 00 00 00 00 00 01'),
        segment(2, 0x10, 0, '1e 0c 70 00 00 00 00 00 00 00 00 01'),
      ],
      [segment(200, 0x02, 0, '02 04 05 b4 1e 04 01 81'), segment(200, 0x10, 0, '')],
      [segment(201, 0x02, 0, '1e 0c 10 00 00 00 00 00 00 00 00 00')],
      [segment(2, 0x10, 0, '01 01 05 12 00 00 00 10 00 00 00 20 00 00 00 40 00 00 00 50')],
    ];
    return seeds.map((records) => new Uint8Array(Buffer.concat(records)));
  },

  run(bytes) {
    const peer = new AnyPeer();
    peer.play(bytes);
    return peer.outcome();
  },
};

class AnyPeer {
  private readonly pair = connected({ receiveBufferBytes: RECEIVE_BUFFER_BYTES });
  private readonly connection = this.pair.ours as Connection;
  private readonly batch = new ReceiveBatch(1, 4096);
  private readonly port = {
    send: (_link: number, { count }: { count: number }, from: number) => count - from,
    queuedBytes: () => 0,
  };
  private nowUs: Micros = this.pair.network.nowUs;

  play(bytes: Uint8Array): void {
    this.connection.write(this.nowUs, new Uint8Array(3000));
    this.flush();
    let o = 0;
    for (let n = 0; n < MAX_RECORDS && o < bytes.length; n++) {
      const kind = bytes[o++]!;
      if (kind === 0) {
        const length = Math.min(bytes[o++] ?? 0, bytes.length - o);
        this.deliver(bytes.subarray(o, o + length));
        o += length;
      } else if (kind === 1) {
        this.nowUs += 1000 * (bytes[o++] ?? 0);
        this.pair.client.engine.onTimer(this.nowUs);
      } else o = this.segment(kind, bytes, o);
      this.flush();
    }
    this.nowUs += 2 * S;
    this.pair.client.engine.onTimer(this.nowUs);
    this.flush();
  }

  outcome(): string {
    const { engine } = this.pair.client;
    const info = this.connection.info();
    if (info.subflows.length > MAX_SUBFLOWS) throw new Error('more subflows than allowed');
    if (info.receiveQueueBytes > 2 * RECEIVE_BUFFER_BYTES) throw new Error('unread bytes beyond the bound');
    if (info.outOfOrderBytes > 2 * RECEIVE_BUFFER_BYTES) throw new Error('out-of-order bytes beyond the bound');
    const counters = engine.counters();
    if ((counters.deadline_in_the_past ?? 0) > 0) throw new Error('a deadline that is never served');
    const events: string[] = [];
    for (let e = engine.pollEvent(); e !== undefined; e = engine.pollEvent()) events.push(e.type);
    const names = Object.keys(counters).filter((name) => !name.startsWith('drop_no'));
    return `${info.state} ${info.isMptcp} ${info.fallbackReason} ${[...new Set(events)].sort()} ${names.sort()}`;
  }

  private segment(kind: number, bytes: Uint8Array, at: number): number {
    const field = (i: number) => bytes[at + i] ?? 0;
    const short = (i: number) => (field(i) << 8) | field(i + 1);
    const signed = (i: number) => (short(i) << 16) >> 16;
    const optionBytes = Math.min(40, (Math.min(field(7), Math.max(0, bytes.length - at - 9)) + 3) & ~3);
    const payloadBytes = field(8);
    const options = bytes.subarray(at + 9, at + 9 + Math.min(optionBytes, field(7)));
    const packet = new Uint8Array(40 + optionBytes + payloadBytes);
    const view = new DataView(packet.buffer);
    const first = this.connection.subflows[0]?.tcp;
    const isNew = kind >= 200;
    packet[0] = 0x45;
    view.setUint16(2, packet.length);
    view.setUint16(6, 0x4000);
    packet[8] = 64;
    packet[9] = 6;
    packet.set(SERVER.bytes, 12);
    packet.set(LOCAL[0].bytes, 16);
    view.setUint16(20, isNew ? 1000 + kind : 5000);
    view.setUint16(22, isNew ? 6000 : 40_000);
    view.setUint32(24, ((first === undefined || isNew ? 0 : first.irs + first.rcvNxt) + signed(1)) >>> 0);
    view.setUint32(28, ((first === undefined ? 0 : first.iss + first.sndNxt) + signed(3)) >>> 0);
    packet[32] = ((20 + optionBytes) / 4) << 4;
    packet[33] = field(0);
    view.setUint16(34, short(5));
    packet.set(options, 40);
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += view.getUint16(i);
    sum = (sum & 0xffff) + (sum >> 16);
    view.setUint16(10, ~((sum & 0xffff) + (sum >> 16)) & 0xffff);
    this.deliver(packet);
    return at + 9 + options.length;
  }

  private deliver(packet: Uint8Array): void {
    const { batch } = this;
    batch.slab.set(packet);
    batch.count = 1;
    batch.length[0] = packet.length;
    batch.checksum[0] = CSUM_VALID;
    this.pair.client.engine.onPackets(this.nowUs, 0, batch);
  }

  private flush(): void {
    this.pair.client.engine.flush(this.nowUs, this.port);
  }
}
