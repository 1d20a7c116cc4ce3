/** Any sequence of events: what must hold always (the rig checks it), and that nothing is for ever. */
import test from 'ava';
import fc from 'fast-check';
import type { LinkRole, PathEvent, PeerWish } from '../../../src/core/pathman/types.js';
import { Rig, SERVER, SERVER6 } from './rig.js';

const S = 1_000_000;
const ADDRESSES = [['192.0.2.10', '2001:db8:1::10'], ['203.0.113.20'], ['198.18.0.30', '2001:db8:3::30']];
const ROLES: LinkRole[] = ['always', 'overflow', 'backup', 'never'];
const WISHES: PeerWish['what'][] = ['going', 'gone', 'returned', 'silent', 'role'];

type Action = (rig: Rig) => void;
/** What it is called in a counterexample, and what it does. */
type Step = [string, Action];

const link = fc.integer({ min: 1, max: 3 });
const action: fc.Arbitrary<Step> = fc.oneof(
  fc
    .tuple(link, fc.boolean())
    .map(([id, up]): [string, Action] => [`${id} ${up ? 'up' : 'down'}`, (r) => r.setUp(id, up)]),
  fc
    .tuple(link, fc.nat(3))
    .map(([id, n]): [string, Action] => [
      `${id} address set ${n}`,
      (r) => r.setAddresses(id, ...(n === 3 ? [] : n === 2 ? [`192.0.2.${100 + id}`] : ADDRESSES[id - 1]!.slice(n))),
    ]),
  fc
    .tuple(link, fc.constantFrom('works' as const, 'silent' as const, 'refuses' as const))
    .map(([id, b]): [string, Action] => [`${id} ${b}`, (r) => r.setBehaviour(id, b)]),
  fc
    .tuple(link, fc.constantFrom(...ROLES))
    .map(([id, role]): [string, Action] => [
      `${id} role ${role}`,
      (r) => r.event({ type: 'link-policy', linkId: id, policy: { role } }),
    ]),
  fc
    .tuple(link, fc.boolean())
    .map(([id, isFading]): [string, Action] => [
      `${id} fading ${isFading}`,
      (r) => r.event({ type: 'link-fading', linkId: id, isFading }),
    ]),
  link.map((id): [string, Action] => [`${id} packet`, (r) => r.event({ type: 'packet-received', linkId: id })]),
  fc.boolean().map((s): [string, Action] => [`saturated ${s}`, (r) => r.event({ type: 'saturation', isSaturated: s })]),
  fc
    .constantFrom([], [SERVER], [SERVER, SERVER6])
    .map((remotes): [string, Action] => [`${remotes.length} remotes`, (r) => r.remotes(...remotes)]),
  fc
    .tuple(fc.nat(5), fc.constantFrom(...WISHES), fc.constantFrom(...ROLES))
    .map(([n, what, role]): [string, Action] => [
      `peer ${n} ${what} ${role}`,
      (r) =>
        onPath(r, n, (pathId) => ({ type: 'peer-wish', pathId, wish: what === 'role' ? { what, role } : { what } })),
    ]),
  // Reports that come late or about nothing.
  fc
    .tuple(
      fc.nat(70),
      fc.constantFrom('join-started', 'join-established', 'subflow-stalled', 'subflow-recovered') as fc.Arbitrary<
        'join-started' | 'subflow-recovered'
      >,
    )
    .map(([pathId, type]): [string, Action] => [
      `stray ${type} ${pathId + 1000}`,
      (r) => r.event({ type, pathId: pathId + 1000 }),
    ]),
  fc.constant<[string, Action]>(['session lost', (r) => r.loseSession()]),
  fc.nat(40_000_000).map((us): [string, Action] => [`wait ${us}`, (r) => r.run(us)]),
  fc.nat(200_000).map((us): [string, Action] => [`wait ${us}`, (r) => r.run(us)]),
);

function onPath(rig: Rig, n: number, event: (pathId: number) => PathEvent): void {
  const paths = rig.paths();
  if (paths.length > 0) rig.event(event(paths[n % paths.length]!.id));
}

for (const mode of ['aggregate', 'handover'] as const) {
  test(`${mode}: whatever happened, once every link works all paths are in use again`, (t) => {
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 60 }),
        fc.nat(),
        fc.integer({ min: 1, max: 4 }),
        (actions, seed, max) => {
          const rig = new Rig({ mode, maxSubflows: max, maxPathsPerLink: 2 }, seed);
          for (let i = 0; i < 3; i++) rig.addLink(i + 1, `link${i + 1}`, ADDRESSES[i]!);
          rig.remotes(SERVER, SERVER6);
          for (const [, act] of actions) {
            act(rig);
            if (rig.problem !== null) throw new Error(rig.problem);
          }
          heal(rig);
          rig.run(800 * S); // the longest back-off of a refusal, with jitter
          if (rig.problem !== null) throw new Error(rig.problem);
          const states = rig.paths().map((p) => `${p.linkName} ${p.state} ${p.why}`);
          const active = rig.paths().filter((p) => p.state === 'active').length;
          const want = mode === 'handover' ? 1 : Math.min(max, 5);
          if (active !== want) throw new Error(`${active} active, not ${want}: ${states.join('; ')}`);
        },
      ),
      { numRuns: 400, seed: 42 },
    );
    t.pass();
  });
}

/** The world and the operator put everything right. */
function heal(rig: Rig): void {
  for (let i = 0; i < 3; i++) {
    rig
      .setBehaviour(i + 1, 'works')
      .setUp(i + 1, true)
      .setAddresses(i + 1, ...ADDRESSES[i]!);
    rig.event({ type: 'link-policy', linkId: i + 1, policy: { role: 'always' } });
    rig.event({ type: 'link-fading', linkId: i + 1, isFading: false });
  }
  rig.remotes(SERVER, SERVER6);
  for (const p of rig.paths()) {
    rig.event({ type: 'peer-wish', pathId: p.id, wish: { what: 'role', role: 'always' } });
    rig.event({ type: 'peer-wish', pathId: p.id, wish: { what: 'returned' } });
  }
}
