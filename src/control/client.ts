/** The other end of the control socket: HTTP over a unix socket, JSON in and out. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';

import type { EventRecord, ResultDocument } from './protocol.js';

/** Nobody answers on the socket. */
export class NotRunningError extends Error {
  readonly code = 'MPTUN_NOT_RUNNING';
}

/** The socket is there, but not for this user. */
export class NotPermittedError extends Error {
  readonly code = 'MPTUN_NOT_PERMITTED';
}

/** The daemon answered with an error. */
export class RefusedError extends Error {
  readonly code = 'MPTUN_REFUSED';

  constructor(
    readonly httpStatus: number,
    readonly result: ResultDocument,
  ) {
    super([result.message, ...result.details].join('\n'));
  }
}

export class ControlClient {
  constructor(readonly socketPath: string) {}

  get<T>(path: string): Promise<T> {
    return this.exchange<T>('GET', path, undefined);
  }

  post(path: string, body?: unknown): Promise<ResultDocument> {
    return this.exchange<ResultDocument>('POST', path, body);
  }

  /** Raw text, for /metrics. */
  async text(path: string): Promise<string> {
    return readAll(await this.open('GET', path, undefined));
  }

  /** Events until the daemon ends or `signal` aborts. */
  async *events(path: string, signal?: AbortSignal): AsyncGenerator<EventRecord> {
    const res = await this.open('GET', path, undefined, signal);
    res.setEncoding('utf8');
    let rest = '';
    try {
      for await (const chunk of res as AsyncIterable<string>) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop()!;
        for (const line of lines) if (line !== '') yield JSON.parse(line) as EventRecord;
      }
    } catch (err) {
      // The daemon's end, or ours, closes the stream in the middle: that is its normal end.
      const code = (err as NodeJS.ErrnoException).code;
      if (code !== 'ECONNRESET' && code !== 'ABORT_ERR') throw err;
    }
  }

  private async exchange<T>(method: string, path: string, body: unknown): Promise<T> {
    const res = await this.open(method, path, body);
    return JSON.parse(await readAll(res)) as T;
  }

  private open(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const payload = body === undefined ? '' : JSON.stringify(body);
      const req: ClientRequest = request(
        {
          socketPath: this.socketPath,
          method,
          path,
          headers: { host: 'mptun', 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
          ...(signal === undefined ? {} : { signal }),
        },
        (res) => {
          if (res.statusCode === 200) resolve(res);
          else readAll(res).then((text) => reject(refusal(res.statusCode ?? 0, text)), reject);
        },
      );
      req.on('error', (err) => reject(this.explain(err as NodeJS.ErrnoException)));
      req.end(payload);
    });
  }

  private explain(err: NodeJS.ErrnoException): Error {
    switch (err.code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
      case 'ENOTSOCK':
        return new NotRunningError(`no daemon answers on ${this.socketPath}`);
      case 'EACCES':
      case 'EPERM':
        return new NotPermittedError(`no permission to use ${this.socketPath}: be root or in the socket's group`);
      default:
        return err;
    }
  }
}

function refusal(status: number, text: string): Error {
  try {
    return new RefusedError(status, JSON.parse(text) as ResultDocument);
  } catch {
    return new Error(`the daemon answered ${status}: ${text.slice(0, 200)}`);
  }
}

async function readAll(res: IncomingMessage): Promise<string> {
  res.setEncoding('utf8');
  let text = '';
  for await (const chunk of res as AsyncIterable<string>) text += chunk;
  return text;
}
