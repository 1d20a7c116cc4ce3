import test from 'ava';
import { warmUp } from '../../../src/daemon/warm-up.js';

test('the rehearsal carries its megabytes both ways: what it compiles is the path that traffic takes', (t) => {
  const [down, up] = warmUp();
  t.true(down >= 4_000_000, `${down}`);
  t.true(up >= 4_000_000, `${up}`);
});
