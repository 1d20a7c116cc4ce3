/** The path manager by scenario: what the world does, what it orders, how it ends. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { PathManager } from '../../../src/core/pathman/manager.js';
import { printTransitions } from '../../../src/core/pathman/states.js';
import { DEFAULT_PATH_CONFIG } from '../../../src/core/pathman/types.js';
import { Rig, random, SERVER, SERVER6, twoLinks } from './rig.js';

const S = 1_000_000;

test('the transition table', (t) => {
  t.snapshot(printTransitions());
  t.true(
    readFileSync('docs/paths.md', 'utf8').includes(`\`\`\`\n${printTransitions()}\n\`\`\``),
    'as the docs show it',
  );
});

test('no state is terminal: each has a way on, and one leads to carrying data', (t) => {
  const edges = printTransitions()
    .split('\n')
    .map((line) => line.split(/\s+/) as [string, string, string]);
  for (const from of new Set(edges.flatMap(([a, , b]) => [a, b]))) {
    const reached = new Set([from]);
    for (const state of reached) for (const [a, , b] of edges) if (a === state) reached.add(b);
    t.true(reached.has('active'), from);
  }
});

test('start: the best path connects, the others join when the session is ready', (t) => {
  const rig = twoLinks();
  t.deepEqual(rig.takeLog(), ['connect wifi']);
  t.is(rig.path('lte').why, 'waits for the first connection');
  rig.run(60_000);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'probing' });
  t.deepEqual(rig.takeLog(), []);
  rig.run(1 * S);
  t.deepEqual(rig.takeLog(), ['join lte']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
  t.is(rig.problem, null);
});

test('start with every link down: waits, and connects in the moment that one comes', (t) => {
  const rig = new Rig()
    .addLink(1, 'wifi', [], { isUp: false })
    .addLink(2, 'lte', [], { isUp: false })
    .remotes(SERVER)
    .run(3600 * S);
  t.is(rig.attempts, 0);
  rig.setUp(2, true).setAddresses(2, '203.0.113.20');
  t.deepEqual(rig.takeLog(), ['link-state lte up', 'connect lte']);
  rig.run(1 * S);
  t.is(rig.path('lte').state, 'active');
});

test('start over a silent link: the other is tried after three seconds', (t) => {
  const rig = new Rig().addLink(1, 'wifi', ['192.0.2.10']).addLink(2, 'lte', ['203.0.113.20'], { priority: 1 });
  rig.setBehaviour(1, 'silent').remotes(SERVER);
  rig.run(2.9 * S);
  t.deepEqual(rig.takeLog(), ['connect wifi']);
  rig.run(0.5 * S);
  t.deepEqual(rig.takeLog().slice(0, 2), ['close wifi reset', 'connect lte']);
  t.is(rig.path('lte').state, 'active');
  rig.setBehaviour(1, 'works').run(40 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
});

test('carrier lost: the engine hears first, the peer is told, the subflow is kept; back: it is used again at once', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.takeLog();
  rig.setUp(1, false);
  t.deepEqual(rig.takeLog(), ['link-state wifi down', 'tell-peer wifi gone']);
  t.is(rig.path('wifi').state, 'down');
  t.is(rig.path('wifi').why, 'link is down');
  rig.run(20 * S);
  rig.setUp(1, true).run(0.1 * S);
  t.deepEqual(rig.takeLog(), ['link-state wifi up', 'tell-peer wifi returned']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
});

test('carrier back but the old subflow is dead: replaced within about a second', (t) => {
  const rig = twoLinks().run(5 * S);
  rig
    .setBehaviour(1, 'silent')
    .setUp(1, false)
    .run(20 * S);
  rig.takeLog();
  rig.setUp(1, true).run(1.1 * S);
  t.deepEqual(rig.takeLog(), ['link-state wifi up', 'close wifi reset', 'join wifi']);
  rig.setBehaviour(1, 'works').run(12 * S);
  t.is(rig.path('wifi').state, 'active');
});

test('another address after the return: the old subflow ends, a new one joins at once', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.setUp(1, false).setAddresses(1);
  t.is(rig.paths().length, 1, 'nothing is left of a pair that does not exist');
  rig.run(5 * S);
  rig.takeLog();
  rig
    .setUp(1, true)
    .setAddresses(1, '192.0.2.77')
    .run(0.1 * S);
  t.deepEqual(rig.takeLog(), ['link-state wifi up', 'join wifi']);
  t.is(rig.path('wifi').localAddress.text, '192.0.2.77');
  t.is(rig.path('wifi').state, 'active');
});

test('both links gone, addresses too: the last subflow is not closed; a new address joins the same session', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.setUp(1, false).setAddresses(1).setUp(2, false).setAddresses(2);
  t.is(rig.subflows.size, 1);
  rig.run(5 * S).takeLog();
  rig
    .setUp(2, true)
    .setAddresses(2, '203.0.113.99')
    .run(1 * S);
  t.true(rig.log.includes('join lte'), rig.log.join());
  t.false(rig.log.includes('connect lte'));
  t.is(rig.subflows.size, 1, 'and the old one is closed once the new one works');
  t.is(rig.path('lte').state, 'active');
});

test('a black hole: told to the peer, replaced after five seconds, back when the link is', (t) => {
  const rig = twoLinks().run(20 * S);
  rig.takeLog();
  rig.setBehaviour(1, 'silent').run(1 * S);
  t.deepEqual(rig.takeLog(), ['tell-peer wifi silent']);
  t.is(rig.path('wifi').why, 'nothing gets through');
  rig.run(5 * S);
  t.deepEqual(rig.takeLog(), ['close wifi reset', 'join wifi']);
  rig
    .run(60 * S)
    .setBehaviour(1, 'works')
    .event({ type: 'packet-received', linkId: 1 })
    .run(0.1 * S);
  t.is(rig.path('wifi').state, 'active', 'a packet from there resets the back-off');
});

test('a black hole on the only path: the subflow is kept, it may answer', (t) => {
  const rig = new Rig()
    .addLink(1, 'wifi', ['192.0.2.10'])
    .remotes(SERVER)
    .run(20 * S);
  rig.takeLog();
  rig.setBehaviour(1, 'silent').run(600 * S);
  t.deepEqual(rig.takeLog(), []);
  rig.setBehaviour(1, 'works').run(2 * S);
  t.is(rig.path('wifi').state, 'active');
  t.is(rig.path('wifi').why, null);
});

test('back-off is exponential, jittered, bounded; a refusal waits a minute or more', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.setUp(2, false).setAddresses(2).setBehaviour(2, 'silent').setUp(2, true).setAddresses(2, '203.0.113.21');
  const before = rig.attempts;
  rig.run(600 * S);
  const silentAttempts = rig.attempts - before;
  t.true(silentAttempts >= 14 && silentAttempts <= 24, `${silentAttempts} attempts in ten minutes`);
  const status = rig.path('lte');
  if (status.state === 'probing') {
    t.true(status.retryInUs! <= 37.5 * S);
    t.is(status.why, 'last attempt failed: timeout');
  }
  rig.setBehaviour(2, 'refuses').run(40 * S);
  t.is(rig.path('lte').state, 'blocked');
  t.is(rig.path('lte').why, 'refused: refused');
  t.true(rig.path('lte').retryInUs! > 0);
  rig.setBehaviour(2, 'works').run(800 * S);
  t.is(rig.path('lte').state, 'active', 'blocked is not terminal');
});

test('refused: the next attempt a minute later, then twice as long each time, up to ten minutes', (t) => {
  const rig = new Rig().addLink(1, 'wifi', ['192.0.2.10']).addLink(2, 'lte', ['203.0.113.20'], { priority: 1 });
  rig
    .setBehaviour(2, 'refuses')
    .remotes(SERVER)
    .run(1 * S);
  for (const minutes of [1, 2, 4, 8, 10, 10]) {
    const { state, retryInUs } = rig.path('lte');
    t.is(state, 'blocked');
    const aboutUs = minutes * 60 * S;
    t.true(retryInUs! > 0.75 * aboutUs - 2 * S && retryInUs! <= 1.25 * aboutUs, `${retryInUs! / S} s`);
    rig.run(retryInUs! + 0.5 * S);
  }
});

test('a refused path is tried at once when the operator touches its role', (t) => {
  const rig = new Rig().addLink(1, 'wifi', ['192.0.2.10']).addLink(2, 'lte', ['203.0.113.20'], { priority: 1 });
  rig
    .setBehaviour(2, 'refuses')
    .remotes(SERVER)
    .run(5 * S);
  t.is(rig.path('lte').state, 'blocked');
  rig
    .setBehaviour(2, 'works')
    .event({ type: 'link-policy', linkId: 2, policy: { role: 'always' } })
    .run(0.1 * S);
  t.is(rig.path('lte').state, 'active');
});

test('backup: warm, used when nothing else works, rests when it does again; make before break both ways', (t) => {
  const rig = twoLinks({}, 'backup').run(20 * S);
  t.deepEqual(rig.takeLog(), ['connect wifi', 'join lte as backup']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'warm' });
  t.is(rig.path('lte').why, 'backup: another path works');
  rig.setUp(1, false);
  t.deepEqual(rig.takeLog(), [
    'link-state wifi down',
    'tell-peer wifi gone',
    'set-backup lte false',
    'tell-peer lte role always',
  ]);
  t.is(rig.path('lte').state, 'active');
  rig
    .run(5 * S)
    .setUp(1, true)
    .run(0.1 * S);
  t.deepEqual(rig.takeLog(), ['link-state wifi up', 'tell-peer wifi returned']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' }, 'both, until the one that is back has found its rate');
  rig.run(0.2 * S);
  t.deepEqual(rig.takeLog(), ['set-backup lte true', 'tell-peer lte role backup']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'warm' });
});

test('backup: a stalled regular path is enough', (t) => {
  const rig = twoLinks({}, 'backup').run(20 * S);
  rig.setBehaviour(1, 'silent').run(0.4 * S);
  t.is(rig.path('lte').state, 'active');
});

test('overflow: joins in while the regular links are full, and five seconds beyond', (t) => {
  const rig = twoLinks({}, 'overflow').run(5 * S);
  t.is(rig.path('lte').state, 'warm');
  t.is(rig.path('lte').why, 'overflow: the others have room');
  rig.event({ type: 'saturation', isSaturated: true });
  t.is(rig.path('lte').state, 'active');
  rig
    .run(60 * S)
    .event({ type: 'saturation', isSaturated: false })
    .run(4 * S);
  t.is(rig.path('lte').state, 'active');
  rig.run(1.1 * S);
  t.is(rig.path('lte').state, 'warm');
  rig.setUp(1, false);
  t.is(rig.path('lte').state, 'active', 'and when they are missing');
});

test('never: drained while another path works, then closed; nothing is opened until it is allowed again', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.takeLog();
  rig.event({ type: 'link-policy', linkId: 1, policy: { role: 'never' } });
  t.deepEqual(rig.takeLog(), ['set-backup wifi true', 'tell-peer wifi role backup', 'tell-peer wifi going']);
  t.is(rig.path('wifi').state, 'draining');
  rig.run(1 * S);
  t.deepEqual(rig.takeLog(), ['close wifi fin']);
  t.is(rig.path('wifi').state, 'down');
  t.is(rig.path('wifi').why, 'its role is never');
  rig.run(600 * S);
  t.deepEqual(rig.takeLog(), []);
  rig.event({ type: 'link-policy', linkId: 1, policy: { role: 'always' } }).run(0.1 * S);
  t.is(rig.path('wifi').state, 'active');
});

test('never for the only path that works: waits for another one, but not for ever', (t) => {
  const rig = twoLinks().run(5 * S);
  rig.setBehaviour(2, 'silent').run(1 * S);
  rig.event({ type: 'link-policy', linkId: 1, policy: { role: 'never' } }).run(2 * S);
  t.is(rig.path('wifi').state, 'draining');
  rig.setBehaviour(2, 'works').run(1.5 * S);
  t.is(rig.path('wifi').state, 'down', 'closed as soon as the other answered');
  t.is(rig.path('lte').state, 'active');
});

test('a fading link gives way before it breaks, if there is another', (t) => {
  const rig = twoLinks({ mode: 'aggregate' }).run(5 * S);
  rig.takeLog();
  rig.event({ type: 'link-fading', linkId: 1, isFading: true });
  t.deepEqual(rig.takeLog(), ['set-backup wifi true', 'tell-peer wifi role backup']);
  t.is(rig.path('wifi').why, 'link is fading, others carry the data');
  rig.setUp(2, false);
  t.is(rig.path('wifi').state, 'active', 'better than nothing');
  rig
    .setUp(2, true)
    .event({ type: 'link-fading', linkId: 1, isFading: false })
    .run(1 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
});

test('handover mode: one carries, the next is warm and takes over', (t) => {
  const rig = twoLinks({ mode: 'handover' }).run(5 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'warm' });
  rig.setBehaviour(1, 'silent').run(0.4 * S);
  t.is(rig.path('lte').state, 'active');
  rig.setBehaviour(1, 'works').run(5 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'warm' });
});

test('the peer says: role, going, gone, returned, silent', (t) => {
  const rig = twoLinks().run(5 * S);
  const { id } = rig.path('wifi');
  rig.takeLog();
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'role', role: 'backup' } });
  t.is(rig.path('wifi').state, 'warm');
  t.is(rig.path('wifi').role, 'backup');
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'role', role: 'always' } });
  t.is(rig.path('wifi').state, 'active');
  rig.takeLog();
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'gone' } });
  t.deepEqual(rig.takeLog(), ['suspect wifi']);
  t.is(rig.path('wifi').why, 'the peer says that its link is gone');
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'returned' } });
  t.deepEqual(rig.takeLog(), ['link-state wifi up']);
  t.is(rig.path('wifi').why, null);
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'going' } });
  t.is(rig.path('wifi').state, 'warm');
  t.is(rig.path('wifi').why, 'the peer says that its link is going');
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'returned' } });
  rig.takeLog();
  rig.event({ type: 'peer-wish', pathId: id, wish: { what: 'silent' } });
  t.deepEqual(rig.takeLog(), ['suspect wifi']);
});

test('a lost session starts afresh over the best path, and joins the rest', (t) => {
  const rig = twoLinks().run(20 * S);
  rig.takeLog();
  rig.loseSession();
  t.deepEqual(rig.takeLog(), ['connect wifi']);
  rig.run(1 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
});

test('a subflow that is reset right after each join is not rejoined without pause', (t) => {
  const rig = twoLinks().run(20 * S);
  const before = rig.attempts;
  for (let i = 0; i < 600; i++) {
    const path = rig.path('lte');
    if (path.state === 'active') {
      rig.subflows.delete(path.id);
      rig.event({ type: 'subflow-closed', pathId: path.id, why: 'reset' });
    }
    rig.run(0.1 * S);
  }
  t.true(rig.attempts - before <= 120, `${rig.attempts - before} joins in a minute`);
});

test('families: same with same, the preferred one first, the other when it fails; scopes are not mixed', (t) => {
  const rig = new Rig()
    .addLink(1, 'wifi', ['fe80::10', '2001:db8:1::10', '192.0.2.10', '169.254.3.4'])
    .remotes(SERVER, SERVER6)
    .run(5 * S);
  t.deepEqual(
    rig.paths().map((p) => `${p.localAddress.text} ${p.state}`),
    ['2001:db8:1::10 active', '192.0.2.10 probing'],
  );
  t.is(rig.paths()[1]!.why, 'another path over this link is in use');

  const four = new Rig({ families: [4] }).addLink(1, 'wifi', ['2001:db8:1::10', '192.0.2.10']).remotes(SERVER, SERVER6);
  t.deepEqual(
    four.paths().map((p) => p.localAddress.text),
    ['192.0.2.10'],
  );

  const refused = new Rig().addLink(1, 'wifi', ['2001:db8:1::10', '192.0.2.10']);
  refused
    .setBehaviour(1, 'refuses')
    .remotes(SERVER, SERVER6)
    .run(0.06 * S);
  refused.setBehaviour(1, 'works').run(1 * S);
  t.deepEqual(
    refused.paths().map((p) => p.state),
    ['blocked', 'active'],
  );
});

test('limits: subflows in all, per link, and pairs', (t) => {
  const mesh = new Rig({ maxPathsPerLink: 2, maxSubflows: 3 })
    .addLink(1, 'wifi', ['192.0.2.10', '2001:db8:1::10'])
    .addLink(2, 'lte', ['203.0.113.20', '2001:db8:2::20'], { priority: 1 })
    .remotes(SERVER, SERVER6)
    .run(5 * S);
  t.is(mesh.subflows.size, 3);
  t.deepEqual(
    mesh.paths().map((p) => p.state),
    ['active', 'active', 'active', 'probing'],
  );

  const many = new Rig({ maxPathsPerLink: 64, maxSubflows: 8 });
  many.addLink(
    1,
    'wifi',
    Array.from({ length: 30 }, (_, i) => `192.0.2.${i + 1}`),
  );
  many
    .remotes(...Array.from({ length: 10 }, (_, i) => ({ address: parseIp(`198.51.100.${i + 1}`), port: 443 })))
    .run(5 * S);
  t.is(many.paths().length, 64);
  t.is(many.subflows.size, 8);
  t.is(many.problem, null);
});

test('a regular path takes the place of a backup when subflows are scarce', (t) => {
  const rig = new Rig({ maxSubflows: 2 })
    .addLink(1, 'wifi', ['192.0.2.10'])
    .addLink(2, 'lte', ['203.0.113.20'], { role: 'backup' })
    .remotes(SERVER)
    .run(5 * S);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'warm' });
  rig.addLink(3, 'dsl', ['203.0.113.130']).run(5 * S);
  t.deepEqual(rig.states(), { wifi: 'active', dsl: 'active', lte: 'probing' });
});

test('an endpoint that is no longer announced: what works is kept, but not opened again', (t) => {
  const rig = twoLinks().run(20 * S);
  rig.remotes({ address: parseIp('198.51.100.2'), port: 443 }).run(5 * S);
  t.deepEqual(
    rig
      .paths()
      .filter((p) => p.state === 'active')
      .map((p) => p.remote.address.text),
    ['198.51.100.1', '198.51.100.1'],
  );
  rig
    .setUp(1, false)
    .setAddresses(1)
    .setUp(1, true)
    .setAddresses(1, '192.0.2.10')
    .run(5 * S);
  t.is(rig.paths().find((p) => p.linkName === 'wifi')!.remote.address.text, '198.51.100.2');
});

test('a link that is removed leaves nothing behind', (t) => {
  const rig = twoLinks()
    .run(5 * S)
    .removeLink(1);
  t.deepEqual(rig.states(), { lte: 'active' });
  t.is(rig.subflows.size, 1);
});

test('server: paths are what the client joins; it opens and echoes nothing', (t) => {
  const m = new PathManager({ ...DEFAULT_PATH_CONFIG, side: 'server' }, random(1));
  const eth = { id: 1, name: 'eth0', isUp: true, addresses: [SERVER.address], role: 'always' as const, priority: 0 };
  const commands = () => {
    const all: string[] = [];
    for (let c = m.pollCommand(); c !== undefined; c = m.pollCommand()) all.push(c.type);
    return all;
  };
  const wifi = { address: parseIp('192.0.2.10'), port: 40_000 };
  const lte = { address: parseIp('203.0.113.20'), port: 40_000 };
  m.handle(0, { type: 'link-added', link: eth });
  m.handle(0, { type: 'peer-joined', linkId: 1, localAddress: SERVER.address, remote: wifi });
  m.handle(0, { type: 'peer-joined', linkId: 1, localAddress: SERVER.address, remote: lte });
  m.handle(0, { type: 'peer-joined', linkId: 1, localAddress: SERVER.address, remote: { ...lte, port: 50_000 } });
  t.is(m.paths(0).length, 2, 'the ports of further connections make no further paths');
  t.deepEqual(commands(), []);
  const id = m.pathIdOf(1, SERVER.address, lte)!;
  m.handle(1, { type: 'peer-wish', pathId: id, wish: { what: 'role', role: 'backup' } });
  t.deepEqual(commands(), ['set-backup']);
  m.handle(2, { type: 'peer-wish', pathId: id, wish: { what: 'role', role: 'always' } });
  t.deepEqual(commands(), ['set-backup']);
  m.handle(3, { type: 'link-changed', linkId: 1, isUp: false });
  m.handle(4 * S, { type: 'link-changed', linkId: 1, isUp: true });
  m.onTimer(60 * S);
  t.false(commands().includes('close'), 'it is for the client to give a subflow up');
  m.handle(61 * S, { type: 'subflow-closed', pathId: id, why: 'reset' });
  t.is(m.paths(61 * S).length, 1);
});

test('flapping ten times a minute for an hour: all in use at the end, nothing accumulates', (t) => {
  const rig = twoLinks();
  let most = 0;
  for (let i = 0; i < 600; i++) {
    if (i % 3 === 0) rig.setUp(1, false).setAddresses(1);
    else rig.setUp(1, false);
    rig.run(2.7 * S);
    // A lease on another address now and then.
    rig
      .setUp(1, true)
      .setAddresses(1, `192.0.2.${10 + (i % 5)}`)
      .run(3.3 * S);
    most = Math.max(most, rig.paths().length);
    if (rig.log.length > 100) rig.takeLog();
  }
  rig.run(2 * S);
  t.is(rig.problem, null);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
  t.true(most <= 3, `${most} paths at most`);
  t.is(rig.subflows.size, 2);
});

test('carrier, address, route or signal: what waits on the link is tried at once', (t) => {
  const events: { name: string; event: (rig: Rig) => void }[] = [
    { name: 'carrier', event: (rig) => rig.setUp(2, false).setUp(2, true) },
    { name: 'address', event: (rig) => rig.setAddresses(2, '203.0.113.20', '203.0.113.21') },
    { name: 'route', event: (rig) => rig.event({ type: 'link-news', linkId: 2 }) },
    { name: 'signal', event: (rig) => rig.event({ type: 'link-fading', linkId: 2, isFading: false }) },
    { name: 'packet', event: (rig) => rig.event({ type: 'packet-received', linkId: 2 }) },
  ];
  for (const { name, event } of events) {
    const rig = new Rig()
      .addLink(1, 'wifi', ['192.0.2.10'])
      .addLink(2, 'lte', ['203.0.113.20'], { priority: 1 })
      .setBehaviour(2, 'silent')
      .remotes(SERVER)
      .run(300 * S);
    while (rig.path('lte').state !== 'probing') rig.run(1 * S);
    t.true(rig.manager.awaits(2), name);
    t.false(rig.manager.awaits(1));
    t.true(rig.path('lte').retryInUs! > 10 * S, `${name}: ${rig.path('lte').retryInUs}`);
    rig.setBehaviour(2, 'works').takeLog();
    event(rig);
    t.true(rig.takeLog().includes('join lte'), name);
    rig.run(0.1 * S);
    t.is(rig.path('lte').state, 'active', name);
    t.false(rig.manager.awaits(2), name);
  }
});

test('news of a link whose subflow is silent: the engine is to probe it at once', (t) => {
  const rig = new Rig()
    .addLink(1, 'wifi', ['192.0.2.10'])
    .remotes(SERVER)
    .run(20 * S);
  rig
    .setBehaviour(1, 'silent')
    .run(60 * S)
    .takeLog();
  rig.event({ type: 'link-news', linkId: 1 });
  t.deepEqual(rig.takeLog(), ['link-state wifi up']);
});

test('never in handover mode: the warm path is taken into use, both carry for a moment, then the old one drains and closes', (t) => {
  const rig = twoLinks({ mode: 'handover' }).run(5 * S);
  rig.takeLog();
  rig.event({ type: 'link-policy', linkId: 1, policy: { role: 'never' } });
  t.deepEqual(rig.takeLog(), ['set-backup lte false', 'tell-peer lte role always']);
  t.deepEqual(rig.states(), { wifi: 'active', lte: 'active' });
  rig.run(0.21 * S);
  t.deepEqual(rig.takeLog(), ['set-backup wifi true', 'tell-peer wifi role backup', 'tell-peer wifi going']);
  t.deepEqual(rig.states(), { wifi: 'draining', lte: 'active' });
  rig.run(1 * S);
  t.deepEqual(rig.takeLog(), ['close wifi fin']);
  t.deepEqual(rig.states(), { wifi: 'down', lte: 'active' });
});

test('the only path is silent: what may take its place is opened beside it at once, and then one of them goes', (t) => {
  const second = { ...SERVER, address: parseIp('198.51.100.2') };
  const rig = new Rig({ maxSubflows: 1 }).addLink(1, 'wifi', ['192.0.2.10']).remotes(SERVER, second);
  rig.run(2 * S);
  rig.takeLog();
  const [first, other] = rig.manager.paths(rig.nowUs);
  t.is(first!.state, 'active');
  t.not(other!.state, 'active', 'one subflow only');
  rig.event({ type: 'subflow-stalled', pathId: first!.id });
  rig.run(200_000);
  const after = rig.manager.paths(rig.nowUs);
  t.is(after.find((p) => p.id === other!.id)!.state, 'active');
  rig.run(10 * S);
  t.is(rig.manager.paths(rig.nowUs).filter((p) => p.state === 'active' || p.state === 'warm').length, 1);
  t.is(rig.problem, null);
});
