/**
 * The control socket: HTTP/JSON on a unix socket, mode 0660, so that `curl --unix-socket` is all that a script needs.
 *
 *   GET  /v1/status  /v1/paths  /v1/flows  /metrics
 *   GET  /v1/why[?host=HOST&port=PORT]  /v1/history[?n=COUNT]
 *   GET  /v1/proxy?host=HOST&port=PORT       opens a proxy for as long as the answer is read
 *   GET  /v1/events[?after=SEQ][&follow=0]   newline-delimited; kept events first, then live
 *   POST /v1/paths/{name}   {"role": …, "limit_bps": …, "use": …}
 *   POST /v1/mode   {"mode": …}
 *   POST /v1/reload
 */
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';

import {
  EVENT_SCHEMA,
  type EventRecord,
  FLOWS_SCHEMA,
  type FlowsDocument,
  HISTORY_SCHEMA,
  type HistoryDocument,
  PATHS_SCHEMA,
  type PathsDocument,
  parseModeChange,
  parsePathChange,
  type StatusSource,
} from '../control/protocol.js';
import { readJson, sendJson, sendResult } from './control-http.js';
import { EventStream } from './event-stream.js';
import { Metrics } from './metrics.js';

/** Connections to the socket at once; further ones are closed. */
const MAX_CONNECTIONS = 64;
/** Another daemon answers on our socket, or something else is in its place. */
export class SocketInUseError extends Error {
  readonly code = 'MPTUN_SOCKET_IN_USE';
}

export interface ControlServerOptions {
  readonly socketPath: string;
  /** Also serve /metrics (and nothing else) here. */
  readonly metricsListen: { readonly host: string; readonly port: number } | null;
}

export class ControlServer {
  private readonly servers: Server[] = [];
  private readonly metrics: Metrics;

  private constructor(private readonly source: StatusSource) {
    this.metrics = new Metrics(source);
  }

  /** Listens; a socket that a dead daemon left behind is replaced, a live one is refused (SocketInUseError). */
  static async start(source: StatusSource, options: ControlServerOptions): Promise<ControlServer> {
    const control = new ControlServer(source);
    await removeStaleSocket(options.socketPath);
    mkdirSync(dirname(options.socketPath), { recursive: true, mode: 0o755 });
    const server = control.createServer((req, res) => control.handle(req, res));
    await listening(server, () => server.listen(options.socketPath));
    // Until here any usual umask keeps others out (connecting needs write permission); from here the group may.
    chmodSync(options.socketPath, 0o660);
    if (options.metricsListen !== null) {
      const { host, port } = options.metricsListen;
      const scrape = control.createServer((req, res) => control.handleScrape(req, res));
      try {
        await listening(scrape, () => scrape.listen(port, host));
      } catch (err) {
        await control.close();
        throw err;
      }
    }
    return control;
  }

  /** Ends event streams, stops listening, removes the socket. */
  async close(): Promise<void> {
    this.metrics.close();
    await Promise.all(
      this.servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
  }

  private createServer(handler: (req: IncomingMessage, res: ServerResponse) => Promise<void>): Server {
    const server = createServer({ requestTimeout: 10_000 }, (req, res) => {
      handler(req, res).catch((err: unknown) => {
        if (!res.headersSent) sendResult(res, 500, { ok: false, message: `internal error: ${String(err)}` });
        else res.destroy();
      });
    });
    server.maxConnections = MAX_CONNECTIONS;
    this.servers.push(server);
    return server;
  }

  private async handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', 'http://mptun');
    const route = `${req.method} ${url.pathname}`;
    switch (route) {
      case 'GET /v1/status':
        return sendJson(res, 200, this.source.status());
      case 'GET /v1/paths': {
        const { time, paths } = this.source.status();
        const left_out = this.source.leftOut();
        return sendJson(res, 200, { schema: PATHS_SCHEMA, time, paths, left_out } satisfies PathsDocument);
      }
      case 'GET /v1/flows': {
        const time = new Date().toISOString();
        const flows = this.source.flows();
        const tcp_flows = this.source.tcpFlows();
        return sendJson(res, 200, { schema: FLOWS_SCHEMA, time, flows, tcp_flows } satisfies FlowsDocument);
      }
      case 'GET /v1/why':
        return url.searchParams.has('host') ? this.sendWhyFlow(url, res) : sendJson(res, 200, this.source.why());
      case 'GET /v1/history':
        return this.sendHistory(url, res);
      case 'GET /v1/proxy':
        return this.openProxy(url, res);
      case 'GET /v1/events':
        return this.streamEvents(url, res);
      case 'GET /metrics':
        return this.sendMetrics(res);
      case 'POST /v1/mode':
        return this.changeMode(req, res);
      case 'POST /v1/reload': {
        const result = await this.source.reload();
        return sendResult(res, result.ok ? 200 : 409, result);
      }
    }
    const path = pathName(url.pathname);
    if (path !== null && req.method === 'POST') return this.changePath(path, req, res);
    if (KNOWN_PATHS.has(url.pathname) || path !== null)
      return sendResult(res, 405, { ok: false, message: `${req.method} is not for ${url.pathname}` });
    sendResult(res, 404, { ok: false, message: `no such resource: ${url.pathname}` });
  }

  private async handleScrape(req: IncomingMessage, res: ServerResponse): Promise<void> {
    if (req.method === 'GET' && req.url === '/metrics') return this.sendMetrics(res);
    sendResult(res, 404, { ok: false, message: 'only GET /metrics is served here' });
  }

