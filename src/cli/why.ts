/**
 * `mptun why`: which rule, which state, why chosen or not, and what the traffic of now goes over; `mptun why HOST:PORT`: what
 * would become of a connection there, and what becomes of those that are open.
 */
import { Command } from 'commander';

import type { WhyDocument, WhyFlowDocument, WhyFlows, WhyPath } from '../control/protocol.js';
import { CliError, EXIT } from './exit.js';
import { formatAge, formatBytes, formatPercent, type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, tunnelOptions } from './socket.js';

export function whyCommand(): Command {
  return tunnelOptions(new Command('why'))
    .argument(
      '[destination]',
      'HOST or HOST:PORT (port 443 if not given); without it: the paths and the traffic of now',
    )
    .description('explain for each path and the traffic of now, or for one destination: which rule, which way, why')
    .option('--json', 'the document as the daemon gives it (schema mptun.why/1, mptun.why-flow/1)')
    .addHelpText('after', '\nExample:\n  mptun why\n  mptun why www.example.com:443')
    .action(async (destination: string | undefined, options: TargetOptions & { json?: boolean }) => {
      const style = styleFor(process.stdout);
      const client = controlClient(options.tunnel, options);
      if (destination === undefined) {
        const document = await client.get<WhyDocument>('/v1/why');
        write(options.json ? [JSON.stringify(document)] : whyLines(document, style));
        return;
      }
      const { host, port } = parseDestination(destination);
      const query = new URLSearchParams({ host, port: String(port) });
      const document = await client.get<WhyFlowDocument>(`/v1/why?${query}`);
      write(options.json ? [JSON.stringify(document)] : whyFlowLines(document, style));
    });
}

function write(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** `HOST`, `HOST:PORT`, `ADDRESS`, `[ADDRESS]:PORT`. */
export function parseDestination(text: string): { host: string; port: number } {
  const m = /^(?:\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([^:[\]\s]+)(?::(\d{1,5}))?|([0-9A-Fa-f:.]+))$/.exec(text);
  const port = Number(m?.[2] ?? m?.[4] ?? 443);
  const host = m?.[1] ?? m?.[3] ?? m?.[5];
  if (host === undefined || port < 1 || port > 65_535)
    throw new CliError(`${text} is no destination: give HOST, HOST:PORT or [ADDRESS]:PORT`, EXIT.usage);
  return { host, port };
}

export function whyFlowLines(document: WhyFlowDocument, style: Style): string[] {
  const { host, port, address, names } = document;
  const where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const also = names.filter((n) => n !== host.toLowerCase());
  const lines = [
    `${style.bold(where)}  ${WAYS[document.way] ?? document.way}, mode ${document.mode}`,
    `  address  ${address ?? 'not known here; the far side resolves it'}`,
    ...(also.length === 0 ? [] : [`  names    ${also.join(', ')}`]),
    `  rule     ${document.rule}`,
    ...document.rules.filter((r) => r.failed !== null).map((r) => `  not      ${r.rule} (${r.failed})`),
  ];
  if (document.way !== 'bypass') {
    for (const path of document.paths) {
      const carries = path.carries ? style.good('carries') : style.warn('does not carry');
      lines.push(`  path     ${path.name}: ${path.state}, ${carries}: ${path.why}`);
    }
  }
  for (const flow of document.flows) {
    const paths = flow.paths.map((p) => (p.why === null ? p.path : `${p.path} (${p.why})`)).join(', ');
    const moved = `${formatBytes(flow.rx_bytes)} received, ${formatBytes(flow.tx_bytes)} sent`;
    lines.push(
      `  open     ${flow.way}, ${flow.mode}, since ${formatAge(flow.age_s)}: ${moved}, over ${paths || 'no path yet'}`,
    );
  }
  return lines;
}

const WAYS: Readonly<Record<string, string>> = {
  relay: 'relayed by the server, on a connection of its own',
  direct: 'straight to the destination',
  convert: 'through the converter',
  packet: 'as packets through the tunnel',
  bypass: 'outside the tunnel',
};

export function whyLines(document: WhyDocument, style: Style): string[] {
  const from = document.mode_from === 'operator' ? 'ordered by an operator' : 'as configured';
  const lines = [`mode ${style.bold(document.mode)} (${from}), scheduler ${document.scheduler}`];
  for (const path of document.paths) lines.push('', ...pathParagraph(path, style));
  for (const flows of document.flows) lines.push('', ...flowsParagraph(flows, style));
  return lines;
}

function pathParagraph(path: WhyPath, style: Style): string[] {
  const chosen = path.is_chosen ? style.good('carries data') : style.warn('carries no data');
  return [
    `${style.bold(path.name)}  ${path.state}, ${chosen}`,
    `  rule  ${path.rule}`,
    `  role  ${path.role} (${ROLE_FROM[path.role_from]})`,
    `  why   ${path.why}`,
  ];
}

const ROLE_FROM: Readonly<Record<WhyPath['role_from'], string>> = {
  configuration: 'as configured',
  operator: 'ordered by an operator',
  peer: 'the peer wishes so',
  signal: 'its signal is falling',
};

function flowsParagraph(flows: WhyFlows, style: Style): string[] {
  const about = flows.session === null ? '' : ` with ${flows.session}`;
  const moved = `${formatBytes(flows.rx_bytes)} received, ${formatBytes(flows.tx_bytes)} sent`;
  return [
    `${style.bold(flows.lane)}${about}  ${flows.kind}: ${moved}`,
    ...flows.shares.map(
      (s) => `  ${s.path}  ${formatPercent(s.rx_share)} of received, ${formatPercent(s.tx_share)} of sent  ${s.why}`,
    ),
  ];
}
