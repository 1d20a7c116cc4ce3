import test from 'ava';
import { ReceiveBatch, TransmitBatch } from '../../src/core/engine/ports.js';
import {
  addon,
  check,
  enterNamespace,
  findTool,
  GuardPool,
  GuardTable,
  LINGER_US,
  openPacketPort,
  PACKET_SLOT_BYTES,
  type PacketSocketPort,
} from '../../src/native/index.js';
import { TestNamespace } from '../support/netns.js';
import { ACK, addTcp, RST, type SeenPacket, SYN, seen, type TcpFields } from '../support/packets.js';
import { until } from '../support/until.js';

// This file's thread lives in `near`: the guard runs nft there.
const near = new TestNamespace('gd-a');
const far = new TestNamespace('gd-b');
near.veth('wlan0', far, 'eth0');
for (const [ns, dev, host] of [
  [near, 'wlan0', 1],
  [far, 'eth0', 2],
] as const) {
  ns.ip('addr', 'add', `10.1.0.${host}/24`, 'dev', dev);
  ns.ip('addr', 'add', `fd01::${host}/64`, 'dev', dev);
}
enterNamespace(near.name);
const server = far.spawn('node', '-e', 'require("net").createServer(s=>s.on("error",()=>{})).listen(9000)');
test.before(() => until(() => far.run('ss', '-Htln').includes(':9000'), 'the server'));
test.after.always(() => {
  server.kill();
  near.close();
  far.close();
});

const rejecting = (how: string) => `table inet fw {
  chain input {
    type filter hook input priority 0
    iif lo accept
    meta l4proto tcp counter reject with ${how}
  }
}`;
const RULESETS = { 'tcp reset': rejecting('tcp reset'), 'icmpx admin-prohibited': rejecting('icmpx admin-prohibited') };

function load(ruleset: string): void {
  near.run('sh', '-c', `nft -f - <<'END'\nflush ruleset\n${ruleset}\nEND`);
}

/** What the far end saw from us, and what came back, in one exchange of SYN, SYN/ACK, ACK. */
async function handshake(port: PacketSocketPort, localPort: number, family: 4 | 6): Promise<string> {
  const [from, to] = family === 4 ? ['10.1.0.1', '10.1.0.2'] : ['fd01::1', 'fd01::2'];
  const base = { from, to, fromPort: localPort, toPort: 9_000 };
  const batch = new TransmitBatch(1);
  const inbox = new ReceiveBatch(16, PACKET_SLOT_BYTES);
  const packets: SeenPacket[] = [];
  const send = async (fields: Pick<TcpFields, 'seq' | 'ack' | 'flags' | 'payload'>) => {
    batch.clear();
    addTcp(batch, { ...base, ...fields });
    await until(() => port.send(batch, 0) === 1, 'the send');
  };
  const receive = () => {
    for (let i = 0, n = port.receive(inbox); i < n; i++) packets.push(seen(inbox, i));
  };
  await send({ seq: 100, flags: SYN });
  await until(() => {
    receive();
    return packets.some((p) => p.flags === (SYN | ACK));
  }, 'SYN/ACK');
  const answer = packets.find((p) => p.flags === (SYN | ACK))!;
  // A reject would hit the SYN/ACK: give it time to arrive by exchanging one more segment.
  await send({ seq: 101, ack: answer.seq + 1, flags: ACK });
  await send({ seq: 101, ack: answer.seq + 1, flags: ACK, payload: Buffer.from('hello') });
  let state = '';
  await until(() => {
    receive();
    state = far.run('ss', '-Htan', 'dport', '=', `:${localPort}`).split(/\s+/)[0]!;
    return packets.some((p) => p.ack === 106) || packets.some((p) => (p.flags & RST) !== 0) || state === '';
  }, 'an outcome');
  await send({ seq: 106, flags: RST });
  return packets.some((p) => p.ack === 106) && state === 'ESTAB' ? 'alive' : 'dead';
}

for (const [name, ruleset] of Object.entries(RULESETS)) {
  for (const family of [4, 6] as const) {
    test.serial(
      `a host that rejects (${name}), IPv${family}: our connection lives with the table, and not without`,
      async (t) => {
        load(ruleset);
        const table = new GuardTable('t-1');
        const pool = new GuardPool((ports) => table.setPorts(ports));
        const index = addon.ifNameToIndex('wlan0');
        table.setInterfaces([{ name: 'wlan0', index }]);
        const guard = pool.acquire(0);
        await table.settled();
        t.is(table.state, 'active', table.problem);
        t.regex(
          near.run('nft', 'list', 'ruleset'),
          new RegExp(`table netdev mptun_t_1[\\s\\S]*${guard.port}[\\s\\S]*device "wlan0"`),
        );
        const port = openPacketPort({ interfaceName: 'wlan0', ports: [guard.port] });
        const rejected = () =>
          Number(/counter packets (\d+) .*reject/.exec(near.run('nft', 'list', 'table', 'inet', 'fw'))![1]);
        t.is(await handshake(port, guard.port, family), 'alive');
        t.is(rejected(), 0, 'nothing reached the rule');

        table.close();
        t.notRegex(near.run('nft', 'list', 'ruleset'), /mptun/, 'removed on exit');
        if (name === 'tcp reset')
          t.is(await handshake(port, guard.port, family), 'dead', 'so it is the table that helped');
        port.close();
        pool.close();
      },
    );
  }
}

