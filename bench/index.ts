/** `npm run bench`: the same as `mptun bench`, with the same options. */
import { runCli } from '../src/cli/program.js';

process.exitCode = await runCli(['bench', ...process.argv.slice(2)]);
