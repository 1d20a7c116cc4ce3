/** Entry point; bin/mptun starts it. */
import { EXIT } from './exit.js';
import { runCli } from './program.js';

// A reader that has had enough (`mptun events | head`) is not an error.
process.stdout.on('error', (err: NodeJS.ErrnoException) => {
  if (err.code === 'EPIPE') process.exit(EXIT.ok);
  throw err;
});
process.exitCode = await runCli(process.argv.slice(2));
