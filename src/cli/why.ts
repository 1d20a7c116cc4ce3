/** `mptun why`: which rule, which state, why chosen or not; and what the traffic of now goes over. */
import { Command } from 'commander';

import type { WhyDocument, WhyFlows, WhyPath } from '../control/protocol.js';
import { formatBytes, formatPercent, type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

export function whyCommand(): Command {
  return withTarget(new Command('why'))
    .description('explain for each path and the traffic of now: which rule, which state, why chosen or not')
    .option('--json', 'the document as the daemon gives it (schema mptun.why/1)')
    .addHelpText('after', '\nExample:\n  mptun why')
    .action(async (name: string | undefined, options: TargetOptions & { json?: boolean }) => {
      const document = await controlClient(name, options).get<WhyDocument>('/v1/why');
      if (options.json) process.stdout.write(`${JSON.stringify(document)}\n`);
      else process.stdout.write(`${whyLines(document, styleFor(process.stdout)).join('\n')}\n`);
    });
}

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
