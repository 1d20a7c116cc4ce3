/**
 * What real daemons say at their most talkative holds no key and no secret: everything that they log, answer on the control
 * socket and export is searched for the keys of their files, and for what the wire shows of their connections' (MP_CAPABLE and
 * MP_JOIN, RFC 8684 3.1 and 3.2).
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import test from 'ava';
import { MPTCP_KIND } from '../../src/core/wire/mptcp-options.js';
import { createLab, DEFAULT_LINKS, download, SITE, startTunnel, type TunnelEnd } from '../../src/lab/index.js';
import { temporaryDirectory } from '../support/files.js';
import { readPcap } from '../support/pcap.js';

const ANSWERS = ['/v1/status', '/v1/paths', '/v1/flows', '/v1/history', '/metrics'];
const TCP = 6;
const CAPABLE = 0;
const JOIN = 1;

test('nothing that the daemons log, answer or export at level trace holds a key', async (t) => {
  const capture = join(temporaryDirectory(t), 'wlan0.pcap');
  const lab = await createLab({ links: DEFAULT_LINKS, prefix: 'mtx-secrets-' });
  const log = { log: { level: 'trace', format: 'json' } };
  try {
    const argv = ['tcpdump', '-i', 'wlan0', '-U', '-s', '128', '-Z', 'root', '-w', capture, 'tcp'];
    const tcpdump = lab.spawn('client', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    await once(tcpdump.stderr!, 'data'); // it listens
    const tunnel = await startTunnel(lab, { startTimeoutMs: 30_000, client: log, server: log });
    const said: string[] = [];
    const secrets: Buffer[] = [];
    try {
      t.true((await download(lab, { address: SITE.v4, bytes: 1_000_000 })).isIntact);
      for (const end of [tunnel.client, tunnel.server]) {
        for (const path of ANSWERS) said.push(await answer(end, path));
        said.push(readFileSync(end.logFile, 'utf8'));
        secrets.push(...secretsOfFile(readFileSync(keyFileOf(end), 'utf8')));
      }
    } finally {
      await tunnel.dispose();
      tcpdump.kill('SIGTERM');
      await once(tcpdump, 'exit');
    }
    const fromFiles = secrets.length;
    for (const { ip } of readPcap(capture)) secrets.push(...secretsOf(ip));
    t.is(fromFiles, 2, 'both ends have a key file');
    t.true(secrets.length >= fromFiles + 4, 'both keys of a connection and the HMACs of a join were on the wire');
    const text = said.join('\n');
    t.true(text.includes('"level":20') || text.includes('"level":10'), 'the logs are at their most talkative');
    for (const secret of secrets) {
      for (const form of formsOf(secret)) t.false(text.includes(form), `${secret.length} bytes, as ${form}`);
    }
  } finally {
    await lab.dispose();
  }
});

function keyFileOf(end: TunnelEnd): string {
  const file = /^key_file: (\S+)$/m.exec(readFileSync(end.configFile, 'utf8'))![1]!;
  return file.startsWith('/') ? file : join(dirname(end.configFile), file);
}

/** The private part of a PEM file: the last 32 bytes of PKCS #8 of an Ed25519 key (RFC 8410 7). */
function secretsOfFile(pem: string): Buffer[] {
  return [Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64').subarray(-32)];
}

/** Keys of MP_CAPABLE and HMACs of MP_JOIN in a packet. */
function secretsOf(ip: Uint8Array): Buffer[] {
  const found: Buffer[] = [];
  const isIpv4 = ip[0]! >> 4 === 4;
  if (ip[isIpv4 ? 9 : 6] !== TCP) return found;
  const tcp = Buffer.from(ip).subarray(isIpv4 ? (ip[0]! & 15) * 4 : 40);
  const end = Math.min((tcp[12]! >> 4) * 4, tcp.length);
  for (let o = 20; o < end; ) {
    const kind = tcp[o]!;
    if (kind === 0) break;
    const bytes = kind === 1 ? 1 : tcp[o + 1]!;
    if (bytes === 0 || o + bytes > end) break;
    const subtype = tcp[o + 2]! >> 4;
    if (kind === MPTCP_KIND && subtype === CAPABLE) {
      if (bytes >= 12) found.push(tcp.subarray(o + 4, o + 12));
      if (bytes >= 20) found.push(tcp.subarray(o + 12, o + 20));
    } else if (kind === MPTCP_KIND && subtype === JOIN) {
      if (bytes === 16) found.push(tcp.subarray(o + 4, o + 12));
      if (bytes === 24) found.push(tcp.subarray(o + 4, o + 24));
    }
    o += bytes;
  }
  return found;
}

function formsOf(secret: Buffer): string[] {
  const base64 = secret.toString('base64').replace(/=+$/, '');
  return [
    secret.toString('hex'),
    secret.toString('hex').toUpperCase(),
    base64,
    base64.replaceAll('+', '-').replaceAll('/', '_'),
    [...secret].join(','),
    String(secret.readBigUInt64BE()),
  ];
}

function answer(end: TunnelEnd, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath: end.socket, path }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('end', () => resolve(text));
    })
      .on('error', reject)
      .end();
  });
}
