/** The kernel connects to us while every SYN is answered with a cookie (RFC 4987 3.6): MPTCP, window scale and bytes are right. */
import test from 'ava';
import { streamHash } from '../support/byte-stream.js';
import { CatLab, transfer } from '../support/cat-lab.js';

const BYTES = 5_000_000;

for (const { family, isPeerMptcp } of [
  { family: 4, isPeerMptcp: true },
  { family: 6, isPeerMptcp: true },
  { family: 4, isPeerMptcp: false },
] as const) {
  test.serial(`IPv${family}, ${isPeerMptcp ? 'MPTCP' : 'plain TCP'} client of a server in a flood`, async (t) => {
    const lab = new CatLab('pc');
    try {
      const catArgs = ['--interface', 'a1', '--syn-cookies'];
      const result = await transfer(lab, { role: 'server', family, bytes: BYTES, catArgs, isPeerMptcp });
      t.deepEqual(result.atPeer, { received: BYTES, sha256: streamHash('ours', BYTES) });
      t.deepEqual(result.atUs, { received: BYTES, sha256: streamHash('peer', BYTES) });
      t.is(result.exitCode, 0, result.stderr);
      const { connection, counters } = result.report;
      t.is(connection.isMptcp, isPeerMptcp);
      t.like(counters, { TcpExtSyncookiesSent: 1, TcpExtSyncookiesRecv: 1 });
      t.false('TcpExtSyncookiesFailed' in counters);
      if (isPeerMptcp) t.like(lab.kernelCounters(), { MPTcpExtMPCapableSYNTX: 1, MPTcpExtMPCapableSYNACKRX: 1 });
    } finally {
      lab.close();
    }
  });
}
