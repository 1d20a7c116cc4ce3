/** `mptun status`: the truth about the tunnel on one screen. */
import { Command, Option } from 'commander';

import type { BestLinkEstimate, PathOrder, PathStatus, StatusDocument } from '../control/protocol.js';
import { parseSeconds } from './arguments.js';
import { EXIT, type ExitCode } from './exit.js';
import {
  formatAge,
  formatBytes,
  formatPercent,
  formatRate,
  formatRtt,
  formatTable,
  type Style,
  styleFor,
} from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

interface StatusOptions extends TargetOptions {
  readonly json?: boolean;
  readonly check?: boolean;
  readonly watch?: true | number;
}

export function statusCommand(): Command {
  return withTarget(new Command('status'))
    .description('show the tunnel, its paths, and why a path is not in use')
    .option('--json', 'the document as the daemon gives it (schema mptun.status/1)')
    .option('--check', 'for monitoring: exit 0 when up, 7 degraded, 8 user action needed, 5 or 6 when not up')
    .addOption(new Option('--watch [seconds]', 'again and again, until Ctrl-C').argParser(parseSeconds))
    .addHelpText('after', '\nExample:\n  mptun status --watch\n  mptun status --json | jq .paths[].state')
    .action(async (name: string | undefined, options: StatusOptions) => {
      const client = controlClient(name, options);
      const style = styleFor(process.stdout);
      for (;;) {
        const status = await client.get<StatusDocument>('/v1/status');
        if (options.json) process.stdout.write(`${JSON.stringify(status)}\n`);
        else process.stdout.write(screen(status, style, options.watch !== undefined && process.stdout.isTTY));
        if (options.check) process.exitCode = checkResult(status);
        if (options.watch === undefined) return;
        const seconds = options.watch === true ? 1 : options.watch;
        await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      }
    });
}

/** What `--check` ends with. */
export function checkResult(status: StatusDocument): ExitCode {
  if (status.problems.some((p) => p.needs_user)) return EXIT.userActionNeeded;
  if (status.state === 'up') return EXIT.ok;
  if (status.state === 'degraded') return EXIT.degraded;
  if (status.problems.some((p) => p.kind === 'authentication')) return EXIT.authentication;
  if (status.problems.some((p) => p.kind === 'permission')) return EXIT.permission;
  return EXIT.unreachable;
}

