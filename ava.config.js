export default {
  files: ['dist/tests/**/*.test.js'],
  environmentVariables: { NODE_NO_WARNINGS: '1' },
  timeout: '5m',
};
