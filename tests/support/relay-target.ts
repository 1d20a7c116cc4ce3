/**
 * Destinations to relay to, each on a port of its own, IPv4 and IPv6. Says "ready" when all listen.
 *   8080 HTTP: GET /N answers N bytes of byteStream('target'), PUT answers the count and SHA-256 of what came
 *   8081 resets the connection when something comes in      8082 reads to the end, then answers the count, and ends
 *   8083 accepts and never reads                            8084 says hello and half-closes, then counts to the end
 */
import { createHash } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { Readable } from 'node:stream';
import { byteStream } from './byte-stream.js';

const http = createHttpServer((request, response) => {
  if (request.method === 'GET') {
    const bytes = Number(request.url!.slice(1));
    response.setHeader('Content-Length', bytes);
    Readable.from(byteStream('target', bytes), { objectMode: false }).pipe(response);
    return;
  }
  const hash = createHash('sha256');
  let received = 0;
  request.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    received += chunk.length;
  });
  request.on('end', () => response.end(JSON.stringify({ received, sha256: hash.digest('hex') })));
});

const resetting = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.on('data', () => socket.resetAndDestroy());
});

const counting = (greeting: string | null) =>
  createServer({ allowHalfOpen: true }, (socket) => {
    let received = 0;
    if (greeting !== null) socket.end(greeting);
    socket.on('error', (error: NodeJS.ErrnoException) => process.stdout.write(`error ${error.code}\n`));
    socket.on('data', (chunk) => (received += chunk.length));
    socket.on('end', () => {
      process.stdout.write(`received ${received}\n`);
      if (greeting === null) socket.end(`${received}\n`);
    });
  });

const deaf = createServer((socket) => {
  socket.pause();
  socket.on('error', () => undefined);
});

const servers: readonly (readonly [number, Server])[] = [
  [8080, http],
  [8081, resetting],
  [8082, counting(null)],
  [8083, deaf],
  [8084, counting('hello')],
];
await Promise.all(
  servers.map(([port, server]) => new Promise<void>((ok) => server.listen({ port, host: '::', backlog: 4_096 }, ok))),
);
process.stdout.write('ready\n');