function screen(status: StatusDocument, style: Style, isRedrawn: boolean): string {
  const lines = statusLines(status, style);
  // Home, each line cleared to its end, and the rest of the screen: no flicker.
  return isRedrawn ? `\x1b[H${lines.map((l) => `${l}\x1b[K`).join('\n')}\n\x1b[J` : `${lines.join('\n')}\n`;
}

export function statusLines(status: StatusDocument, style: Style): string[] {
  const isClient = status.mode === 'client';
  const now = Date.parse(status.time);
  const colour = status.state === 'up' ? style.good : status.state === 'degraded' ? style.warn : style.bad;
  const running = formatAge((now - Date.parse(status.started_at)) / 1000);
  const lines = [
    `${style.bold(status.name)}  ${colour(status.state)}${status.reason === null ? '' : ` (${status.reason})`}  ` +
      style.dim(`${status.mode}, running for ${running}, version ${status.version}, pid ${status.pid}`),
    `  ${isClient ? 'server ' : 'listens'}  ${status.endpoint}`,
    `  tun      ${status.tun.name}  ${status.tun.addresses.join('  ') || 'no address yet'}  mtu ${status.tun.mtu_bytes}`,
    `  traffic  ${totalsText(status.totals, isClient)}`,
    `  policy   ${status.traffic.mode}${status.traffic.mode_ordered ? ' (ordered)' : ''}, ${status.traffic.scheduler}, ${status.traffic.congestion}` +
      `${status.traffic.checksum ? ', checksums' : ''}`,
  ];
  lines.push(...estimateLines(status));
  for (const problem of status.problems) {
    lines.push(`  ${style.bad('problem')}  ${problem.message}${problem.remedy === null ? '' : `; ${problem.remedy}`}`);
  }
  if (!isClient) lines.push('', ...sessionLines(status, style));
  lines.push('', ...pathLines(status.paths, isClient, style));
  return lines;
}

/** Beside the best link alone: only where there is something to compare. */
function estimateLines({ estimate }: StatusDocument): string[] {
  const part = (way: string, e: BestLinkEstimate | null) =>
    e === null ? [] : [`${way} ${formatRate(e.best_bps)} (${e.best_path}), all together ${formatRate(e.all_bps)} now`];
  const parts = [...part('down', estimate.rx), ...part('up', estimate.tx)];
  return parts.length === 0 ? [] : [`  best link alone would give  ${parts.join('   ')}`];
}

function sessionLines(status: StatusDocument, style: Style): string[] {
  if (status.sessions.length === 0) return ['  no client is connected'];
  const now = Date.parse(status.time);
  const rows = status.sessions.map((s) => [
    s.peer,
    formatAge((now - Date.parse(s.since)) / 1000),
    s.addresses.join(' '),
    formatRate(s.rx_bps),
    formatRate(s.tx_bps),
    formatBytes(s.rx_bytes),
    formatBytes(s.tx_bytes),
    s.unsupported.length === 0 ? '' : `peer cannot: ${s.unsupported.join(', ')}`,
  ]);
  const head = ['CLIENT', 'SINCE', 'ADDRESSES', 'FROM', 'TO', 'RECEIVED', 'SENT', ''];
  return indentTable([head, ...rows], new Set([3, 4, 5, 6]), style);
}

/** The table of paths; `isClient` decides whether rx is "down" or "from". */
export function pathLines(paths: readonly PathStatus[], isClient: boolean, style: Style): string[] {
  if (paths.length === 0) return [isClient ? '  no link matches the configuration' : '  no paths'];
  const hasSessions = paths.some((p) => p.session !== null) && !isClient;
  const head = [
    'PATH',
    'STATE',
    'ROLE',
    'RTT',
    'LOSS',
    isClient ? 'DOWN' : 'FROM',
    isClient ? 'UP' : 'TO',
    'RECEIVED',
    'SENT',
    '',
  ];
  const rows = paths.map((p) => [
    hasSessions ? `${p.session ?? '-'} ${p.name}` : p.name,
    p.state,
    p.metered ? `${p.role}, metered` : p.role,
    formatRtt(p.rtt_s),
    formatPercent(p.loss_ratio),
    formatRate(p.rx_bps),
    formatRate(p.tx_bps),
    formatBytes(p.rx_bytes),
    formatBytes(p.tx_bytes),
    [p.reason ?? '', p.order === null ? '' : `(${orderText(p.order)})`].filter((part) => part !== '').join(' '),
  ]);
  return indentTable([head, ...rows], new Set([3, 4, 5, 6, 7, 8]), style);
}

/** `ordered down, at most 5.00 Mbit/s` */
function orderText({ role, limit_bps }: PathOrder): string {
  const said = [
    ...(role === null ? [] : [role === 'never' ? 'down' : role]),
    ...(limit_bps === null ? [] : [`at most ${formatRate(limit_bps)}`]),
  ];
  return `ordered ${said.join(', ')}`;
}

function indentTable(rows: readonly (readonly string[])[], right: ReadonlySet<number>, style: Style): string[] {
  return formatTable(rows, right).map((line, i) => `  ${i === 0 ? style.dim(line) : line}`);
}

function totalsText(t: StatusDocument['totals'], isClient: boolean): string {
  const [from, to] = isClient ? ['down', 'up'] : ['from clients', 'to clients'];
  return (
    `${from} ${formatRate(t.rx_bps)} (${formatBytes(t.rx_bytes)})   ` +
    `${to} ${formatRate(t.tx_bps)} (${formatBytes(t.tx_bytes)})`
  );
}
