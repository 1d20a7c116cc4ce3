/** Backup subflows and MP_PRIO (RFC 8684 3.3.8). */
import test from 'ava';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { MPTCP_KIND, writePrio } from '../../../src/core/wire/mptcp-options.js';
import type { Heading, Middlebox, MiddleboxOut } from '../../../src/sim/middlebox.js';
import type { SimPacket } from '../../../src/sim/packet.js';
import { MptcpScript, type ScriptPath, type Sent } from '../../support/mptcp-script.js';
import { connected, S } from '../../support/two-hosts.js';

const pathsOf = (sent: readonly Sent[]) => [...new Set(sent.filter((x) => x.len > 0).map((x) => x.path))];

function prio(path: ScriptPath, backup: boolean): void {
  path.exchange({ options: (out, o) => writePrio(out, o, backup) });
}

/** Loses the first so many segments with MP_PRIO, and notes when each came. */
class PriorityLoser implements Middlebox {
  readonly name = 'priority-loser';
  readonly saidUs: number[] = [];
  asked = 0;

  constructor(private readonly losses: number) {}

  process(nowUs: number, heading: Heading, packet: SimPacket, out: MiddleboxOut): void {
    if (packet.findOption(MPTCP_KIND, SUBTYPE_PRIO) >= 0) {
      this.saidUs.push(nowUs);
      if (this.saidUs.length <= this.losses) {
        out.drop(packet, this.name);
        return;
      }
    } else if (heading === 'right' && this.saidUs.length > 0) this.asked++;
    out.forward(packet, heading);
  }
}

const SUBTYPE_PRIO = 5;

/** More than one subflow's first window, so that all that may be used are. */
const PLENTY = 40_000;

test('a subflow that the peer joined as a backup gets no data while another works', (t) => {
  for (const byPeer of [true, false]) {
    const s = MptcpScript.joined(1);
    s.join(1, { byPeer, backup: true });
    t.deepEqual(pathsOf(s.write(PLENTY)), [0], 'the regular one is full, and still the backup is not used');
  }
});

test('MP_PRIO makes the subflow that it arrives on a backup, and no other', (t) => {
  const s = MptcpScript.joined(2);
  prio(s.p0, true);
  t.deepEqual([s.p0.sf.isRemoteBackup, s.p1.sf.isRemoteBackup], [true, false]);
  t.deepEqual(pathsOf(s.write(PLENTY)), [1]);
  t.is(s.events('priority').length, 1);
  t.is(s.counter('MPTcpExtMPPrioRx'), 1);
});

test('MP_PRIO counts for the direction towards its sender only', (t) => {
  const s = MptcpScript.joined(2);
  prio(s.p0, true);
  t.false(s.p0.sf.isBackupWanted, 'nothing is said to the peer in return');
  const r = MptcpScript.joined(2);
  r.c.setBackup(r.nowUs, r.p0.sf.id, true);
  const sent = r.out();
  t.deepEqual(
    sent.map((x) => [x.path, x.prioBackup]),
    [[0, true]],
  );
  t.true(pathsOf(r.write(PLENTY)).includes(0), 'we go on sending there');
});

test('MP_PRIO takes a backup back into use', (t) => {
  const s = MptcpScript.joined(2);
  prio(s.p1, true);
  prio(s.p1, false);
  t.deepEqual(pathsOf(s.write(PLENTY)).sort(), [0, 1]);
});

test('MP_PRIO of version 0, with an address id, is no option of ours', (t) => {
  const s = MptcpScript.joined(2);
  s.p0.exchange({
    options: (out, o) => {
      out.set([MPTCP_KIND, 4, 0x51, 0], o);
      return o + 4;
    },
  });
  t.deepEqual([s.p0.sf.isRemoteBackup, s.p1.sf.isRemoteBackup], [false, false]);
  t.is(s.counter('MPTcpExtMPPrioRx'), 0);
});

test('no regular subflow works: the backup is used; one works again: back to it', (t) => {
  const s = MptcpScript.joined(2);
  prio(s.p1, true);
  s.write(1000);
  const sent = s.advance(1_000_000);
  t.deepEqual(pathsOf(sent.filter((x) => x.path === 1)), [1], 'what the silent one carries goes again there');
  s.p1.ack(1002);
  t.deepEqual(pathsOf(s.write(1000)), [1]);
  s.p1.ack(2002);
  s.p0.ack(2002);
  t.false(s.p0.sf.isStalled);
  t.deepEqual(pathsOf(s.write(1000)), [0]);
});

test('MP_PRIO that is lost is said again, until the peer has shown that an ACK with it arrived', (t) => {
  for (const losses of [0, 1, 3]) {
    const box = new PriorityLoser(losses);
    const { network, client, ours, theirs } = connected({}, [box]);
    ours.setBackup(S, 0, true);
    client.poke();
    network.run(10 * S);
    t.true(theirs.info().subflows[0]!.isBackupRemote, `${losses} lost`);
    t.is(box.saidUs.length, losses + 1, 'and then no more');
    t.true(box.asked > 0, 'an idle path is asked for the proof');
    t.true(box.saidUs.at(-1)! < S + [0, 150_000, 700_000, 700_000][losses]! + 20_000, String(box.saidUs));
  }
});

test('nobody hears MP_PRIO: it is not said for ever, but again when the path has recovered', (t) => {
  const box = new PriorityLoser(100);
  const { network, client, ours } = connected({}, [box]);
  ours.setBackup(S, 0, true);
  client.poke();
  network.run(60 * S);
  t.is(box.saidUs.length, 6);
});

test('after a fallback MP_PRIO is not said, and not asked about: nothing is sent', (t) => {
  for (const isSaid of [true, false]) {
    const box = new PriorityLoser(100);
    const { network, client, ours } = connected({}, [box]);
    ours.setBackup(S, 0, true);
    if (isSaid) client.poke();
    network.run(S + 1_000);
    (ours as Connection).fallback.fallBack(network.nowUs, 'test');
    client.poke();
    let sent = 0;
    network.tap = () => sent++;
    network.run(60 * S);
    t.is(box.saidUs.length, isSaid ? 1 : 0);
    t.is(sent, 0);
  }
});
