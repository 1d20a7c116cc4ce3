import test from 'ava';
import { parseListen, parseTarget } from '../../../src/cli/cat.js';

test('a target is a name or an address with a port; IPv6 in brackets', (t) => {
  t.deepEqual(parseTarget('server.example:5000'), { host: 'server.example', port: 5000 });
  t.deepEqual(parseTarget('192.0.2.1:1'), { host: '192.0.2.1', port: 1 });
  t.deepEqual(parseTarget('[2001:db8::1]:65535'), { host: '2001:db8::1', port: 65535 });
  for (const bad of ['server', '2001:db8::1', 'server:', ':5000', 'server:0', 'server:65536', 'server:http']) {
    t.throws(() => parseTarget(bad), { code: 'commander.invalidArgument' }, bad);
  }
});

test('what to listen on is a port, or an address and a port', (t) => {
  t.deepEqual(parseListen('5000'), { address: null, port: 5000 });
  t.deepEqual(parseListen('192.0.2.1:80'), { address: '192.0.2.1', port: 80 });
  t.deepEqual(parseListen('[::1]:80'), { address: '::1', port: 80 });
  t.throws(() => parseListen('0'), { code: 'commander.invalidArgument' });
});
