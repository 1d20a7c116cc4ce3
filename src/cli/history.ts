/** `mptun history`: the receipts of handovers. */
import { Command, Option } from 'commander';

import type { HandoverReceipt, HistoryDocument } from '../control/protocol.js';
import { parseCount } from './arguments.js';
import { formatBytes, formatTable, type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

const DEFAULT_COUNT = 20;

export function historyCommand(): Command {
  return withTarget(new Command('history'))
    .description('show the receipts of handovers: what moved, why, and what it cost')
    .addOption(new Option('-n, --count <n>', 'the newest n').argParser(parseCount).default(DEFAULT_COUNT))
    .option('--json', 'the document as the daemon gives it (schema mptun.history/1)')
    .addHelpText('after', '\nExample:\n  mptun history -n 5\n  mptun history --json | jq .receipts[].gap_s')
    .action(async (name: string | undefined, options: TargetOptions & { count: number; json?: boolean }) => {
      const document = await controlClient(name, options).get<HistoryDocument>(`/v1/history?n=${options.count}`);
      if (options.json) process.stdout.write(`${JSON.stringify(document)}\n`);
      else process.stdout.write(`${historyLines(document.receipts, styleFor(process.stdout)).join('\n')}\n`);
    });
}

export function historyLines(receipts: readonly HandoverReceipt[], style: Style): string[] {
  if (receipts.length === 0) return ['no handover yet'];
  const head = ['TIME', 'FROM', 'TO', 'CAUSE', 'GAP', 'REINJECTED', 'DUPLICATED', 'CARRIED', 'LOST', ''];
  const rows = receipts.map((r) => [
    r.time.slice(0, 23).replace('T', ' '),
    r.from.join('+') || '-',
    r.to.join('+') || '-',
    r.cause,
    gapText(r.gap_s),
    formatBytes(r.reinjected_bytes),
    formatBytes(r.duplicated_bytes),
    `${r.connections_carried} (${r.flows_carried} flows)`,
    `${r.connections_lost}`,
    r.dark_s > 0 ? `${r.detail}; ${r.dark_s.toFixed(1)} s without any path` : r.detail,
  ]);
  return formatTable([head, ...rows], new Set([4, 5, 6, 7, 8])).map((line, i) => (i === 0 ? style.dim(line) : line));
}

function gapText(gapS: number | null): string {
  if (gapS === null) return '-';
  return gapS === 0 ? '< 5 ms' : `${Math.round(gapS * 1000)} ms`;
}
