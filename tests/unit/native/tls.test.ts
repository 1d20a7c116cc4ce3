/** TLS between arrays: against itself in every cut, against Node's own, and against somebody between. */
import { createHash, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer as createNetServer, connect as netConnect } from 'node:net';
import { createServer, type Server, type TLSSocket, connect as tlsConnect } from 'node:tls';
import test from 'ava';
import { certificateFor } from '../../../src/config/keys.js';
import { TlsContext, TlsEnd } from '../../../src/native/index.js';
import { Prng } from '../../../src/sim/prng.js';

const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const certificatePem = await certificateFor(key);
const ALPN = 'http/1.1';

const context = (side: 'client' | 'server', alpn = ALPN, of: KeyObject = key, pem = certificatePem) =>
  new TlsContext({
    side,
    key: of.export({ format: 'der', type: 'pkcs8' }),
    certificate: new X509Certificate(pem).raw,
    alpn,
    sessionId: 'test',
    sessionS: 60,
  });

/** One end, and what it has told. */
class End {
  readonly tls: TlsEnd;
  readonly plain: Buffer[] = [];
  readonly told: string[] = [];
  readonly sessions: Buffer[] = [];
  cipher: Buffer[] = [];

  constructor(c: TlsContext, session: Uint8Array | null = null) {
    this.tls = new TlsEnd(
      c,
      {
        onSecure: () => void this.told.push('secure'),
        onPlain: (bytes) => void this.plain.push(bytes),
        onCipher: (bytes) => void this.cipher.push(bytes),
        onSession: (s) => void this.sessions.push(s),
        onEnd: () => void this.told.push('end'),
        onFailed: (error) => void this.told.push(error.message),
      },
      session,
    );
    this.tls.start();
  }

  write(bytes: Uint8Array): void {
    this.cipher.push(this.tls.encrypt(bytes));
  }

  get read(): Buffer {
    return Buffer.concat(this.plain);
  }
}

/** Carries what each says to the other, cut as `cut` says, until both are silent. */
function carry(a: End, b: End, cut: (left: number) => number = (left) => left): void {
  while (a.cipher.length + b.cipher.length > 0) {
    for (const [from, to] of [[a, b] as const, [b, a] as const]) {
      const bytes = Buffer.concat(from.cipher);
      from.cipher = [];
      for (let o = 0; o < bytes.length; ) {
        const n = Math.min(bytes.length - o, cut(bytes.length - o));
        // Lent, at an odd place, and gone afterwards.
        const lent = Buffer.alloc(n + 7, 0xee);
        bytes.copy(lent, 5, o, o + n);
        to.tls.decrypt(lent, 5, n);
        lent.fill(0);
        o += n;
      }
    }
  }
}

function pair(t: { teardown(fn: () => void): void }, server = context('server'), client = context('client')) {
  const ends = [new End(client), new End(server)] as const;
  t.teardown(() => {
    for (const { tls } of ends) tls.close();
  });
  return ends;
}

const noise = (bytes: number) => Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 7)) & 255));

test('handshake, bytes both ways and both ends, however the ciphertext is cut', (t) => {
  const random = new Prng(7);
  const cuts = [() => 1, () => 5, () => 1_400, () => 16_406, () => 65_000, () => 1 + random.below(40_000)];
  for (const [i, cut] of cuts.entries()) {
    const [client, server] = pair(t);
    carry(client, server, cut);
    t.deepEqual([client.told, server.told], [['secure'], ['secure']]);
    t.is(client.tls.alpn, ALPN);
    const sizes = i === 0 ? [1, 300] : [1, 16_384, 16_385, 70_000, 84, 300_000];
    for (const bytes of sizes) {
      client.write(noise(bytes));
      server.write(noise(bytes + 1));
    }
    carry(client, server, cut);
    t.true(server.read.equals(Buffer.concat(sizes.map(noise))));
    t.true(client.read.equals(Buffer.concat(sizes.map((bytes) => noise(bytes + 1)))));
    client.tls.end();
    carry(client, server, cut);
    t.deepEqual(server.told, ['secure', 'end']);
    const before = client.read.length;
    server.write(noise(1_000));
    carry(client, server, cut);
    t.is(client.read.length, before + 1_000, 'the other direction goes on');
  }
});

test('plaintext is the reader’s own: later calls do not change it', (t) => {
  const [client, server] = pair(t);
  carry(client, server);
  for (let i = 0; i < 20; i++) client.write(Buffer.alloc(100 + 3_000 * i, i));
  carry(client, server, () => 9_000);
  let at = 0;
  const all = server.read;
  for (let i = 0; i < 20; at += 100 + 3_000 * i, i++)
    t.true(all.subarray(at, at + 100 + 3_000 * i).every((b) => b === i));
});

test('what was changed on the way ends it, with the alert that RFC 8446 6.2 asks for', (t) => {
  const [client, server] = pair(t);
  carry(client, server);
  client.write(noise(40_000));
  const bytes = Buffer.concat(client.cipher);
  client.cipher = [];
  bytes[20_000]! ^= 1;
  server.tls.decrypt(bytes, 0, bytes.length);
  t.is(server.read.length, 16_384, 'the records before it were right');
  t.regex(server.told[1]!, /decryption failed or bad record mac/);
  carry(client, server);
  t.regex(client.told[1]!, /alert bad record mac/);
  server.tls.decrypt(bytes, 0, bytes.length);
  t.is(server.tls.encrypt(noise(10)).length, 0, 'and says no more');
  t.is(server.told.length, 2, 'told once');
});

