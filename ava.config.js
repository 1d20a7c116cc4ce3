import { setFlagsFromString } from 'node:v8';

// Files run on every core already: V8's compiler threads beside them win no time and compile what is not needed any more.
setFlagsFromString('--no-concurrent-recompilation');

export default {
  files: ['dist/tests/**/*.test.js'],
  environmentVariables: { NODE_NO_WARNINGS: '1' },
  timeout: '5m',
};
