/** Backup subflows and MP_PRIO (RFC 8684 3.3.8). */
import test from 'ava';
import { MPTCP_KIND, writePrio } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript, type ScriptPath, type Sent } from '../../support/mptcp-script.js';

const pathsOf = (sent: readonly Sent[]) => [...new Set(sent.filter((x) => x.len > 0).map((x) => x.path))];

function prio(path: ScriptPath, backup: boolean): void {
  path.exchange({ options: (out, o) => writePrio(out, o, backup) });
}

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
