/** `mptun events`: what has happened, and with -f what happens next. */
import { Command } from 'commander';

import type { EventRecord } from '../control/protocol.js';
import { type Style, styleFor } from './format.js';
import { controlClient, type TargetOptions, withTarget } from './socket.js';

interface EventsOptions extends TargetOptions {
  readonly follow?: boolean;
  readonly json?: boolean;
}

export function eventsCommand(): Command {
  return withTarget(new Command('events'))
    .description('show events: state changes, handovers with their receipts, sessions')
    .option('-f, --follow', 'go on with new ones until Ctrl-C or the end of the daemon')
    .option('--json', 'one JSON object a line (schema mptun.event/1)')
    .addHelpText('after', '\nExample:\n  mptun events -f')
    .action(async (name: string | undefined, options: EventsOptions) => {
      const client = controlClient(name, options);
      const style = styleFor(process.stdout);
      for await (const event of client.events(`/v1/events?follow=${options.follow ? 1 : 0}`)) {
        process.stdout.write(`${options.json ? JSON.stringify(event) : eventLine(event, style)}\n`);
      }
    });
}

export function eventLine(event: EventRecord, style: Style): string {
  const colour = event.level === 'error' ? style.bad : event.level === 'warn' ? style.warn : (text: string) => text;
  const about = [event.session, event.path].filter((part) => part !== null).join(' ');
  const data = Object.entries(event.data).map(
    ([key, value]) => `${key}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
  );
  const time = event.time.slice(0, 23).replace('T', ' ');
  return [style.dim(time), event.type.padEnd(14), about, colour(event.message), style.dim(data.join(' '))]
    .filter((part) => part !== '')
    .join('  ');
}
