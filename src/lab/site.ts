/**
 * The web site of the lab: `node site.js` inside its namespace. Says "ready" when it listens; ends with its stdin. With a
 * port (`node site.js 8080`) a further one, of HTTP only.
 *
 *   GET  /random?seed=S&bytes=N   the first N bytes of the stream of seed S (without bytes: endless)
 *   PUT  /upload                  takes a body; answers {"bytes","sha256","arrivals"}
 *   GET  /small                   2 bytes, for request-response latency
 *   UDP  PROBE_PORT               see probe-protocol.ts
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { Arrivals, monotonicMs } from './arrivals.js';
import { openProbeResponders } from './probe-responder.js';
import { randomStream } from './random-stream.js';

const HTTP_PORT = 80;
const isFurther = process.argv[2] !== undefined;

function onRequest(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://site');
  if (url.pathname === '/random') sendRandom(url, response);
  else if (url.pathname === '/upload') takeUpload(request, response);
  else if (url.pathname === '/small') response.end('ok');
  else response.writeHead(404).end('not found\n');
}

function sendRandom(url: URL, response: ServerResponse): void {
  const seed = Number(url.searchParams.get('seed') ?? 1);
  const asked = url.searchParams.get('bytes');
  const bytes = asked === null ? Number.POSITIVE_INFINITY : Number(asked);
  if (asked !== null && !Number.isSafeInteger(bytes)) {
    response.writeHead(400).end('bytes: not a number\n');
    return;
  }
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    ...(asked !== null && { 'content-length': bytes }),
  });
  pipeline(randomStream(seed, bytes), response, () => {}); // a client that goes away early is normal here
}

function takeUpload(request: IncomingMessage, response: ServerResponse): void {
  const hash = createHash('sha256');
  const arrivals = new Arrivals();
  request.on('data', (chunk: Buffer) => {
    arrivals.record(monotonicMs(), chunk.length);
    hash.update(chunk);
  });
  request.on('end', () => {
    const answer = { bytes: arrivals.totalBytes, sha256: hash.digest('hex'), arrivals: arrivals.toJson() };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  });
  request.on('error', () => {}); // given up by the client: nobody waits for an answer
}

const server = createServer(onRequest);
server.requestTimeout = 0; // an upload may take as long as it takes
await Promise.all([
  isFurther ? undefined : openProbeResponders(),
  new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(isFurther ? Number(process.argv[2]) : HTTP_PORT, () => resolve());
  }),
]);
process.stdin.resume().on('end', () => process.exit(0));
process.on('SIGINT', () => {});
process.stdout.write('ready\n');