test('noise is no handshake', (t) => {
  for (const bytes of [noise(3), noise(5), noise(500), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
    const server = new End(context('server'));
    server.tls.decrypt(bytes, 0, bytes.length);
    if (bytes.length >= 5) t.is(server.told.length, 1);
    t.false(server.tls.canEncrypt);
    t.throws(() => server.tls.exportKey('EXPORTER-test', 32));
    server.tls.close();
    server.tls.decrypt(bytes, 0, bytes.length);
    t.is(server.tls.peerKey(), null, 'closed, and asked all the same');
  }
});

test('the protocol is agreed (RFC 7301), or there is no connection', (t) => {
  const [client, server] = pair(t, context('server'), context('client', 'h2'));
  carry(client, server);
  t.regex(client.told[0]!, /no application protocol/);
  t.is(server.tls.canEncrypt, false);
});

test('each end knows the key that the other has proved, and both derive the same', (t) => {
  const other = generateKeyPairSync('ed25519').privateKey;
  return certificateFor(other).then((pem) => {
    const [client, server] = pair(t, context('server'), context('client', ALPN, other, pem));
    carry(client, server);
    const spki = new X509Certificate(pem).publicKey.export({ format: 'der', type: 'spki' });
    t.deepEqual(server.tls.peerKey(), spki);
    t.deepEqual(client.tls.exportKey('EXPORTER-test', 80), server.tls.exportKey('EXPORTER-test', 80));
    t.notDeepEqual(client.tls.exportKey('EXPORTER-test', 80), client.tls.exportKey('EXPORTER-other', 80));
  });
});

test('a session is resumed once with what it brought, by the server that gave it', (t) => {
  const server = context('server');
  const client = context('client');
  const first = [new End(client), new End(server)] as const;
  carry(...first);
  first[1].write(noise(1));
  carry(...first);
  t.true(first[0].sessions.length > 0);
  t.false(first[0].tls.isResumed);
  const second = [new End(client, first[0].sessions[0]), new End(server)] as const;
  carry(...second);
  t.true(second[0].tls.isResumed);
  t.true(second[1].tls.isResumed);
  t.deepEqual(second[1].tls.peerKey(), first[1].tls.peerKey());
  const elsewhere = [
    new End(client, first[0].sessions[1] ?? first[0].sessions[0]),
    new End(context('server')),
  ] as const;
  carry(...elsewhere);
  t.true(elsewhere[0].tls.canEncrypt);
  t.false(elsewhere[0].tls.isResumed);
  const nonsense = new End(client, noise(50));
  t.true(nonsense.cipher.length > 0, 'a session that is none is none');
  for (const { tls } of [...first, ...second, ...elsewhere, nonsense]) tls.close();
});

test('bad keys are told of when the context is made', (t) => {
  const der = key.export({ format: 'der', type: 'pkcs8' });
  const certificate = new X509Certificate(certificatePem).raw;
  const options = { side: 'client', alpn: ALPN, sessionId: 'test', sessionS: 60 } as const;
  t.throws(() => new TlsContext({ ...options, key: noise(40), certificate }));
  t.throws(() => new TlsContext({ ...options, key: der, certificate: noise(40) }));
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'der', type: 'pkcs8' });
  t.throws(() => new TlsContext({ ...options, key: other, certificate }), { message: /key values mismatch/ });
});

/** What comes over `socket`, for `end`; what `end` says, for `socket`. */
function attach(socket: import('node:net').Socket, end: End): void {
  const send = () => {
    for (const bytes of end.cipher.splice(0)) socket.write(bytes);
  };
  socket.on('data', (bytes) => {
    end.tls.decrypt(bytes, 0, bytes.length);
    send();
  });
  send();
}

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('with Node’s own TLS, as client and as server', async (t) => {
  const pem = { key: key.export({ format: 'pem', type: 'pkcs8' }).toString(), cert: certificatePem };
  const sent = noise(200_000);
  const theirs: Server = createServer({ ...pem, requestCert: true, rejectUnauthorized: false, ALPNProtocols: [ALPN] });
  theirs.on('secureConnection', (s: TLSSocket) => s.pipe(s));
  theirs.listen(0, '127.0.0.1');
  await once(theirs, 'listening');
  const client = new End(context('client'));
  const socket = netConnect((theirs.address() as AddressInfo).port, '127.0.0.1');
  attach(socket, client);
  while (!client.tls.canEncrypt) await once(socket, 'data');
  socket.write(client.tls.encrypt(sent));
  while (client.read.length < sent.length) await once(socket, 'data');
  t.is(hash(client.read), hash(sent));
  socket.destroy();
  theirs.close();

  const server = new End(context('server'));
  const ours = createNetServer((s) => attach(s, server)).listen(0, '127.0.0.1');
  await once(ours, 'listening');
  const port = (ours.address() as AddressInfo).port;
  const peer = tlsConnect({ port, host: '127.0.0.1', ...pem, rejectUnauthorized: false, ALPNProtocols: [ALPN] });
  await once(peer, 'secureConnect');
  peer.end(sent);
  while (!server.told.includes('end')) await new Promise((resolve) => setImmediate(resolve));
  t.is(hash(server.read), hash(sent));
  t.is(peer.alpnProtocol, ALPN);
  peer.destroy();
  ours.close();
});