test.serial('without a ruleset there is no table; one that is loaded later is noticed, and its end too', async (t) => {
  near.run('nft', 'flush', 'ruleset');
  const table = new GuardTable('late');
  table.setInterfaces([{ name: 'wlan0', index: addon.ifNameToIndex('wlan0') }]);
  table.setPorts([4_242]);
  await table.settled();
  t.is(table.state, 'not-needed');
  t.is(near.run('nft', 'list', 'ruleset'), '');
  near.run('nft', 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }');
  await until(() => table.state === 'active', 'the table');
  t.regex(near.run('nft', 'list', 'ruleset'), /mptun_late[\s\S]*4242/);
  near.run('nft', 'delete', 'table', 'inet', 'fw');
  await until(() => table.state === 'not-needed', 'its end');
  await table.settled();
  t.is(near.run('nft', 'list', 'ruleset'), '');
  table.close();
});

test.serial('what a crashed run left behind is cleaned at start; other tables stay', (t) => {
  near.run('nft', 'add table netdev mptun_crash; add table netdev mptun_other; add table inet mine');
  const table = new GuardTable('crash');
  const ruleset = near.run('nft', 'list', 'ruleset');
  t.notRegex(ruleset, /mptun_crash/);
  t.regex(ruleset, /mptun_other[\s\S]*mine/);
  table.close();
  near.run('nft', 'flush', 'ruleset');
});

test.serial('a ruleset and no nft: said so', async (t) => {
  load(RULESETS['tcp reset']);
  const table = new GuardTable('nonft', findTool('nft', '/nonexistent'));
  table.setPorts([1]);
  table.setInterfaces([{ name: 'wlan0', index: addon.ifNameToIndex('wlan0') }]);
  await table.settled();
  t.is(table.state, 'nft-missing');
  t.regex(table.problem, /nftables/);
  table.close();
  near.run('nft', 'flush', 'ruleset');
});

test.serial('a guard reserves its port for both families, lingers after its release, and goes', (t) => {
  let now = 1_000_000;
  const told: number[][] = [];
  const pool = new GuardPool(
    (ports) => told.push([...ports]),
    () => now,
  );
  const first = pool.acquire(0);
  t.true(first.port > 1_023);
  const error = t.throws(() => pool.acquire(first.port));
  t.is((error as { code?: string }).code, 'EADDRINUSE');
  const four = check(addon.socket(2, 1, 0), 'socket');
  const name = Buffer.alloc(16);
  name.writeUInt16LE(2, 0);
  name.writeUInt16BE(first.port, 2);
  t.is(addon.bind(four, name), -98, 'IPv4 is taken as well');
  first.release();
  first.release();
  pool.sweep();
  t.true(pool.ports().has(first.port));
  t.is(pool.acquire(first.port).port, first.port, 'may be taken again while it lingers');
  const second = pool.acquire(0);
  second.release();
  now += LINGER_US - 1;
  pool.sweep();
  t.true(pool.ports().has(second.port));
  now += 1;
  pool.sweep();
  t.deepEqual([...pool.ports()], [first.port]);
  t.deepEqual(told, [[first.port], [first.port, second.port], [first.port]]);
  pool.close();
  t.is(addon.bind(four, name), 0, 'free again');
  addon.close(four);
});

test.serial(
  'many guards are few ranges of neighbours; what has lingered longest is used again before there are more',
  (t) => {
    let now = 1_000_000;
    let told = 0;
    const pool = new GuardPool(
      () => told++,
      () => now,
    );
    const guards = Array.from({ length: 1_000 }, () => pool.acquire(0));
    const ports = guards.map((g) => g.port).sort((a, b) => a - b);
    t.is(new Set(ports).size, 1_000);
    const guarded = [...pool.ports()].sort((a, b) => a - b);
    const ranges = guarded.filter((port, i) => i === 0 || guarded[i - 1] !== port - 1).length;
    t.true(ranges <= 100, `${ranges} ranges`);
    t.true(told <= 100, `told ${told} times`);
    for (const guard of guards) guard.release();
    const spare = guarded.length - 1_000;
    for (let i = 0; i < spare; i++) pool.acquire(0);
    t.is(pool.acquire(0).port, guards[0]!.port, 'the first that was released');
    t.is(pool.ports().size, guarded.length);
    now += LINGER_US;
    pool.sweep();
    t.true(pool.ports().size < guarded.length, 'blocks that nobody uses are gone');
    pool.close();
  },
);
