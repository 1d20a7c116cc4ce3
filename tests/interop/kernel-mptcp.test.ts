import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { streamHash } from '../support/byte-stream.js';
import { CatLab, type Transfer, type TransferResult, transfer } from '../support/cat-lab.js';

const BYTES = 50_000_000;
const FROM_US = streamHash('ours', BYTES);
const FROM_PEER = streamHash('peer', BYTES);

/** Kernel counters that must stay at zero: whatever they count, the connection was not what we meant. */
const TROUBLE =
  /Fallback|DSSNotMatching|DSSCorruption|DataCsumErr|InfiniteMap|MPFail|MPFastclose|JoinRejected|NoTokenFound|HMacFailure/;

async function run(
  t: ExecutionContext,
  lab: CatLab,
  what: Transfer,
): Promise<[TransferResult, Record<string, number>]> {
  const result = await transfer(lab, what);
  if (result.exitCode !== 0) t.log(result.stderr, lab.kernelCounters());
  t.deepEqual(result.atPeer, { received: BYTES, sha256: FROM_US }, 'what the peer got');
  t.deepEqual(result.atUs, { received: BYTES, sha256: FROM_PEER }, 'what we got');
  t.is(result.exitCode, 0, result.stderr);
  t.log(`${result.seconds.toFixed(1)} s`);
  return [result, lab.kernelCounters()];
}

function withLab(title: string, body: (t: ExecutionContext, lab: CatLab) => Promise<void>): void {
  test.serial(title, async (t) => {
    const lab = new CatLab('mp');
    try {
      await body(t, lab);
    } finally {
      lab.close();
    }
  });
}

for (const family of [4, 6] as const) {
  const second = family === 4 ? '10.2.0' : 'fd02:';
  const ours = family === 4 ? '10.2.0.1' : 'fd02::1';
  const theirs = family === 4 ? '10.2.0.2' : 'fd02::2';

  for (const role of ['client', 'server'] as const) {
    withLab(`IPv${family}, we are the ${role}, one subflow: 50 MB each way`, async (t, lab) => {
      const base = { role, family, bytes: BYTES, isPeerMptcp: true };
      const [result, kernel] = await run(t, lab, { ...base, catArgs: ['--interface', 'a1'] });
      t.true(result.report.connection.isMptcp);
      t.is(result.report.connection.subflows.length, 1);
      if (role === 'client') t.like(kernel, { MPTcpExtMPCapableSYNRX: 1, MPTcpExtMPCapableACKRX: 1 });
      else t.like(kernel, { MPTcpExtMPCapableSYNTX: 1, MPTcpExtMPCapableSYNACKRX: 1 });
      t.deepEqual(
        Object.keys(kernel).filter((name) => TROUBLE.test(name)),
        [],
      );
    });
  }

  withLab(`IPv${family}, we are the client, two subflows: we join where the kernel announced`, async (t, lab) => {
    lab.kernel.ip('mptcp', 'endpoint', 'add', theirs, 'dev', 'b2', 'signal');
    const catArgs = ['--interface', 'a1', '--interface', 'a2'];
    const [{ report }, kernel] = await run(t, lab, {
      role: 'client',
      family,
      bytes: BYTES,
      catArgs,
      isPeerMptcp: true,
    });
    t.like(kernel, {
      MPTcpExtMPCapableSYNRX: 1,
      MPTcpExtMPCapableACKRX: 1,
      MPTcpExtMPJoinSynRx: 1,
      MPTcpExtMPJoinAckRx: 1,
      MPTcpExtAddAddrTx: 1,
      MPTcpExtEchoAdd: 1,
    });
    t.like(report.counters, { MPTcpExtMPJoinSynTx: 1, MPTcpExtMPJoinSynAckRx: 1 });
    t.deepEqual(
      Object.keys(kernel).filter((name) => TROUBLE.test(name)),
      [],
    );
    const joined = report.connection.subflows.find((s) => s.local.address.startsWith(second))!;
    t.true(
      joined.bytesSent > 0 && joined.bytesReceived > 0,
      `both directions used the second link: ${JSON.stringify(joined)}`,
    );
  });

  withLab(`IPv${family}, we are the server, two subflows: the kernel joins where we announced`, async (t, lab) => {
    lab.kernel.ip('mptcp', 'endpoint', 'add', theirs, 'dev', 'b2', 'subflow');
    const catArgs = ['--interface', 'a1', '--interface', 'a2', '--announce', ours];
    const [{ report }, kernel] = await run(t, lab, {
      role: 'server',
      family,
      bytes: BYTES,
      catArgs: catArgs,
      isPeerMptcp: true,
    });
    t.like(kernel, { MPTcpExtMPCapableSYNTX: 1, MPTcpExtMPCapableSYNACKRX: 1, MPTcpExtAddAddr: 1 });
    t.true(kernel.MPTcpExtMPJoinSynAckRx! >= 1, JSON.stringify([kernel, report]));
    t.deepEqual(
      Object.keys(kernel).filter((name) => TROUBLE.test(name)),
      [],
    );
    const joined = report.connection.subflows.find((s) => s.local.address.startsWith(second))!;
    t.true(
      joined.bytesSent > 0 && joined.bytesReceived > 0,
      `both directions used the second link: ${JSON.stringify(joined)}`,
    );
  });
}

