// Multipath TCP in one file, as root:   node docs/examples/hello.js listen 5000
// and on another machine:               node docs/examples/hello.js connect HOST 5000 wlan0 wwan0
import { MptcpHost } from 'mptun';

const [verb, ...words] = process.argv.slice(2);
const [host, port, ...interfaces] = verb === 'listen' ? ['', ...words] : words;
const mptcp = new MptcpHost({ interfaces });

if (verb === 'listen') {
  const listener = await mptcp.listen({ port: Number(port) });
  console.log(`listening on ${listener.port}`);
  serve(await listener.accept());
  listener.close();
} else serve(await mptcp.connect({ host, port: Number(port), timeoutMs: 10_000 }));

async function serve(connection) {
  connection.on('mptcp', ({ type }) => console.log(type));
  connection.on('error', ({ code }) => console.log(code));
  connection.once('close', () => mptcp.close());
  connection.write('hello\n');
  for await (const text of connection.setEncoding('utf8')) {
    console.log(text.trim());
    if (!text.endsWith('bye\n')) continue;
    for (const s of connection.subflows()) console.log(s.interface, s.remote.address.text, `${s.srttUs} us`);
    const { mptcpi_subflows_total, mptcpi_bytes_received } = connection.info();
    connection.end(`${mptcpi_subflows_total} subflows, ${mptcpi_bytes_received} bytes\n`);
  }
}
