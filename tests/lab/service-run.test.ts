/**
 * The service as it will run: not root, two capabilities, the sample configurations, a service manager that
 * listens. Two namespaces, one veth link.
 */
import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { TestNamespace } from '../support/netns.js';
import { ServiceProcess, serviceDirectory } from '../support/service.js';
import { until } from '../support/until.js';

interface Site {
  readonly client: TestNamespace;
  readonly server: TestNamespace;
  readonly directory: string;
}

/** A client with one link, and a server at the address that the sample configuration names. */
function createSite(t: ExecutionContext): Site {
  const directory = serviceDirectory(t);
  const client = new TestNamespace('client');
  const server = new TestNamespace('server');
  t.teardown(() => {
    client.close();
    server.close();
  });
  client.veth('eth0', server, 'wan0');
  client.ip('addr', 'add', '192.0.2.10/24', 'dev', 'eth0');
  server.ip('addr', 'add', '192.0.2.1/24', 'dev', 'wan0');
  return { client, server, directory };
}

/** What the namespace's kernel holds that a daemon could leave behind. */
function leftovers(namespace: TestNamespace): Record<string, string> {
  return {
    links: namespace.ip('-br', 'link').replace(/@.*|(UP|DOWN|LOWERLAYERDOWN).*/g, ''),
    rules: namespace.ip('rule') + namespace.ip('-6', 'rule'),
    routes: namespace.ip('route', 'show', 'table', 'all') + namespace.ip('-6', 'route', 'show', 'table', 'all'),
    ruleset: namespace.run('nft', 'list', 'ruleset'),
    forwarding: namespace.run('sysctl', '-n', 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'),
  };
}

function capabilities(pid: number): Record<string, string> {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Object.fromEntries(
    [...status.matchAll(/^(Uid|CapPrm|CapBnd|NoNewPrivs):\s*(\S+)/gm)].map((m) => [m[1]!, m[2]!]),
  );
}

test.serial('from a start without a link to a clean end, as the service that it will be', async (t) => {
  t.timeout(120_000);
  const { client, server, directory } = createSite(t);
  const before = { client: leftovers(client), server: leftovers(server) };
  client.ip('link', 'set', 'eth0', 'down');

  const serverProcess = new ServiceProcess(t, server, directory, 'server');
  const first = new ServiceProcess(t, client, directory, 'client');
  await first.status((s) => s.state === 'waiting', 'waits for a link');
  t.true(
    first.notifications().some((n) => n.startsWith('READY=1\n')),
    'ready although no link is up',
  );
  // CAP_NET_ADMIN (12) and CAP_NET_RAW (13).
  const limited = { Uid: '65534', CapPrm: '0000000000003000', CapBnd: '0000000000003000', NoNewPrivs: '1' };
  t.deepEqual(capabilities(first.pid), limited);
  t.deepEqual(capabilities(serverProcess.pid), limited);

  client.ip('link', 'set', 'eth0', 'up');
  const up = await first.status((s) => s.state === 'up' && s.tun.addresses.length > 0, 'comes up with its link');
  t.true(up.tun.addresses.some((a) => a.startsWith('10.77.0.2')));
  client.run('ping', '-c', '1', '-W', '5', '10.77.0.1');
  await serverProcess.status((s) => s.sessions[0]?.peer === 'laptop', 'knows its client by name');

  client.ip('link', 'set', 'eth0', 'down');
  await first.status((s) => s.paths.every((p) => p.state === 'down'), 'sees that every link is gone');
  client.ip('link', 'set', 'eth0', 'up');
  await first.status(
    (s) => s.state === 'up' && s.paths.some((p) => p.state === 'active' || p.state === 'warm'),
    'is back',
  );
  client.run('ping', '-c', '1', '-W', '10', '10.77.0.1');

  t.true((await first.control.post('/v1/reload')).ok);
  const told = first.notifications();
  const reloading = told.findIndex((n) => n.startsWith('RELOADING=1\nMONOTONIC_USEC='));
  t.true(reloading > 0 && told.slice(reloading).some((n) => n.startsWith('READY=1\n')), told.join(' | '));
  await until(() => first.notifications().includes('WATCHDOG=1'), 'the watchdog is fed');

  first.kill('SIGKILL');
  await first.exited;
  const second = new ServiceProcess(t, client, directory, 'client');
  await second.status((s) => s.state === 'up' && s.tun.addresses.length > 0, 'comes up after kill -9');
  client.run('ping', '-c', '1', '-W', '5', '10.77.0.1');

  for (const process of [second, serverProcess]) {
    process.kill('SIGTERM');
    t.is(await process.exited, 0, process.output);
    t.true(process.notifications().some((n) => n.startsWith('STOPPING=1')));
  }
  t.deepEqual(leftovers(client), before.client);
  t.deepEqual(leftovers(server), before.server);
});