withLab('DSS checksums, asked for by us: every byte is covered, none is wrong', async (t, lab) => {
  const catArgs = ['--interface', 'a1', '--checksum'];
  const [{ report }, kernel] = await run(t, lab, {
    role: 'client',
    family: 4,
    bytes: BYTES,
    catArgs,
    isPeerMptcp: true,
  });
  t.true(report.connection.checksums);
  t.deepEqual(
    Object.keys(kernel).filter((name) => TROUBLE.test(name)),
    [],
  );
});

withLab('DSS checksums, asked for by the kernel', async (t, lab) => {
  lab.kernel.run('sysctl', '-qw', 'net.mptcp.checksum_enabled=1');
  const [{ report }] = await run(t, lab, {
    role: 'server',
    family: 6,
    bytes: BYTES,
    catArgs: ['--interface', 'a1'],
    isPeerMptcp: true,
  });
  t.true(report.connection.checksums);
});

withLab('a backup interface carries nothing while the other works', async (t, lab) => {
  lab.kernel.ip('mptcp', 'endpoint', 'add', '10.2.0.2', 'dev', 'b2', 'signal');
  const catArgs = ['--interface', 'a1', '--backup', 'a2'];
  const [{ report }] = await run(t, lab, { role: 'client', family: 4, bytes: BYTES, catArgs, isPeerMptcp: true });
  const backup = report.connection.subflows.find((s) => s.local.address === '10.2.0.1')!;
  t.true(backup.isBackupLocal);
  // On a machine so busy that a side is silent for an RTO, the other may go around it: but not with much.
  t.true(backup.bytesSent < BYTES / 4, `${backup.bytesSent} bytes of ours on the backup`);
  t.true(backup.bytesReceived < BYTES / 4, `${backup.bytesReceived} of theirs: did the kernel see the B flag?`);
});

for (const family of [4, 6] as const) {
  for (const role of ['client', 'server'] as const) {
    withLab(`IPv${family}, plain TCP peer, we are the ${role}: fallback, 50 MB each way`, async (t, lab) => {
      const base = { role, family, bytes: BYTES, isPeerMptcp: false };
      const [{ report }, kernel] = await run(t, lab, { ...base, catArgs: ['--interface', 'a1'] });
      t.false(report.connection.isMptcp);
      t.truthy(report.connection.fallbackReason);
      t.deepEqual(kernel, {}, 'the peer is no MPTCP application');
    });
  }
}

const rejecting = (how: string) => `table inet fw {
  chain input {
    type filter hook input priority 0
    iif lo accept
    meta l4proto tcp reject with ${how}
  }
}
`;

for (const how of ['tcp reset', 'icmpx admin-prohibited']) {
  for (const role of ['client', 'server'] as const) {
    withLab(
      `our host's firewall rejects everything (${how}), we are the ${role}: it works, and nothing is left`,
      async (t, lab) => {
        const rules = join(mkdtempSync(join(tmpdir(), 'mtn-')), 'rules.nft');
        writeFileSync(rules, rejecting(how));
        try {
          lab.ours.run('nft', '-f', rules);
        } finally {
          rmSync(dirname(rules), { recursive: true });
        }
        const before = lab.ours.run('nft', 'list', 'ruleset');
        const bytes = 2_000_000;
        const catArgs = ['--interface', 'a1'];
        const result = await transfer(lab, {
          role,
          family: role === 'client' ? 4 : 6,
          bytes,
          catArgs,
          isPeerMptcp: true,
        });
        t.is(result.exitCode, 0, result.stderr);
        t.deepEqual(result.atPeer, { received: bytes, sha256: streamHash('ours', bytes) });
        t.deepEqual(result.atUs, { received: bytes, sha256: streamHash('peer', bytes) });
        t.true(result.report.connection.isMptcp);
        t.is(lab.ours.run('nft', 'list', 'ruleset'), before);
      },
    );
  }
}
