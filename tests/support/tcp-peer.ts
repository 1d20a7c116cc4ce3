/**
 * A plain sockets application to talk to: under `mptcpize run` the kernel makes it Multipath TCP.
 *   node tcp-peer.js listen PORT BYTES      node tcp-peer.js connect HOST PORT BYTES
 * Sends BYTES of byteStream('peer'), ends, reads to the end, prints {"received", "sha256"} and exits. "ready" on stderr
 * says that it listens.
 */
import { createHash } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { byteStream } from './byte-stream.js';

const [role, ...rest] = process.argv.slice(2);
const bytes = Number(rest.at(-1));

function serve(socket: Socket): void {
  const hash = createHash('sha256');
  let received = 0;
  socket.on('data', (chunk) => {
    hash.update(chunk);
    received += chunk.length;
  });
  socket.on('end', () => {
    process.stdout.write(`${JSON.stringify({ received, sha256: hash.digest('hex') })}\n`);
  });
  socket.on('error', (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  });
  Readable.from(byteStream('peer', bytes), { objectMode: false, highWaterMark: 1 << 20 }).pipe(socket);
}

if (role === 'listen') {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Open to the end: the kernel takes joins only where somebody listens.
    socket.on('close', () => server.close());
    serve(socket);
  });
  server.listen(Number(rest[0]), '::', () => process.stderr.write('ready\n'));
} else {
  serve(connect({ host: rest[0]!, port: Number(rest[1]), allowHalfOpen: true }));
}
