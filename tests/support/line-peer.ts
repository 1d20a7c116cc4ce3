/**
 * The simplest sockets application: stdin into a connection, the connection to stdout. Under `mptcpize run` the kernel
 * makes it Multipath TCP.
 *   node line-peer.js listen PORT      node line-peer.js connect HOST PORT      node line-peer.js echo PORT
 * "ready" on stderr says that it listens; `echo` serves every connection, with its own bytes, until stdin ends.
 */
import { connect, createServer, type Socket } from 'node:net';

const [verb, ...rest] = process.argv.slice(2);

function talk(socket: Socket): void {
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  socket.on('error', (error) => process.stderr.write(`${error.message}\n`));
  socket.on('close', () => process.stdin.destroy());
}

if (verb === 'connect') talk(connect({ host: rest[0]!, port: Number(rest[1]), allowHalfOpen: true }));
else {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    if (verb === 'listen') {
      // Open to the end: the kernel takes joins only where somebody listens.
      socket.on('close', () => server.close());
      talk(socket);
    } else {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    }
  });
  server.listen(Number(rest[0]), '::', () => process.stderr.write('ready\n'));
  if (verb === 'echo') process.stdin.resume().on('end', () => process.exit());
}
