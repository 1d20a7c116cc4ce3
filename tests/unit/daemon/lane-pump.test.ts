/** One connection's pump: how much it takes from the lane, and what it tells the lane of the connection's rate. */
import test from 'ava';
import type { ConnectionApi } from '../../../src/core/engine/api.js';
import { BULK, PacketLane } from '../../../src/core/lanes/packet-lane.js';
import { type ConnectionStream, LanePump } from '../../../src/daemon/lane-pump.js';
import { bytes, udp } from '../lanes/packets.js';

/** A pump over a connection whose rate the test says, and which takes every write at once. */
class Rig {
  nowUs = 0;
  rateBytesPerS = 0;
  readonly written: number[] = [];
  readonly lane = new PacketLane({ mtuBytes: 1500, hashSeed: 7 });
  readonly pump: LanePump;

  constructor() {
    const rig = this;
    const connection = {
      get deliveryRateBytesPerS() {
        return rig.rateBytesPerS;
      },
      unsentBytes: 0,
      unackedBytes: 0,
      setSendSpace() {},
    };
    const stream = {
      bytesQueued: 0,
      on() {},
      off() {},
      write(data: Uint8Array, done: () => void) {
        rig.written.push(data.length);
        done();
      },
    };
    this.pump = new LanePump({
      lane: this.lane,
      index: BULK,
      connection: connection as unknown as ConnectionApi,
      stream: stream as unknown as ConnectionStream,
      now: () => this.nowUs,
      sink: { onCapsule() {} },
      onBroken() {},
    });
  }

  /** For `ms` at `rateBytesPerS`, a packet goes through each millisecond. */
  run(ms: number, rateBytesPerS: number): void {
    this.rateBytesPerS = rateBytesPerS;
    const packet = udp(bytes(1400));
    for (let i = 0; i < ms; i++, this.nowUs += 1000) {
      this.lane.enqueue(this.nowUs, packet, 0, packet.length, 0, false);
      this.pump.kick();
    }
  }

  get targetUs(): number {
    return this.lane.queueOf(BULK).targetUs;
  }
}

test('a connection that loses most of its rate may have a standing queue for three seconds', (t) => {
  const rig = new Rig();
  rig.run(500, 10_000_000);
  const settledUs = rig.targetUs;
  t.true(settledUs <= 20_000, 'steady');
  rig.run(500, 9_000_000);
  t.is(rig.targetUs, settledUs, 'the rate of a radio varies');
  rig.run(500, 3_600_000);
  t.is(rig.targetUs, 250_000, 'a path is gone');
  rig.run(2400, 3_600_000);
  t.is(rig.targetUs, 250_000, 'still');
  rig.run(300, 3_600_000);
  t.is(rig.targetUs, settledUs);
});

test('and so may one whose rate grows', (t) => {
  const rig = new Rig();
  rig.run(1, 0);
  t.is(rig.targetUs, 250_000, 'not known yet');
  for (let rate = 1_000_000; rate < 10_000_000; rate *= 1.3) {
    rig.run(100, rate);
    t.is(rig.targetUs, 250_000);
  }
  rig.run(300, 10_000_000);
  t.true(rig.targetUs <= 20_000);
});