  private async sendMetrics(res: ServerResponse): Promise<void> {
    const text = await this.metrics.text();
    res.writeHead(200, { 'content-type': this.metrics.contentType });
    res.end(text);
  }

  private async changePath(name: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const json = await readJson(req, res);
    if (json === null) return;
    const change = parsePathChange(json.value);
    if (typeof change === 'string') return sendResult(res, 400, { ok: false, message: change });
    const result = this.source.changePath(name, change);
    if (result === null) return sendResult(res, 404, { ok: false, message: `no path called ${name}` });
    sendResult(res, result.ok ? 200 : 409, result);
  }

  private async changeMode(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const json = await readJson(req, res);
    if (json === null) return;
    const change = parseModeChange(json.value);
    if (typeof change === 'string') return sendResult(res, 400, { ok: false, message: change });
    const result = this.source.changeMode(change.mode);
    sendResult(res, result.ok ? 200 : 409, result);
  }

  private async sendWhyFlow(url: URL, res: ServerResponse): Promise<void> {
    const host = url.searchParams.get('host')!;
    const port = Number(url.searchParams.get('port') ?? 443);
    if (!isDestination(host) || !Number.isInteger(port) || port < 1 || port > 65_535) {
      sendResult(res, 400, { ok: false, message: 'host and port: a name or an address, and a port are wanted' });
      return;
    }
    const document = await this.source.whyFlow(host, port);
    if (typeof document === 'string') sendResult(res, 409, { ok: false, message: document });
    else sendJson(res, 200, document);
  }

  /** The daemon's proxy at a further place, until whoever asked hangs up. */
  private async openProxy(url: URL, res: ServerResponse): Promise<void> {
    const host = url.searchParams.get('host') ?? '127.0.0.1';
    const port = Number(url.searchParams.get('port') ?? 0);
    // The proxy asks nobody who they are.
    if (
      !(host === '::1' || host === 'localhost' || /^127(\.\d{1,3}){3}$/.test(host)) ||
      !(port >= 0 && port <= 65_535)
    ) {
      sendResult(res, 400, { ok: false, message: 'host and port: a loopback address is wanted' });
      return;
    }
    let listener: Awaited<ReturnType<StatusSource['openProxy']>>;
    try {
      listener = await this.source.openProxy(host, port);
    } catch (error) {
      sendResult(res, 409, { ok: false, message: (error as Error).message });
      return;
    }
    res.on('close', () => listener.close());
    res.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    const where = listener.host.includes(':') ? `[${listener.host}]` : listener.host;
    const event: EventRecord = {
      schema: EVENT_SCHEMA,
      seq: 0,
      time: new Date().toISOString(),
      level: 'info',
      type: 'proxy',
      message: `SOCKS5 and HTTP proxy on ${where}:${listener.port}, through ${this.source.name}`,
      session: null,
      path: null,
      data: { host: listener.host, port: listener.port },
    };
    res.write(`${JSON.stringify(event)}\n`);
    if (res.destroyed) listener.close();
  }

  private sendHistory(url: URL, res: ServerResponse): void {
    const count = Number(url.searchParams.get('n') ?? Number.MAX_SAFE_INTEGER);
    if (!Number.isSafeInteger(count) || count < 1) {
      sendResult(res, 400, { ok: false, message: 'n: a number of receipts is wanted' });
      return;
    }
    const receipts = this.source.history(count);
    const time = new Date().toISOString();
    sendJson(res, 200, { schema: HISTORY_SCHEMA, time, receipts } satisfies HistoryDocument);
  }

  private streamEvents(url: URL, res: ServerResponse): void {
    const after = Number(url.searchParams.get('after') ?? 0);
    if (!Number.isSafeInteger(after) || after < 0) {
      sendResult(res, 400, { ok: false, message: 'after: a sequence number is wanted' });
      return;
    }
    res.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    res.flushHeaders();
    const stream = new EventStream(res);
    const unsubscribe = this.source.subscribe(after, (event) => stream.push(event));
    if (url.searchParams.get('follow') === '0') {
      unsubscribe();
      stream.end();
    } else {
      res.on('close', unsubscribe);
    }
  }
}

const KNOWN_PATHS: ReadonlySet<string> = new Set([
  '/v1/status',
  '/v1/paths',
  '/v1/flows',
  '/v1/events',
  '/v1/proxy',
  '/v1/why',
  '/v1/history',
  '/v1/mode',
  '/v1/reload',
  '/metrics',
]);

/** A name or an address, as far as that can be said without asking anybody. */
function isDestination(text: string): boolean {
  return text.length <= 253 && /^[A-Za-z0-9_.:-]+$/.test(text);
}

/** The name in /v1/paths/{name}, or null. */
function pathName(pathname: string): string | null {
  const m = /^\/v1\/paths\/([^/]+)$/.exec(pathname);
  if (m === null) return null;
  try {
    return decodeURIComponent(m[1]!);
  } catch {
    return null;
  }
}

/** Removes the socket of a daemon that is gone. */
async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new SocketInUseError(`${path} exists and is not a socket; remove it or set control.socket`);
  const isLive = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', (err: NodeJS.ErrnoException) => resolve(err.code !== 'ECONNREFUSED' && err.code !== 'ENOENT'));
  });
  if (isLive)
    throw new SocketInUseError(`another mptun answers on ${path}; stop it first, or give this one another name`);
  unlinkSync(path);
}

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    listen();
  });
}
