/**
 * Interop matrix, the other signals: MP_PRIO toggled, backup joins and failover, FASTCLOSE, reasons of RSTs, Fast Open
 * ignored. How a scenario is judged: tests/support/matrix.ts.
 */
import { closeBoth, type Play, scenarios } from '../support/matrix.js';
import { eventually, linkOf, type Party } from '../support/party.js';

/** MP_TCPRST of a RST: flags and reason. */
const IS_RST = 'tcp flags & rst == rst tcp option mptcp subtype 8';
const REASON = 'tcp option @30,16,16';
const PERMANENT = 0x8000;
const TRANSIENT = 0x8100;

/** Bytes on our subflow of link 2; null where no side is ours. */
async function carried({ ours }: Play): Promise<number | null> {
  if (ours === null) return null;
  const { connection } = await ours.info();
  const subflow = connection!.subflows.find((s) => [s.local, s.remote].some((e) => linkOf(e.address) === 2))!;
  return subflow.bytesSent + subflow.bytesReceived;
}

async function toggle(play: Play, who: Party, address: string): Promise<void> {
  const { a, b, t } = play;
  const other = who === a ? b : a;
  await who.setBackup(address, true);
  await play.reaches(other, 'MPPrioRx', 1);
  const before = await carried(play);
  await play.exchange(100_000);
  t.is(await carried(play), before, 'nothing on the backup');
  await who.setBackup(address, false);
  await play.reaches(other, 'MPPrioRx', 2);
  await play.exchange(2_000_000);
  if (before !== null) t.true((await carried(play))! > before, 'in use again');
  closeBoth(play);
}

scenarios('the client makes its joined address a backup, and normal again (MP_PRIO)', {}, async (play) => {
  const { client, server, addressOf } = play;
  await play.exchange(1000);
  await client.join(addressOf(client, 2), addressOf(server, 1));
  await play.subflows(2);
  await toggle(play, client, addressOf(client, 2));
});

scenarios(
  'the server makes its announced address a backup, and normal again (MP_PRIO)',
  {},
  async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(2);
    await toggle(play, server, addressOf(server, 2));
  },
  [4, 6, 'mixed'],
);

scenarios(
  'a backup joins: it carries nothing until the other path is silent',
  {},
  async (play) => {
    const { client, server, addressOf, lab, t } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1), true);
    await play.subflows(2);
    const before = await carried(play);
    await play.exchange(200_000);
    t.is(await carried(play), before, 'nothing on the backup');
    lab.filter(['input', 'iif b1 drop'], ['output', 'oif b1 drop']);
    await play.exchange(50_000);
    lab.filter();
    closeBoth(play);
  },
  [4, 6],
);

for (const who of ['a', 'b'] as const) {
  scenarios(
    `${who === 'a' ? 'we abort' : 'the kernel aborts'} a connection of two subflows (FASTCLOSE)`,
    // At the first RST the kernel may be quick enough to reset the other subflow itself, before our RST for that one.
    { loose: /MPFastcloseRx|MPRstRx|MPRstTx/ },
    async (play) => {
      const { client, server, addressOf, ours, t } = play;
      await play.exchange(1000);
      await client.join(addressOf(client, 2), addressOf(server, 1));
      await play.subflows(2);
      await play.exchange(10_000);
      play[who].abort();
      await Promise.all([play.a.ended(), play.b.ended()]);
      const received = await (who === 'a' ? play.b.counter('MPFastcloseRx') : play.b.counter('MPFastcloseTx'));
      t.true(received >= 1);
      if (ours !== null) t.is(ours.report!.end, who === 'a' ? 'aborted' : 'fastclose received');
    },
  );
}

scenarios(
  'we abort a connection of two subflows by FASTCLOSE on an ACK, and the kernel answers with RST',
  // Its RST on the other subflow may cross ours there.
  { isOursOnly: true, loose: /MPCapable|MPJoin|MPRstTx/, but: { MPFastcloseRx: 1 } },
  async (play) => {
    const { client, server, addressOf, ours, t } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.subflows(2);
    await play.exchange(10_000);
    await ours!.ask('abort ack');
    await Promise.all([play.a.ended(), play.b.ended()]);
    t.is(ours!.report!.end, 'aborted');
    t.true((await play.b.counter('MPRstTx')) >= 1, 'the kernel answered');
    t.true(ours!.report!.counters.MPTcpExtMPRstRx! >= 1, 'and we heard it');
  },
);

scenarios(
  'we reset one subflow, with a reason: the kernel goes on with the other',
  {
    role: 'client',
    isOursOnly: true,
    but: { MPCapableSYNRX: 1, MPCapableACKRX: 1, MPJoinSynRx: 1, MPJoinAckRx: 1, MPRstRx: 1 },
  },
  async (play) => {
    const { client, server, addressOf, ours } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.subflows(2);
    await ours!.ask(`close ${(await ours!.subflow(addressOf(client, 2))).id} reset`);
    await play.subflows(1);
    await play.exchange(100_000);
    closeBoth(play);
  },
);

