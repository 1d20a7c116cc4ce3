/**
 * Interop matrix, addresses: ADD_ADDR with and without port, announcement and echo lost, REMOVE_ADDR of one, several and
 * id 0, joins by the server, joins refused by limit, the C flag. How a scenario is judged: tests/support/matrix.ts.
 */
import { closeBoth, scenario, scenarios } from '../support/matrix.js';

for (const withPort of [false, true]) {
  scenarios(
    `the server announces an address ${withPort ? 'with a port' : 'without a port'}, the client joins there`,
    {},
    async (play) => {
      const { client, server, addressOf } = play;
      await play.exchange(1000);
      const port = withPort ? play.port + 1000 : undefined;
      await server.announce(addressOf(server, 2), port);
      await client.joinAnnounced(addressOf(server, 2), port);
      await play.subflows(2);
      await play.exchange(200_000);
      closeBoth(play);
    },
    // A kernel has no room for an IPv6 address with a port: below.
    withPort ? [4] : [4, 6, 'mixed'],
  );
}

// Beside timestamps behind two NOPs there is no room for it: a kernel drops the announcement (AddAddrTxDrop).
scenario(
  'we announce an IPv6 address with a port, which a kernel cannot, and the kernel joins there',
  {
    role: 'server',
    family: 6,
    isOursOnly: true,
    but: {
      AddAddr: 1,
      EchoAddTx: 1,
      MPCapableSYNACKRX: 1,
      MPCapableSYNTX: 1,
      MPJoinPortSynAckRx: 1,
      MPJoinSynAckRx: 1,
      MPJoinSynTx: 1,
      PortAdd: 1,
    },
  },
  async (play) => {
    const { server, addressOf } = play;
    await play.exchange(1000);
    await server.announce(addressOf(server, 2), play.port + 1000);
    await play.subflows(2);
    await play.exchange(200_000);
    closeBoth(play);
  },
);

scenarios(
  'the client announces an address with a port, the server joins there',
  {},
  async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    await client.announce(addressOf(client, 2), play.port + 1000);
    await server.joinAnnounced(addressOf(client, 2), play.port + 1000);
    await play.subflows(2);
    await play.exchange(200_000);
    closeBoth(play);
  },
  [4],
);

// A kernel's client listens nowhere: it answers a join to its own port with RST. We find the connection by token (RFC 8684 3.2).
scenarios(
  'the client announces an address without a port, and the server joins: we take it, where a kernel refuses',
  { role: 'client', but: { MPJoinSynAckRx: 1 } },
  async (play) => {
    const { client, addressOf, ours, b } = play;
    await play.exchange(1000);
    await client.announce(addressOf(client, 2));
    await play.reaches(b, 'MPJoinSynTx', 1);
    if (ours !== null) await play.subflows(2);
    await play.exchange(200_000);
    closeBoth(play);
  },
);

scenarios(
  'the client announces an address without a port, and we join as the server: a kernel refuses, nothing else suffers',
  { role: 'server' },
  async (play) => {
    const { client, server, addressOf, ours, t } = play;
    await play.exchange(1000);
    await client.announce(addressOf(client, 2));
    await server.joinAnnounced(addressOf(client, 2));
    if (ours !== null) t.is((await ours.event('subflow-closed')).why, 'refused');
    await play.exchange(200_000);
    closeBoth(play);
  },
);

/** The first packet that it sees of those with ADD_ADDR is dropped. */
const FIRST_ADD_ADDR = 'tcp option mptcp subtype 3 numgen inc mod 1000000 0 drop';

for (const lost of ['announcement', 'echo'] as const) {
  scenarios(`the first ${lost} of an address is lost: it is announced again`, {}, async (play) => {
    const { client, server, addressOf, lab } = play;
    await play.exchange(1000);
    const isSentByKernel = (server.side === 'b') === (lost === 'announcement');
    lab.filter([isSentByKernel ? 'output' : 'input', FIRST_ADD_ADDR]);
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(2);
    await play.reaches(server, 'EchoAdd', 1);
    await play.exchange(100_000);
    closeBoth(play);
  });
}

scenarios(
  'the client removes the address that it joined from',
  {},
  async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.subflows(2);
    await play.exchange(100_000);
    await client.withdraw(addressOf(client, 2));
    await play.subflows(1);
    await play.exchange(100_000);
    closeBoth(play);
  },
  [4, 6],
);

scenarios('the server removes the address that it announced', {}, async (play) => {
  const { client, server, addressOf } = play;
  await play.exchange(1000);
  await server.announce(addressOf(server, 2));
  await client.joinAnnounced(addressOf(server, 2));
  await play.subflows(2);
  await play.exchange(100_000);
  await server.withdraw(addressOf(server, 2));
  await play.subflows(1);
  await play.exchange(100_000);
  closeBoth(play);
});

scenarios('the server removes two addresses at once', {}, async (play) => {
  const { client, server, addressOf } = play;
  await play.exchange(1000);
  for (const link of [2, 3]) {
    await server.announce(addressOf(server, link));
    await client.joinAnnounced(addressOf(server, link));
    await play.subflows(link);
  }
  await server.withdraw(addressOf(server, 2), addressOf(server, 3));
  await play.subflows(1);
  await play.exchange(100_000);
  closeBoth(play);
});

for (const who of ['client', 'server'] as const) {
  scenarios(`the ${who} removes its first address, id 0`, {}, async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(2);
    await play[who].withdraw(addressOf(play[who], 1));
    await play.subflows(1);
    await play.exchange(100_000);
    closeBoth(play);
  });
}

scenarios(
  'the kernel refuses a join beyond its limit, with its reason',
  { role: 'client', b: { maxExtraSubflows: 0 } },
  async (play) => {
    const { client, server, addressOf, ours, b, t } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.reaches(b, 'MPJoinRejected', 1);
    if (ours !== null) t.is((await ours.event('subflow-closed')).why, 'reset (reason 3)');
    await play.exchange(100_000);
    closeBoth(play);
  },
);

scenarios(
  'we refuse a join beyond our limit, with the reason',
  // The SYN is refused at once (RFC 8684 3.2); a kernel answers it and resets after the third packet.
  { role: 'server', a: { maxExtraSubflows: 0 }, but: { MPJoinSynAckRx: 0, MPRstTx: 0 } },
  async (play) => {
    const { client, server, addressOf, b } = play;
    await play.exchange(1000);
    await client.join(addressOf(client, 2), addressOf(server, 1));
    await play.reaches(b, 'MPJoinSynTx', 1);
    await play.exchange(100_000);
    closeBoth(play);
  },
);

scenarios(
  'flag C of the kernel: we join to the announced address, not to the first',
  { b: { denyJoinInitial: true } },
  async (play) => {
    const { client, server, addressOf, ours, t } = play;
    await play.exchange(1000);
    if (ours === client) {
      const error = await t.throwsAsync(ours.ask(`join a2 ${addressOf(server, 1)}`));
      t.regex(error!.message, /refused/);
    }
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(2);
    await play.exchange(100_000);
    closeBoth(play);
  },
);

scenarios(
  'flag C of ours: the kernel joins to the announced address, not to the first',
  { a: { denyJoinInitial: true } },
  async (play) => {
    const { client, server, addressOf } = play;
    await play.exchange(1000);
    if (client === play.b) await client.join(addressOf(client, 3), addressOf(server, 1));
    await server.announce(addressOf(server, 2));
    await client.joinAnnounced(addressOf(server, 2));
    await play.subflows(2);
    await play.exchange(100_000);
    closeBoth(play);
  },
);
