/** A client with two links and a server, in the simulator, with one connection between them. */
import { parseIp } from '../../src/core/base/ip.js';
import type { ConnectionApi } from '../../src/core/engine/api.js';
import type { EngineConfig } from '../../src/core/engine/config.js';
import { Engine } from '../../src/core/engine/engine.js';
import type { Middlebox } from '../../src/sim/middlebox.js';
import { Network } from '../../src/sim/network.js';

export const SERVER = parseIp('10.9.0.1');
export const LOCAL = [parseIp('10.0.1.1'), parseIp('10.0.2.1')] as const;
export const S = 1_000_000;

/** A client with two links to a server, boxes on the first, and one connection that has carried a byte each way. */
export function connected(
  config: Partial<EngineConfig> = {},
  middleboxes: readonly Middlebox[] = [],
  onClientWork?: () => void,
) {
  const network = new Network(7);
  const client = network.addHost({ name: 'client' }, (env) => new Engine(env, config, onClientWork));
  const server = network.addHost({ name: 'server' }, (env) => new Engine(env, config));
  server.addLink({ id: 0, name: 'eth0', mtuBytes: 1500, addresses: [SERVER], isUp: true });
  for (const [i, address] of LOCAL.entries()) {
    client.addLink({ id: i, name: `link${i}`, mtuBytes: 1500, addresses: [address], isUp: true });
    const delayUs = 5_000;
    network.connect({
      name: `link${i}`,
      left: client,
      leftLinkId: i,
      right: server,
      rightLinkId: 0,
      up: { delayUs },
      down: { delayUs },
      middleboxes: i === 0 ? [...middleboxes] : [],
      leftPortBytes: null,
    });
  }
  const accepted: ConnectionApi[] = [];
  server.engine.listen({
    port: 5000,
    onAccept: (c) => {
      accepted.push(c);
      c.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
    },
  });
  const ours = client.engine.connect(0, {
    linkId: 0,
    localAddress: LOCAL[0],
    localPort: 40_000,
    remote: { address: SERVER, port: 5000 },
  });
  ours.setReader({ onBytes: (_b, _o, n) => n, onEnd: () => {} });
  ours.write(0, Uint8Array.of(9));
  client.poke();
  network.run(S);
  return { network, client, server, ours, theirs: accepted[0]!, accepted };
}
