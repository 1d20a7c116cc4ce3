/**
 * A sockets application that stays: one stream each way per request, many requests in one process (which under
 * `mptcpize run` speaks MPTCP). Lines of JSON in: {"id", "host" | null, "port", "bytes"} connects, or listens for one
 * connection where host is null; {"id", "drop": true} gives up. Lines of JSON out: {"id", "ready"} when it listens, and
 * {"id", "received", "sha256", "hasEnded"} when the connection is over. It sends byteStream('kernel', bytes) and ends, with
 * "isPolite" only when the other side has; after its first "firstBytes" it waits until it has received more than as many.
 */
import { createHash } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { byteStream } from './byte-stream.js';

export interface PeerRequest {
  readonly id: number;
  readonly host: string | null;
  readonly port: number;
  readonly bytes: number;
  readonly isPolite: boolean;
  readonly firstBytes: number;
}

export interface PeerReport {
  readonly id: number;
  readonly received: number;
  readonly sha256: string;
  readonly hasEnded: boolean;
}

const open = new Map<number, () => void>();

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function serve(socket: Socket, { id, bytes, isPolite, firstBytes }: PeerRequest, server: Server | null): void {
  const hash = createHash('sha256');
  let received = 0;
  let hasEnded = false;
  let isAllSent = false;
  const stream = Buffer.concat([...byteStream('kernel', bytes)]);
  let sendRest = () => {
    sendRest = () => undefined;
    socket.write(stream.subarray(firstBytes), () => {
      isAllSent = true;
      if (!isPolite || hasEnded) socket.end();
    });
  };
  socket.on('data', (chunk) => {
    hash.update(chunk);
    received += chunk.length;
    if (received > firstBytes) sendRest();
  });
  socket.on('end', () => {
    hasEnded = true;
    if (isPolite && isAllSent) socket.end();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    // Open until now: the kernel takes joins only where somebody listens.
    server?.close();
    open.delete(id);
    say({ id, received, sha256: hash.digest('hex'), hasEnded } satisfies PeerReport);
  });
  open.set(id, () => socket.destroy());
  socket.write(stream.subarray(0, firstBytes));
  if (firstBytes >= bytes) sendRest();
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line) as PeerRequest & { drop?: boolean };
  const { id, host, port } = request;
  if (request.drop === true) {
    open.get(id)?.();
    return;
  }
  if (host !== null) {
    serve(connect({ host, port, allowHalfOpen: true }), request, null);
    return;
  }
  const server = createServer({ allowHalfOpen: true }, (socket) => serve(socket, request, server));
  open.set(id, () => server.close());
  server.listen(port, '::', () => say({ id, ready: true }));
});
