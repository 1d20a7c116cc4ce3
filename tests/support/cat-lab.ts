/**
 * Two namespaces on two links, ours and a kernel's, and one transfer between `mptun cat` and a sockets application:
 *
 *   ours   a1 10.1.0.1 fd01::1 ── b1 10.1.0.2 fd01::2   kernel
 *          a2 10.2.0.1 fd02::1 ── b2 10.2.0.2 fd02::2
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { byteStream } from './byte-stream.js';
import { TestNamespace } from './netns.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const PEER = fileURLToPath(new URL('./tcp-peer.js', import.meta.url));
const PORT = 5000;
const LIMIT_MS = 30_000;

export class CatLab {
  readonly ours: TestNamespace;
  readonly kernel: TestNamespace;

  constructor(label: string) {
    this.ours = new TestNamespace(`${label}-a`);
    this.kernel = new TestNamespace(`${label}-b`);
    for (const i of [1, 2]) {
      this.ours.veth(`a${i}`, this.kernel, `b${i}`);
      this.ours.ip('addr', 'add', `10.${i}.0.1/24`, 'dev', `a${i}`);
      this.ours.ip('addr', 'add', `fd0${i}::1/64`, 'dev', `a${i}`);
      this.kernel.ip('addr', 'add', `10.${i}.0.2/24`, 'dev', `b${i}`);
      this.kernel.ip('addr', 'add', `fd0${i}::2/64`, 'dev', `b${i}`);
    }
    this.kernel.ip('mptcp', 'limits', 'set', 'subflows', '4', 'add_addr_accepted', '4');
  }

  close(): void {
    this.ours.close();
    this.kernel.close();
  }

  /** The kernel's own counters that are not zero, by name. */
  kernelCounters(): Record<string, number> {
    const { kernel } = JSON.parse(this.kernel.run('nstat', '-az', '--json')) as { kernel: Record<string, number> };
    return Object.fromEntries(Object.entries(kernel).filter(([name, n]) => n > 0 && name.startsWith('MPTcpExt')));
  }
}

/** `local`: ours first, e.g. 10.1.0.1 or fd01::1; `remote` the kernel's. */
export interface Transfer {
  readonly role: 'client' | 'server';
  readonly family: 4 | 6;
  /** Bytes from us, and from the peer. */
  readonly bytes: number;
  readonly catArgs: readonly string[];
  /** "mptcpize run" before the application. */
  readonly isPeerMptcp: boolean;
}

export interface TransferResult {
  /** What each side got: byte count and SHA-256. */
  readonly atUs: { readonly received: number; readonly sha256: string };
  readonly atPeer: { readonly received: number; readonly sha256: string };
  readonly exitCode: number | null;
  /** The line of --json. */
  readonly report: CatReport;
  readonly stderr: string;
  readonly seconds: number;
}

export interface CatReport {
  readonly end: string;
  readonly counters: Readonly<Record<string, number>>;
  readonly connection: {
    readonly isMptcp: boolean;
    readonly checksums: boolean;
    readonly fallbackReason: string | null;
    readonly bytesReinjected: number;
    readonly subflows: readonly {
      readonly local: { readonly address: string };
      readonly remote: { readonly address: string };
      readonly bytesSent: number;
      readonly bytesReceived: number;
      readonly isBackupLocal: boolean;
      readonly isBackupRemote: boolean;
    }[];
  };
}

export async function transfer(lab: CatLab, t: Transfer): Promise<TransferResult> {
  const [ourAddress, theirAddress] = t.family === 4 ? ['10.1.0.1', '10.1.0.2'] : ['[fd01::1]', '[fd01::2]'];
  const wrapper = t.isPeerMptcp ? ['mptcpize', 'run'] : [];
  const startPeer = (...args: string[]) => lab.kernel.spawn(...wrapper, 'node', PEER, ...args, String(t.bytes));
  const startCat = (...args: string[]) => lab.ours.spawn('node', CLI, 'cat', '--json', ...args, ...t.catArgs);
  let cat: ChildProcess;
  let peer: ChildProcess;
  let stderr = '';
  const started = performance.now();
  if (t.role === 'client') {
    peer = startPeer('listen', String(PORT));
    await line(peer, 'ready');
    cat = startCat(`${theirAddress}:${PORT}`);
    cat.stderr!.on('data', (data) => (stderr += data));
  } else {
    cat = startCat('--listen', `${ourAddress}:${PORT}`);
    cat.stderr!.on('data', (data) => (stderr += data));
    await line(cat, 'listening');
    peer = startPeer('connect', ourAddress.replace(/[[\]]/g, ''), String(PORT));
  }
  const hash = createHash('sha256');
  let received = 0;
  cat.stdout!.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    received += chunk.length;
  });
  Readable.from(byteStream('ours', t.bytes), { objectMode: false, highWaterMark: 1 << 20 }).pipe(cat.stdin!);
  cat.stdin!.on('error', () => undefined);
  const said = collect(peer);
  // Asked to stop it still reports, which says where it hung.
  const timer = setTimeout(() => {
    cat.kill('SIGTERM');
    peer.kill('SIGTERM');
  }, LIMIT_MS);
  const [exitCode, answer] = await Promise.all([ended(cat), said]);
  clearTimeout(timer);
  const report = /^\{.*\}$/m.exec(stderr)?.[0];
  if (report === undefined || answer === '') throw new Error(`the transfer broke: ${stderr} / peer said "${answer}"`);
  return {
    atUs: { received, sha256: hash.digest('hex') },
    atPeer: JSON.parse(answer) as { received: number; sha256: string },
    exitCode,
    report: JSON.parse(report) as CatReport,
    stderr,
    seconds: (performance.now() - started) / 1000,
  };
}

/** Resolves when stderr has a line with `text`; rejects if the process ends first. */
function line(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = '';
    child.stderr!.on('data', (data) => {
      seen += data;
      if (seen.includes(text)) resolve();
    });
    child.once('exit', () => reject(new Error(`ended before "${text}": ${seen}`)));
  });
}

function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once('close', (code) => resolve(code)));
}

async function collect(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout!.on('data', (data) => (text += data));
  await ended(child);
  return text;
}
