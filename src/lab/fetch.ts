/** Stands in for curl on machines that have none: `node fetch.js get|put URL`, body on stdout or from stdin. */
import { request } from 'node:http';
import { pipeline } from 'node:stream';

const [verb, url] = process.argv.slice(2) as [string, string];
const call = request(url, { method: verb === 'put' ? 'PUT' : 'GET' }, (response) => {
  if (response.statusCode !== 200) fail(`HTTP status ${response.statusCode}`);
  pipeline(response, process.stdout, (error) => error && fail(error.message));
});
call.on('error', (error) => fail(error.message));
if (verb === 'put') pipeline(process.stdin, call, (error) => error && fail(error.message));
else call.end();

function fail(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}
