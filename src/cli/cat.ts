/**
 * `mptun cat`: netcat over our stack, the shortest way to see it talk to anything (a kernel's Multipath TCP, or plain
 * TCP, after a fallback). Data goes to stdout, everything else to stderr.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { CONGESTION_NAMES, SCHEDULER_NAMES } from '../config/types.js';
import type { CatOptions } from '../daemon/cat.js';

interface CatFlags {
  listen?: string;
  interface: string[];
  backup: string[];
  announce: string[];
  checksum?: boolean;
  joinInitial: boolean;
  mptcp: boolean;
  congestion?: string;
  scheduler?: string;
  join: boolean;
  maxSubflows?: number;
  receiveBuffer?: number;
  control?: string;
  synCookies?: boolean;
  json?: boolean;
}

export function catCommand(): Command {
  return new Command('cat')
    .description('netcat over the userspace stack: stdin to a connection, and the connection to stdout')
    .argument('[HOST:PORT]', 'where to connect; an IPv6 address in brackets')
    .option('-l, --listen <[ADDR:]PORT>', 'wait for one connection instead')
    .option('-i, --interface <NAME>', 'use this interface; repeat it for further subflows', collect, [])
    .option('--backup <NAME>', 'use this interface too, but only while no other works; repeatable', collect, [])
    .option('--announce <ADDR>', 'tell the peer of this address of ours (ADD_ADDR); repeatable', collect, [])
    .option('--checksum', 'ask for DSS checksums')
    .option('--no-checksum', 'refuse DSS checksums: plain TCP if the peer asks for them')
    .option('--no-join-initial', 'tell the peer not to join to the address and port of the first subflow')
    .option('--no-mptcp', 'plain TCP')
    .addOption(new Option('--congestion <NAME>', 'congestion control of the subflows').choices(CONGESTION_NAMES))
    .addOption(new Option('--scheduler <NAME>', 'scheduler of the connection').choices(SCHEDULER_NAMES))
    .option('--no-join', 'open no further subflow by ourselves')
    .option('--max-subflows <N>', 'refuse joins beyond so many subflows, the first included', parseCount)
    .option('--receive-buffer <BYTES>', 'receive window of the connection', parseCount)
    .option('--control <PATH>', 'a socket that takes commands: join, priority, announce, withdraw, abort, info, …')
    .option('--syn-cookies', 'keep nothing for a SYN: answer each with a cookie, as in a flood')
    .option('--json', 'at the end, the counters (kernel MIB names) and the state of the connection on stderr')
    .addHelpText(
      'after',
      '\nExample:\n  mptun cat --interface wlan0 --interface wwan0 server.example:5000 <upload.bin' +
        '\n  mptun cat --listen 5000 >upload.bin',
    )
    .action(async (target: string | undefined, flags: CatFlags, command: Command) => {
      if ((target === undefined) === (flags.listen === undefined)) {
        command.error('error: give either HOST:PORT or --listen [ADDR:]PORT');
      }
      const options: CatOptions = {
        target: target === undefined ? null : parseTarget(target),
        listen: flags.listen === undefined ? null : parseListen(flags.listen),
        interfaces: flags.interface,
        backupInterfaces: flags.backup,
        announce: flags.announce,
        // Absent: used if the peer asks; --no-checksum: refused.
        checksum: flags.checksum === undefined ? false : flags.checksum || 'refuse',
        joinInitial: flags.joinInitial,
        mptcp: flags.mptcp,
        ...(flags.congestion === undefined ? {} : { congestion: flags.congestion }),
        ...(flags.scheduler === undefined ? {} : { scheduler: flags.scheduler }),
        ...(flags.maxSubflows === undefined ? {} : { maxSubflows: flags.maxSubflows }),
        ...(flags.receiveBuffer === undefined ? {} : { receiveBufferBytes: flags.receiveBuffer }),
        ...(flags.control === undefined ? {} : { control: flags.control }),
        ...(flags.synCookies === undefined ? {} : { synCookies: flags.synCookies }),
        join: flags.join,
        json: flags.json ?? false,
      };
      // Loaded here and not above: the other verbs need neither the native addon nor the stack.
      const { runCat } = await import('../daemon/cat.js');
      process.exitCode = await runCat(options);
    });
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

/** "host:1", "192.0.2.1:1", "[2001:db8::1]:1". */
export function parseTarget(value: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(value);
  if (match === null) throw new InvalidArgumentError(`not HOST:PORT (an IPv6 address needs brackets): ${value}`);
  return { host: (match[1] ?? match[2])!, port: parsePort(match[3]!) };
}

/** "1", "192.0.2.1:1", "[2001:db8::1]:1". */
export function parseListen(value: string): { address: string | null; port: number } {
  if (/^\d+$/.test(value)) return { address: null, port: parsePort(value) };
  const { host, port } = parseTarget(value);
  return { address: host, port };
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError(`not a positive number: ${text}`);
  return count;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (port < 1 || port > 65_535) throw new InvalidArgumentError(`not a port: ${text}`);
  return port;
}
