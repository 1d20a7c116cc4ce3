/** `mptun demo`: the main job in a lab of its own (src/lab/demo.ts). */
import { Command, InvalidArgumentError, Option } from 'commander';
import { CONGESTION_NAMES } from '../config/types.js';
import { parseDuration, parseRate } from '../config/units.js';
import { DemoFailure, runDemo } from '../lab/demo.js';
import { Reporter } from '../lab/report.js';
import { enterSandbox, isInSandbox, runInSandbox, SandboxError } from '../lab/sandbox.js';
import type { Lab, LinkSpec } from '../lab/topology.js';
import { TunnelError } from '../lab/tunnel.js';

const EXIT_FAILED = 1;
const EXIT_PERMISSION = 9;
const EXIT_SIGINT = 130;

interface DemoFlags {
  readonly json?: boolean;
  readonly trace?: string;
  readonly linksOnly?: boolean;
  readonly wifiRate: number;
  readonly wifiDelay: number;
  readonly wifiLoss: number;
  readonly lteRate: number;
  readonly lteDelay: number;
  readonly lteLoss: number;
  readonly congestion?: string;
}

/** The `demo` verb, for the CLI's program to add. */
export function demoCommand(): Command {
  return new Command('demo')
    .description('show the main job: a download over two emulated links at once, one of which is cut')
    .option('--json', 'print the result as JSON (progress goes to stderr)')
    .option('--trace <file>', 'play a recorded link (Saturator format) on the cellular link')
    .option('--links-only', 'only calibrate and measure the emulated links, without a tunnel')
    .addOption(new Option('--wifi-rate <rate>', 'of the WiFi link, each way').argParser(rate).default(50e6, '50Mbit'))
    .addOption(new Option('--wifi-delay <duration>', 'one way').argParser(milliseconds).default(10, '10ms'))
    .addOption(new Option('--wifi-loss <percent>', 'random loss, each way').argParser(percent).default(0, '0%'))
    .addOption(
      new Option('--lte-rate <rate>', 'of the cellular link, each way').argParser(rate).default(30e6, '30Mbit'),
    )
    .addOption(new Option('--lte-delay <duration>', 'one way').argParser(milliseconds).default(30, '30ms'))
    .addOption(new Option('--lte-loss <percent>', 'random loss, each way').argParser(percent).default(0, '0%'))
    .addOption(new Option('--congestion <name>', 'congestion control of the tunnel').choices(CONGESTION_NAMES))
    .addHelpText('after', '\nExample:\n  mptun demo --wifi-rate 100Mbit --lte-rate 20Mbit --lte-delay 40ms --json\n')
    .action(async (flags: DemoFlags) => {
      process.exitCode = await demo(flags);
    });
}

async function demo(flags: DemoFlags): Promise<number> {
  try {
    if (!isInSandbox()) return await runInSandbox([process.execPath, ...process.execArgv, ...process.argv.slice(1)]);
    enterSandbox();
    return await demoInside(flags);
  } catch (error) {
    if (error instanceof SandboxError) return complain(error.message, EXIT_PERMISSION);
    if (error instanceof DemoFailure || error instanceof TunnelError) return complain(error.message, EXIT_FAILED);
    throw error;
  }
}

async function demoInside(flags: DemoFlags): Promise<number> {
  const report = new Reporter(flags.json === true ? process.stderr : process.stdout);
  let lab: Lab | undefined;
  let isStopping = false;
  const stop = async () => {
    if (isStopping) return;
    isStopping = true;
    process.stderr.write('\nmptun demo: interrupted, cleaning up\n');
    await lab?.dispose();
    process.exit(EXIT_SIGINT);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const options = {
    links: linksOf(flags),
    ...(flags.trace !== undefined && { traceFile: flags.trace }),
    ...(flags.linksOnly === true && { linksOnly: true }),
    ...(flags.congestion !== undefined && { traffic: { congestion: flags.congestion } }),
  };
  try {
    const { document, failures } = await runDemo(options, report, (made) => {
      lab = made;
    });
    if (flags.json === true) process.stdout.write(`${JSON.stringify(document)}\n`);
    return failures.length === 0 ? 0 : complain(failures.join('\n'), EXIT_FAILED);
  } catch (error) {
    // What breaks because it is being taken down is no news; `stop` ends the process.
    if (isStopping) return new Promise(() => {});
    throw error;
  }
}

function linksOf(flags: DemoFlags): LinkSpec[] {
  const link = (name: string, kind: LinkSpec['kind'], bps: number, delayMs: number, loss: number): LinkSpec => ({
    name,
    kind,
    rateDownBps: bps,
    rateUpBps: bps,
    delayMs,
    loss,
  });
  return [
    link('wlan0', 'wifi', flags.wifiRate, flags.wifiDelay, flags.wifiLoss),
    link('wwan0', 'lte', flags.lteRate, flags.lteDelay, flags.lteLoss),
  ];
}

function complain(message: string, status: number): number {
  process.stderr.write(`\nmptun demo: ${message}\n`);
  return status;
}

function rate(text: string): number {
  const bps = parseRate(text);
  if (bps === null || bps === 0) throw new InvalidArgumentError('Give a rate such as 50Mbit.');
  return bps;
}

function milliseconds(text: string): number {
  const us = parseDuration(text);
  if (us === null) throw new InvalidArgumentError('Give a duration such as 10ms.');
  return us / 1000;
}

function percent(text: string): number {
  const value = /^\d+(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (!(value >= 0 && value < 100)) throw new InvalidArgumentError('Give a percentage such as 0.5%.');
  return value / 100;
}