scenarios(
  'we reset a silent subflow: the kernel reads that it performed badly, for now',
  {
    role: 'client',
    isOursOnly: true,
    but: { MPCapableSYNRX: 1, MPCapableACKRX: 1, MPJoinSynRx: 1, MPJoinAckRx: 1, MPRstRx: 1 },
  },
  async (play) => {
    const { client, server, addressOf, ours, lab, a, b, t } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.subflows(2);
    const monitor = lab.b.spawn('ip', 'mptcp', 'monitor');
    let said = '';
    monitor.stdout!.on('data', (data) => (said += data));
    // What the kernel has to say on the second link is lost, so that what we send there stays unacknowledged.
    lab.filter(['output', 'oif b2 drop']);
    const { id } = await ours!.subflow(addressOf(client, 2));
    a.send(2_000_000);
    await ours!.event('subflow-stalled');
    await ours!.ask(`close ${id} reset`);
    await eventually(() => Promise.resolve(/SF_CLOSED.*reset_reason=5 reset_flags=0x1/.test(said)), 'the reason');
    monitor.kill();
    lab.filter();
    await play.subflows(1);
    await eventually(async () => (await b.stat()).received === 2_001_000, 'the rest arrives');
    t.is((await b.stat()).mismatch, -1);
    closeBoth(play);
  },
);

scenarios(
  'we end while a subflow is silent whose bytes went elsewhere: it is reset, and the kernel is told that too much was out',
  {
    role: 'client',
    isOursOnly: true,
    but: { MPCapableSYNRX: 1, MPCapableACKRX: 1, MPJoinSynRx: 1, MPJoinAckRx: 1, MPRstRx: 1 },
  },
  async (play) => {
    const { client, server, addressOf, ours, lab, a, b, t } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.subflows(2);
    // The kernel's own event of the subflow's end does not come once the connection has ended: read off the wire.
    lab.filter(['output', 'oif b2 drop'], ['input', `${IS_RST} ${REASON} ${TRANSIENT | 4} counter accept`]);
    a.send(2_000_000);
    await ours!.event('subflow-stalled');
    await eventually(async () => (await b.stat()).received === 2_001_000, 'the bytes go elsewhere');
    closeBoth(play);
    await play.reaches(b, 'MPRstRx', 1);
    t.regex(lab.b.run('nft', 'list', 'ruleset'), /counter packets 1 /);
    lab.filter();
  },
);

for (const reason of [2, 4, 5, 6]) {
  scenarios(
    `the kernel’s RST says ${reason} on its way to us: told with the end of the subflow, and whether it may be tried again`,
    { role: 'client', b: { maxExtraSubflows: 0 } },
    async (play) => {
      const { client, server, addressOf, ours, lab, b, t } = play;
      await play.exchange(1000);
      const isTransient = reason !== 6;
      lab.filter(['output', `${IS_RST} ${REASON} set ${(isTransient ? TRANSIENT : PERMANENT) | reason}`]);
      await client.join(addressOf(client, 2), addressOf(server, 1));
      await play.reaches(b, 'MPJoinRejected', 1);
      if (ours !== null) {
        const { why, isPermanent } = await ours.event('subflow-closed');
        t.is(why, `reset (reason ${reason})`);
        t.is(isPermanent, !isTransient);
      }
      lab.filter();
      await play.exchange(100_000);
      closeBoth(play);
    },
  );
}

/** One side has sent a RST with its reason. */
function reset({ a, b }: Play): Promise<void> {
  return eventually(async () => (await a.counter('MPRstTx')) + (await b.counter('MPRstTx')) > 0, 'a reset');
}

const STRIP_JOIN = 'tcp option mptcp subtype 1';

scenarios('MP_JOIN is missing from the SYN/ACK: whoever joins resets it, with a reason', {}, async (play) => {
  const { client, server, addressOf, lab, b } = play;
  await play.exchange(1000);
  lab.filter([
    server === b ? 'output' : 'input',
    `tcp flags & (syn | ack) == (syn | ack) ${STRIP_JOIN} reset tcp option mptcp`,
  ]);
  await client.join(addressOf(client, 2), addressOf(server, 1));
  await reset(play);
  lab.filter();
  await play.exchange(100_000);
  closeBoth(play);
});

scenarios('MP_JOIN is missing from the third packet: whoever is joined resets it, with a reason', {}, async (play) => {
  const { client, server, addressOf, lab, ours, a } = play;
  await play.exchange(1000);
  lab.filter([
    client === a ? 'input' : 'output',
    `tcp flags & (syn | ack) == ack ${STRIP_JOIN} reset tcp option mptcp`,
  ]);
  await client.join(addressOf(client, 2), addressOf(server, 1));
  if (ours === client) await ours.event('subflow-closed');
  else await reset(play);
  lab.filter();
  await play.exchange(100_000);
  closeBoth(play);
});

scenarios(
  'Fast Open: data in a SYN is not taken; Linux sends it again without the keys, and both go on as plain TCP',
  { role: 'server', b: { fastOpenBytes: 500 } },
  async (play) => {
    const { a, b, t } = play;
    await eventually(async () => (await a.stat()).received === 500, 'the data of the SYN');
    a.send(300);
    await eventually(async () => (await b.stat()).received === 300, 'the answer');
    b.send(100_000);
    await eventually(async () => (await a.stat()).received === 100_500, 'the rest');
    t.is((await a.stat()).mismatch, -1);
    t.is((await b.stat()).mismatch, -1);
    closeBoth(play);
  },
);
