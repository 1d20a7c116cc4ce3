/** `mptun flows`: the TCP connections of applications that have a way of their own, once or as a live view. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';

import type { FlowsDocument, TcpFlowStatus } from '../control/protocol.js';
import { parseCount, parseSeconds } from './arguments.js';
import { formatAge, formatBytes, formatRate, formatTable, type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

/** Lines of the live view, whatever the terminal. */
const TOP_FLOWS = 40;

interface FlowsOptions extends TargetOptions {
  readonly json?: boolean;
  readonly top?: boolean;
  readonly count?: number;
  readonly interval: number;
}

export function flowsCommand(): Command {
  return withTarget(new Command('flows'))
    .description(
      'list the TCP connections of applications: from where to where, which way, by which rule, over which paths',
    )
    .option('--top', 'watch them, the fastest first')
    .option('--json', 'the document as the daemon gives it (schema mptun.flows/1)')
    .addOption(new Option('-n, --count <n>', 'with --top: end after n intervals').argParser(parseCount))
    .addOption(new Option('--interval <seconds>', 'with --top: from 0.1 to 3600').argParser(parseSeconds).default(1))
    .addHelpText('after', '\nExample:\n  mptun flows --top\n  mptun flows --json | jq .tcp_flows[].destination')
    .action(async (name: string | undefined, options: FlowsOptions) => {
      const client = controlClient(name, options);
      const style = styleFor(process.stdout);
      const document = await client.get<FlowsDocument>('/v1/flows');
      if (options.json) process.stdout.write(`${JSON.stringify(document)}\n`);
      else if (options.top !== true) process.stdout.write(`${flowsLines(document, style).join('\n')}\n`);
      else await watch(() => client.get<FlowsDocument>('/v1/flows'), options, style);
    });
}

async function watch(get: () => Promise<FlowsDocument>, options: FlowsOptions, style: Style): Promise<void> {
  const isScreen = process.stdout.isTTY === true && process.env.TERM !== 'dumb';
  for (let shown = 0; shown < (options.count ?? Number.POSITIVE_INFINITY); shown++) {
    await sleep(options.interval * 1000);
    const document = await get();
    const tcp_flows = [...document.tcp_flows].sort((a, b) => rate(b) - rate(a)).slice(0, TOP_FLOWS);
    const lines = flowsLines({ ...document, tcp_flows }, style, document.tcp_flows.length);
    // Home, each line cleared to its end, and the rest of the screen: no flicker.
    if (isScreen) process.stdout.write(`\x1b[H${lines.map((l) => `${l}\x1b[K`).join('\n')}\n\x1b[J`);
    else process.stdout.write(`${lines.join('\n')}\n\n`);
  }
}

export function flowsLines(document: FlowsDocument, style: Style, total = document.tcp_flows.length): string[] {
  const head = ['APPLICATION', 'DESTINATION', 'WAY', 'MODE', 'PATHS', 'UP', 'DOWN', 'SENT', 'RECEIVED', 'AGE', 'RULE'];
  const rows = document.tcp_flows.map((f) => [
    f.app ?? f.session ?? f.origin,
    destination(f),
    f.state === 'open' ? f.way : `${f.way} (${f.state})`,
    f.mode === 'auto' ? `auto (${f.class})` : f.mode,
    pathsText(f),
    formatRate(f.tx_bps),
    formatRate(f.rx_bps),
    formatBytes(f.tx_bytes),
    formatBytes(f.rx_bytes),
    formatAge(f.age_s),
    f.rule,
  ]);
  const lanes = document.flows.length;
  const count = `${total} flow${total === 1 ? '' : 's'} of ${total === 1 ? 'its' : 'their'} own`;
  const rest = `${lanes} connection${lanes === 1 ? '' : 's'} of the packet lane`;
  const title = `${style.bold(count)}, beside ${rest}  ${document.time.slice(11, 19)}`;
  if (rows.length === 0) return [title];
  const table = formatTable([head, ...rows], new Set([5, 6, 7, 8, 9]));
  return [title, ...table.map((line, i) => (i === 0 ? style.dim(line) : line))];
}

/** `www.example.com:443 (192.0.2.80)`. */
function destination({ name, destination: address }: TcpFlowStatus): string {
  if (name === null || address.startsWith(`${name}:`)) return address;
  const at = address.lastIndexOf(':');
  return `${name}${address.slice(at)} (${address.slice(0, at)})`;
}

/** Names of the paths by what they carried; those that carry nothing now in brackets. */
function pathsText({ paths }: TcpFlowStatus): string {
  const total = paths.reduce((n, p) => n + p.tx_bytes + p.rx_bytes, 0);
  const texts = paths.map((p) => {
    const share = total === 0 ? '' : ` ${Math.round((100 * (p.tx_bytes + p.rx_bytes)) / total)} %`;
    return p.why === null ? `${p.path}${share}` : `[${p.path}${share}]`;
  });
  return texts.length === 0 ? '-' : texts.join(', ');
}

function rate(flow: TcpFlowStatus): number {
  return flow.tx_bps + flow.rx_bps;
}
