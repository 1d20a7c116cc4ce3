/** Keys and secrets (RFC 8684 5): whatever log, trace and status draw from does not hold them. */
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import type { ExportedKeys } from '../../../src/core/engine/api.js';
import { Engine } from '../../../src/core/engine/engine.js';
import type { Connection } from '../../../src/core/mptcp/connection.js';
import { formatSegment } from '../../../src/core/wire/format.js';
import { MPO } from '../../../src/core/wire/mptcp-options.js';
import { Journal } from '../../../src/daemon/journal.js';
import { flowStatus } from '../../../src/daemon/status.js';
import { hex, nodeEnv } from '../../support/node-env.js';
import { exchange } from '../../support/raw-host.js';

test('keys and secrets are in no event, status, counter, journal line or trace of a connection’s whole life', (t) => {
  const secrets: Uint8Array[] = [];
  const env = {
    ...nodeEnv,
    randomBytes: (out: Uint8Array) => {
      nodeEnv.randomBytes(out);
      // 8 bytes: keys; 32: what ISNs and SYN cookies are made with. Nonces and offsets (4) are public.
      if (out.length >= 8) secrets.push(out);
    },
  };
  const [client, server] = [new Engine(env), new Engine(env)];
  const here = [parseIp('198.51.100.1'), parseIp('198.51.100.2')];
  client.addLink(0, { id: 0, name: 'wlan0', mtuBytes: 1500, addresses: here, isUp: true });
  server.addLink(0, { id: 0, name: 'eth0', mtuBytes: 1500, addresses: [parseIp('192.0.2.1')], isUp: true });
  server.listen({ port: 5000, onAccept: () => {} });
  const remote = { address: parseIp('192.0.2.1'), port: 5000 };
  const ours = client.connect(0, { linkId: 0, localAddress: here[0]!, localPort: 40_000, remote }) as Connection;
  ours.write(0, Uint8Array.of(1));

  const lines: string[] = [];
  const journal = new Journal(null, () => 0);
  journal.subscribe(0, (record) => lines.push(JSON.stringify(record)));
  let kinds = 0;
  const watch = () => {
    for (const { seg } of exchange(client, server, 0)) {
      kinds |= seg.mptcp.present;
      lines.push(formatSegment(seg));
    }
    for (const engine of [client, server]) {
      for (let e = engine.pollEvent(); e !== undefined; e = engine.pollEvent()) {
        journal.record('info', e.type, 'event', { data: { ...e } });
      }
      for (const c of engine.connections()) {
        lines.push(JSON.stringify(c.info()));
        lines.push(JSON.stringify(flowStatus({ session: 's', lane: 0, connection: c }, () => 'wlan0')));
      }
      lines.push(JSON.stringify(engine.counters()));
    }
  };
  watch();
  const exported: ExportedKeys = {
    local: new Uint8Array(32),
    remote: new Uint8Array(32),
    fastcloseLocal: new Uint8Array(8),
    fastcloseRemote: new Uint8Array(8),
  };
  for (const key of Object.values(exported)) env.randomBytes(key);
  const mirrored = {
    local: exported.remote,
    remote: exported.local,
    fastcloseLocal: exported.fastcloseRemote,
    fastcloseRemote: exported.fastcloseLocal,
  };
  ours.useExportedKeys(0, exported);
  server.connections()[0]!.useExportedKeys(0, mirrored);
  ours.join(0, { linkId: 0, localAddress: here[1]!, remote });
  server.connections()[0]!.announce(0, { address: parseIp('192.0.2.9') });
  watch();
  ours.abort(0);
  watch();

  t.is(
    kinds & (MPO.capable | MPO.join | MPO.addAddr | MPO.fastclose),
    MPO.capable | MPO.join | MPO.addAddr | MPO.fastclose,
  );
  t.true(secrets.length >= 10);
  const said = lines.join('\n').toLowerCase();
  for (const secret of secrets) {
    const forms = [
      hex(secret),
      [...secret].join(','),
      Buffer.from(secret).toString('base64').toLowerCase(),
      String(Buffer.from(secret).readBigUInt64BE()),
    ];
    for (const form of forms) t.false(said.includes(form));
    // The halves of a key, as numbers.
    const [hi, lo] = [Buffer.from(secret).readUInt32BE(0), Buffer.from(secret).readUInt32BE(4)];
    t.false(said.includes(String(hi)) && said.includes(String(lo)));
  }
});
