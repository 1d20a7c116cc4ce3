/**
 * `mptun proxy`: SOCKS5 and HTTP on loopback, for applications without a TUN. With a running client its daemon listens, for as
 * long as this runs, and its rules count; without one the kernel's Multipath TCP carries the connections, and nobody needs root.
 */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseHostPort } from '../config/fields.js';
import { loadConfig } from '../config/load.js';
import type { FlowTarget } from '../daemon/flows/contract.js';
import type { HttpsProxy } from '../daemon/flows/kernel-dial.js';
import { CliError, EXIT } from './exit.js';
import { controlClient, type TargetOptions, tunnelOptions } from './socket.js';

const DEFAULT_LISTEN = '127.0.0.1:1080';

interface ProxyOptions extends TargetOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly config?: string;
  readonly via?: string;
  readonly cacert?: string;
  readonly direct?: boolean;
}

export function proxyCommand(): Command {
  return tunnelOptions(new Command('proxy'))
    .description(
      'SOCKS5 and HTTP proxy on loopback, through the running client, or by the kernel alone (no root needed)',
    )
    .addOption(
      new Option('--listen <host:port>', 'loopback address')
        .argParser(parseLoopback)
        .default(parseLoopback(DEFAULT_LISTEN), DEFAULT_LISTEN),
    )
    .addOption(new Option('--config <file>', "without a daemon: through this client's server"))
    .addOption(
      new Option('--via <url>', 'without a daemon: through an HTTPS proxy, https://[USER:PASSWORD@]HOST[:PORT]'),
    )
    .option('--cacert <file>', 'with --via: certificates of the authorities to trust')
    .option('--direct', 'without a daemon: straight to the destinations')
    .addHelpText(
      'after',
      '\nExample:\n  mptun proxy --listen 127.0.0.1:1080\n  curl --proxy socks5h://127.0.0.1:1080 https://example.com/',
    )
    .action(async (options: ProxyOptions) => {
      const ways = [options.config, options.via, options.direct].filter((way) => way !== undefined);
      if (ways.length > 1) throw new CliError('--config, --via and --direct exclude each other', EXIT.usage);
      if (options.cacert !== undefined && options.via === undefined)
        throw new CliError('--cacert is for --via', EXIT.usage);
      const stop = new AbortController();
      process.once('SIGINT', () => stop.abort()).once('SIGTERM', () => stop.abort());
      if (ways.length === 0) await throughDaemon(options, stop.signal);
      else await standalone(options, stop.signal);
    });
}

async function throughDaemon(options: ProxyOptions, signal: AbortSignal): Promise<void> {
  const { host, port } = options.listen;
  const client = controlClient(options.tunnel, options);
  const query = new URLSearchParams({ host, port: String(port) });
  // The daemon listens as long as somebody reads what it says.
  for await (const event of client.events(`/v1/proxy?${query}`, signal)) process.stdout.write(`${event.message}\n`);
}

async function standalone(options: ProxyOptions, signal: AbortSignal): Promise<void> {
  const { dialKernel, dialThrough } = await import('../daemon/flows/kernel-dial.js');
  const { ProxyServer } = await import('../daemon/flows/proxy-server.js');
  const { monotonicUs } = await import('../native/index.js');
  const proxy = await proxyOf(options);
  const server = new ProxyServer({
    nowUs: monotonicUs,
    decide: () => ({ way: proxy === null ? 'direct' : 'relay', mode: 'auto' }),
    dial: (target: FlowTarget, _decision, aborted) =>
      proxy === null ? dialKernel(target, aborted) : dialThrough(proxy, target, aborted),
  });
  const { host, port } = await server.listen(options.listen);
  const through = proxy === null ? 'straight to the destinations' : `through ${proxy.host}:${proxy.port}`;
  process.stdout.write(`SOCKS5 and HTTP proxy on ${hostPort(host, port)}, ${through}\n`);
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  server.close();
}

async function proxyOf({ config: file, via, cacert }: ProxyOptions): Promise<HttpsProxy | null> {
  if (file !== undefined) {
    const config = loadConfig(file);
    if (config.mode !== 'client') throw new CliError(`${file} is a server's configuration`, EXIT.usage);
    const { loadIdentity } = await import('../daemon/tls.js');
    const { host, port, pin, addresses } = config.server;
    return { host: addresses[0]?.text ?? host, port, trust: { identity: await loadIdentity(config.keyFile), pin } };
  }
  if (via === undefined) return null;
  const url = URL.canParse(via) ? new URL(via) : null;
  if (url === null || url.protocol !== 'https:' || url.hostname === '')
    throw new CliError(`${via} is not the URL of an HTTPS proxy: give https://[USER:PASSWORD@]HOST[:PORT]`, EXIT.usage);
  const credentials =
    url.username === '' ? null : `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || 443),
    trust: { authorities: cacert === undefined ? null : readFileSync(cacert, 'utf8'), credentials },
  };
}

function parseLoopback(text: string): { host: string; port: number } {
  // Port 0: any that is free, which the configuration's HOST:PORT has no use for.
  const isAny = /:0$/.test(text);
  const at = parseHostPort(isAny ? `${text.slice(0, -1)}1` : text);
  if (at === null || !(at.host === 'localhost' || at.host === '::1' || /^127\./.test(at.host)))
    throw new InvalidArgumentError(
      'a loopback address is wanted, such as 127.0.0.1:1080: the proxy asks nobody who they are',
    );
  return isAny ? { ...at, port: 0 } : at;
}

function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
