import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { Apps } from '../../../src/daemon/flows/apps.js';
import { cgroupRoot, controlGroups, SocketOwners } from '../../../src/native/index.js';

const end = (address: string, port: number) => ({ address: parseIp(address), port });
const A = end('10.0.0.1', 1);
const B = end('10.0.0.2', 2);

test('control groups are walked once, and again for a new number, but not more than once a second', (t) => {
  const groups = new Map([[5, '/user.slice']]);
  let walks = 0;
  let id = 5;
  const apps = new Apps({
    owner: () => ({ uid: 1000, cgroupId: id }),
    groups: () => {
      walks++;
      return new Map(groups);
    },
  });
  t.deepEqual(apps.find(0, 'tcp', A, B), { uid: 1000, cgroup: '/user.slice' });
  t.deepEqual(apps.find(1, 'tcp', A, B), { uid: 1000, cgroup: '/user.slice' });
  t.is(walks, 1);
  id = 6;
  groups.set(6, '/user.slice/new');
  t.is(apps.find(2, 'tcp', A, B)?.cgroup, null);
  t.is(walks, 1);
  t.is(apps.find(1_000_001, 'tcp', A, B)?.cgroup, '/user.slice/new');
  t.is(walks, 2);
});

test('a socket that is not there belongs to nobody, and is counted', (t) => {
  const apps = new Apps({ owner: () => null, groups: () => new Map() });
  t.is(apps.find(0, 'tcp', A, B), null);
  t.is(apps.counters.unknown, 1);
});

for (const host of ['127.0.0.1', '::1']) {
  test(`the kernel says whose a connection over ${host} is`, async (t) => {
    const server = createServer().listen(0, host);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const socket = connect(port, host);
    await once(socket, 'connect');
    const owners = new SocketOwners();
    const own = end(host, socket.localPort!);
    const owner = owners.find('tcp', own, end(host, port));
    t.is(owner?.uid, process.getuid!());
    t.is(owners.find('tcp', own, end(host, port === 1 ? 2 : 1)), null);
    const root = cgroupRoot();
    if (root !== null && owner!.cgroupId !== null) t.true(controlGroups(root).has(owner!.cgroupId));
    owners.close();
    socket.destroy();
    server.close();
  });
}
