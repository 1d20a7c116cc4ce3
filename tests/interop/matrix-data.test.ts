/**
 * Interop matrix, data: 1 to 4 subflows over up to 3 links, both families and both mixed, checksums 2x2, windows, ends.
 * How a scenario is judged: tests/support/matrix.ts.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { address, closeBoth, scenarios } from '../support/matrix.js';
import { eventually } from '../support/party.js';

scenarios(
  'one subflow',
  {},
  async (play) => {
    await play.exchange(300_000);
    closeBoth(play);
  },
  [4, 6],
);

scenarios('two subflows, the client joins', {}, async (play) => {
  const { client, server, addressOf } = play;
  await play.exchange(1000);
  await client.join(addressOf(client, 2), addressOf(server, 1));
  await play.subflows(2);
  await play.exchange(1_000_000);
  closeBoth(play);
});

scenarios('three subflows over three links', {}, async (play) => {
  const { client, server, addressOf } = play;
  await play.exchange(1000);
  for (const link of [2, 3]) await client.join(addressOf(client, link), addressOf(server, 1));
  await play.subflows(3);
  await play.exchange(1_000_000);
  closeBoth(play);
});

scenarios(
  'four subflows over three links, one of them to an announced address',
  {},
  async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    for (const link of [2, 3]) await client.join(addressOf(client, link), addressOf(server, 1));
    await play.subflows(3);
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(4);
    await play.exchange(2_000_000);
    closeBoth(play);
  },
  [4, 6],
);

for (const [first, other] of [
  [4, 6],
  [6, 4],
] as const) {
  scenarios(
    `an IPv${first} connection with a subflow over IPv${other}`,
    {},
    async (play) => {
      const { client, server } = play;
      await play.exchange(1000);
      const announced = address(other, server.side, 2);
      await server.announce(announced);
      await client.joinAnnounced(announced);
      await play.subflows(2);
      await play.exchange(500_000);
      closeBoth(play);
    },
    [first],
  );
}

for (const [mine, theirs] of [
  [true, true],
  [true, false],
  [false, true],
]) {
  scenarios(
    `checksums asked for by ${mine ? 'us' : ''}${mine && theirs ? ' and ' : ''}${theirs ? 'the kernel' : ''}`,
    { a: { checksum: mine! }, b: { checksum: theirs! } },
    async (play) => {
      const { client, server, addressOf, ours, t } = play;
      await play.exchange(1001);
      await client.join(addressOf(client, 2), addressOf(server, 1));
      await play.subflows(2);
      await play.exchange(300_001);
      if (ours !== null) t.true((await ours.info()).connection!.checksums);
      closeBoth(play);
    },
  );
}

/** Long enough for a window of some KB to be full on a link without delay. */
const FILLED_MS = 150;

scenarios('the kernel has a small window and reads late', { b: { receiveBufferBytes: 8192 } }, async (play) => {
  const { a, b } = play;
  await play.exchange(100);
  b.pause();
  a.send(200_000);
  await delay(FILLED_MS);
  b.resume();
  await eventually(async () => (await b.stat()).received === 200_100, 'the rest arrives');
  play.t.is((await b.stat()).mismatch, -1);
  closeBoth(play);
});

scenarios('we have a small window and read late', { a: { receiveBufferBytes: 8192 } }, async (play) => {
  const { a, b } = play;
  await play.exchange(100);
  a.pause();
  b.send(800_000);
  await delay(FILLED_MS);
  a.resume();
  await eventually(async () => (await a.stat()).received === 800_100, 'the rest arrives');
  play.t.is((await a.stat()).mismatch, -1);
  closeBoth(play);
});

for (const who of ['we end', 'the kernel ends'] as const) {
  scenarios(`half-close: ${who} first, the other sends on`, {}, async (play) => {
    const { a, b } = play;
    const [first, second] = who === 'we end' ? [a, b] : [b, a];
    await play.exchange(10_000);
    first.end();
    await eventually(async () => (await second.stat()).eof, 'the other reads the end');
    second.send(300_000);
    await eventually(async () => (await first.stat()).received === 310_000, 'the rest arrives');
    play.t.is((await first.stat()).mismatch, -1);
    second.end();
  });
}

scenarios(
  'both send and end at once',
  {},
  async (play) => {
    const { a, b } = play;
    for (const party of [a, b]) {
      party.send(50_000);
      party.end();
    }
    await Promise.all([a.ended(), b.ended()]);
    for (const party of [a, b]) play.t.like(await party.stat(), { received: 50_000, mismatch: -1 });
  },
  [4, 6],
);
