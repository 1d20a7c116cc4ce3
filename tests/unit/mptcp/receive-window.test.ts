/** The receive buffer grows with what is read in a round trip, and not for a reader that leaves it full. */
import test from 'ava';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { FIRST_RECEIVE_BUFFER_BYTES } from '../../../src/core/mptcp/receive-window.js';
import { Timestamps } from '../../../src/core/tcp/timestamps.js';
import { connected, S } from '../../support/two-hosts.js';

const MS = 1_000;
const MIB = 1024 * 1024;
const BLOCK = new Uint8Array(64 * 1024);

/** A server that writes so many blocks to a client whose limit is `receiveBufferBytes`. */
function writing(blocks: number, receiveBufferBytes: number) {
  const hosts = connected({ receiveBufferBytes });
  const { receiver } = hosts.ours as Connection;
  for (let i = 0; i < blocks; i++) hosts.theirs.write(S, BLOCK);
  hosts.server.poke();
  return { ...hosts, receiver, bytes: blocks * BLOCK.length };
}

test('a reader that keeps up gets twice what it reads in a round trip, up to the limit', (t) => {
  const { network, receiver, bytes } = writing(640, 16 * MIB);
  t.is(receiver.capacityBytes, FIRST_RECEIVE_BUFFER_BYTES);
  network.run(3 * S);
  t.is(receiver.bytesReceived, bytes);
  t.is(receiver.capacityBytes, 16 * MIB);
});

test('a limit below the first size is the size', (t) => {
  const { network, receiver, bytes } = writing(64, MIB);
  network.run(3 * S);
  t.is(receiver.bytesReceived, bytes);
  t.is(receiver.capacityBytes, MIB);
});

test('a reader that is behind is left no more than it had, and loses nothing', (t) => {
  const { network, client, ours, receiver, bytes } = writing(320, 16 * MIB);
  let room = 0;
  let readBytes = 0;
  ours.setReader({
    onBytes: (_buf, _offset, lengthBytes) => {
      const took = Math.min(room, lengthBytes);
      room -= took;
      readBytes += took;
      return took;
    },
    onEnd: () => {},
  });
  let mostUnread = 0;
  // It reads all there is, 15 ms at a time, on links without a limit and with a round trip of 10 ms.
  for (let nowUs = S; readBytes < bytes && nowUs < 10 * S; nowUs += 15 * MS) {
    network.run(nowUs);
    mostUnread = Math.max(mostUnread, receiver.unreadBytes);
    room = Number.POSITIVE_INFINITY;
    ours.resume(nowUs);
    room = 0;
    client.poke();
  }
  t.is(readBytes, bytes);
  t.true(mostUnread > FIRST_RECEIVE_BUFFER_BYTES / 2, `${mostUnread}`);
  t.is(receiver.capacityBytes, FIRST_RECEIVE_BUFFER_BYTES);
});

test('the round trip of who only receives is the age of what data echoes', (t) => {
  const ts = new Timestamps(7);
  for (let i = 0; i < 60; i++) {
    const sentUs = i * 10 * MS;
    const echo = ts.valueAt(sentUs);
    ts.onDataEcho(sentUs + 80 * MS, echo);
    // More data that answers the same ACK is no sample of its own.
    ts.onDataEcho(sentUs + 300 * MS, echo);
  }
  t.true(Math.abs(ts.dataAgeUs - 80 * MS) < MS, `${ts.dataAgeUs}`);
  // A peer that had nothing to say for a minute says nothing about the path.
  ts.onDataEcho(60 * S + 80 * MS, ts.valueAt(MS));
  t.true(Math.abs(ts.dataAgeUs - 80 * MS) < MS, `${ts.dataAgeUs}`);
});
