import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect, TLSSocket } from 'node:tls';
import test from 'ava';
import {
  certificateFor,
  generateKey,
  KeyError,
  loadKey,
  parseKey,
  parsePin,
  pinOf,
  pinOfSpki,
} from '../../../src/config/keys.js';
import { temporaryDirectory } from '../../support/files.js';

for (const type of ['p256', 'ed25519'] as const) {
  test(`${type}: mutual TLS 1.3 with certificates made from the keys, each end sees the other's pin`, async (t) => {
    const make = async () => {
      const key = parseKey(generateKey(type), 'test');
      return {
        pem: key.export({ format: 'pem', type: 'pkcs8' }).toString(),
        cert: await certificateFor(key),
        pin: pinOf(key),
      };
    };
    const [client, server] = [await make(), await make()];
    const [a, b] = pipePair();
    const serverSide = new TLSSocket(b, {
      isServer: true,
      key: server.pem,
      cert: server.cert,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
    });
    const clientSide = connect({
      socket: a,
      key: client.pem,
      cert: client.cert,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
    });
    const said = new Promise<string>((resolve) => serverSide.once('data', (data: Buffer) => resolve(data.toString())));
    clientSide.once('secureConnect', () => clientSide.write('hello'));
    t.is(await said, 'hello');
    t.is(clientSide.getProtocol(), 'TLSv1.3');
    t.is(pinOf(clientSide.getPeerX509Certificate()!.publicKey), server.pin);
    t.is(pinOf(serverSide.getPeerX509Certificate()!.publicKey), client.pin);
    clientSide.destroy();
    serverSide.destroy();
  });
}

test('the pin is SHA-256 of the SPKI in base64, as openssl works it out', (t) => {
  const pem = generateKey();
  const spki = execFileSync('openssl', ['pkey', '-pubout', '-outform', 'DER'], { input: pem });
  const digest = execFileSync('openssl', ['dgst', '-sha256', '-binary'], { input: spki });
  t.is(pinOf(parseKey(pem, 'test')), digest.toString('base64'));
  t.is(pinOfSpki(spki), digest.toString('base64'));
});

test('certificates do not run out', async (t) => {
  const certificate = new X509Certificate(await certificateFor(parseKey(generateKey(), 'test')));
  t.is(new Date(certificate.validTo).getUTCFullYear(), 9999);
  t.true(certificate.verify(certificate.publicKey));
});

test('pins are read with and without prefix; what cannot be 32 bytes is refused', (t) => {
  const pin = pinOf(parseKey(generateKey(), 'test'));
  t.is(parsePin(pin), pin);
  t.is(parsePin(`sha256/${pin}`), pin);
  for (const text of [
    '',
    'sha256/',
    pin.slice(1),
    `${pin}=`,
    `sha512/${pin}`,
    pin.replace('=', ''),
    `${'A'.repeat(42)}B=`,
  ]) {
    t.is(parsePin(text), null, text);
  }
});

test('a key file must be its owner’s alone', (t) => {
  const file = join(temporaryDirectory(t), 'a.key');
  writeFileSync(file, generateKey(), { mode: 0o600 });
  t.notThrows(() => loadKey(file));
  for (const mode of [0o640, 0o604, 0o620, 0o601]) {
    chmodSync(file, mode);
    const err = t.throws(() => loadKey(file), { instanceOf: KeyError });
    t.is(err!.hint, `run: chmod 600 ${file}`);
  }
  chmodSync(file, 0o400);
  t.notThrows(() => loadKey(file));
});

test('what is no key of ours is refused with a reason', (t) => {
  const dir = temporaryDirectory(t);
  t.regex(t.throws(() => loadKey(join(dir, 'none')), { instanceOf: KeyError })!.message, /does not exist/);
  t.regex(t.throws(() => loadKey(dir), { instanceOf: KeyError })!.message, /not a file/);
  t.regex(t.throws(() => parseKey('hello', 'x'), { instanceOf: KeyError })!.message, /does not hold a PEM private key/);
  const rsa = execFileSync('openssl', ['genrsa', '2048'], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
  t.regex(t.throws(() => parseKey(rsa, 'x'), { instanceOf: KeyError })!.message, /kind rsa/);
});

/** Two streams, each one's output the other's input. */
function pipePair(): [Duplex, Duplex] {
  class End extends Duplex {
    other!: End;
    override _read(): void {}
    override _write(chunk: Buffer, _encoding: string, done: () => void): void {
      this.other.push(chunk);
      done();
    }
    override _final(done: () => void): void {
      this.other.push(null);
      done();
    }
  }
  const [a, b] = [new End(), new End()];
  a.other = b;
  b.other = a;
  return [a, b];
}
