/**
 * Applications of the kernel through the TUN: their TCP ends here, and the flow goes straight to the destination.
 *
 *   app   a1 10.1.0.1 fd01::1 ── b1 10.1.0.2 fd01::2   destination: 198.51.100.9, 2001:db8::9
 *         a2 10.2.0.1 fd02::1 ── b2 10.2.0.2 fd02::2
 */
import test from 'ava';
import { FlowClient } from '../support/flow-client.js';
import { TestNamespace } from '../support/netns.js';
import { until } from '../support/until.js';

const app = new TestNamespace('app');
const far = new TestNamespace('far');
for (const i of [1, 2]) {
  app.veth(`a${i}`, far, `b${i}`);
  app.ip('addr', 'add', `10.${i}.0.1/24`, 'dev', `a${i}`);
  app.ip('addr', 'add', `fd0${i}::1/64`, 'dev', `a${i}`);
  far.ip('addr', 'add', `10.${i}.0.2/24`, 'dev', `b${i}`);
  far.ip('addr', 'add', `fd0${i}::2/64`, 'dev', `b${i}`);
  app.ip('route', 'add', '198.51.100.0/24', 'via', `10.${i}.0.2`, 'dev', `a${i}`, 'metric', `10${i}`);
}
far.ip('addr', 'add', '198.51.100.9/32', 'dev', 'lo');
const client = new FlowClient(app, ['a1', 'a2']);
test.after.always(() => {
  client.close();
  app.close();
  far.close();
});

test.serial('curl through the TUN, a plain server', async (t) => {
  const server = far.spawn('python3', '-m', 'http.server', '8000', '--bind', '198.51.100.9', '--directory', '/etc');
  await until(() => far.run('ss', '-Hltn').includes(':8000'), 'the server to listen');
  const curl = app.spawn('curl', '-sS', '--max-time', '5', 'http://198.51.100.9:8000/hosts');
  let body = '';
  let errors = '';
  curl.stdout!.on('data', (d) => (body += d));
  curl.stderr!.on('data', (d) => (errors += d));
  await until(() => curl.exitCode !== null, 'curl to end', 10_000);
  t.log(JSON.stringify(client.lane.terminator.counters), client.packetsLeft, client.lane.size);
  t.is(errors, '');
  t.true(body.includes('localhost'));
  server.kill();
});
