/**
 * Our stack at both ends, as two processes in two namespaces on two links, while the firewalls of both hosts reject every
 * TCP segment (DESIGN 3.2, the guard): what a laptop and a VPS really look like.
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { byteStream } from '../support/byte-stream.js';
import { CatLab, type CatReport } from '../support/cat-lab.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const BYTES = 10_000_000;
const LIMIT_MS = 30_000;

const lab = new CatLab('c2c');
test.after.always(() => lab.close());

const RULESETS = {
  'no ruleset': null,
  'tcp reset': 'reject with tcp reset',
  'icmpx admin-prohibited': 'reject with icmpx admin-prohibited',
};

interface End {
  readonly exitCode: number | null;
  readonly received: number;
  readonly sha256: string;
  readonly report: CatReport;
}

/** Feeds `bytes` of the named stream in, and resolves when the process has ended. */
async function finish(cat: ChildProcess, stderr: () => string, name: string): Promise<End> {
  const hash = createHash('sha256');
  let received = 0;
  cat.stdout!.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    received += chunk.length;
  });
  Readable.from(byteStream(name, BYTES), { objectMode: false, highWaterMark: 1 << 20 }).pipe(cat.stdin!);
  cat.stdin!.on('error', () => undefined);
  const timer = setTimeout(() => cat.kill('SIGTERM'), LIMIT_MS);
  const exitCode = await new Promise<number | null>((resolve) => cat.once('close', (code) => resolve(code)));
  clearTimeout(timer);
  const report = /^\{.*\}$/m.exec(stderr())?.[0];
  if (report === undefined) throw new Error(`${name} ended (${exitCode}) without a report: ${stderr()}`);
  return { exitCode, received, sha256: hash.digest('hex'), report: JSON.parse(report) as CatReport };
}

function start(where: 'ours' | 'kernel', args: readonly string[]): { cat: ChildProcess; stderr: () => string } {
  const cat = lab[where].spawn('node', CLI, 'cat', '--json', ...args);
  let text = '';
  cat.stderr!.on('data', (data) => (text += data));
  return { cat, stderr: () => text };
}

function listening({ cat, stderr }: { cat: ChildProcess; stderr: () => string }): Promise<void> {
  return new Promise((resolve, reject) => {
    cat.stderr!.on('data', () => stderr().includes('listening') && resolve());
    cat.once('exit', () => reject(new Error(stderr())));
  });
}

async function digest(name: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of byteStream(name, BYTES)) hash.update(chunk);
  return hash.digest('hex');
}

for (const [name, verdict] of Object.entries(RULESETS)) {
  for (const family of [4, 6] as const) {
    test.serial(`cat to cat over two links, IPv${family}, ${name} at both ends`, async (t) => {
      for (const ns of [lab.ours, lab.kernel]) {
        const table = `table inet fw {
          chain input {
            type filter hook input priority 0
            iif lo accept
            meta l4proto tcp counter ${verdict}
          }
        }`;
        ns.run('sh', '-c', `nft -f - <<'END'\nflush ruleset\n${verdict === null ? '' : table}\nEND`);
      }
      const [far, second] = family === 4 ? ['10.1.0.2', '10.2.0.2'] : ['[fd01::2]', 'fd02::2'];
      const server = start('kernel', ['--listen', `${far}:5000`, '--announce', second]);
      await listening(server);
      const client = start('ours', ['--interface', 'a1', '--interface', 'a2', `${far}:5000`]);
      const [ours, theirs] = await Promise.all([
        finish(client.cat, client.stderr, 'client'),
        finish(server.cat, server.stderr, 'server'),
      ]);
      t.deepEqual([ours.exitCode, theirs.exitCode], [0, 0]);
      t.is(ours.sha256, await digest('server'));
      t.is(theirs.sha256, await digest('client'));
      for (const { report } of [ours, theirs]) {
        t.true(report.connection.isMptcp);
        t.is(report.connection.fallbackReason, null);
        t.is(report.connection.subflows.length, 2, 'both links joined');
        t.is(report.counters.MPTcpExtMPRstRx ?? 0, 0);
      }
    });
  }
}
