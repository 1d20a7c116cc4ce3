/** Bodies of the control socket's requests, and its answers. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type CommandResult, RESULT_SCHEMA, type ResultDocument } from '../control/protocol.js';

/** A request body longer than this is refused. */
const MAX_BODY_BYTES = 16 * 1024;
/** The request's body as JSON; null: it was refused, and the answer is sent. */
export async function readJson(req: IncomingMessage, res: ServerResponse): Promise<{ value: unknown } | null> {
  const body = await readBody(req);
  if (body === null) {
    sendResult(res, 413, { ok: false, message: `more than ${MAX_BODY_BYTES} bytes` });
    return null;
  }
  try {
    return { value: JSON.parse(body) as unknown };
  } catch {
    sendResult(res, 400, { ok: false, message: 'the body is not JSON' });
    return null;
  }
}

/** The request's body, or null when it is too long. */
async function readBody(req: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  return bytes > MAX_BODY_BYTES ? null : Buffer.concat(chunks).toString('utf8');
}

export function sendJson(res: ServerResponse, status: number, document: unknown): void {
  res.writeHead(status, { 'content-type': 'application/json' });
  res.end(`${JSON.stringify(document)}\n`);
}

export function sendResult(res: ServerResponse, status: number, result: CommandResult): void {
  const document: ResultDocument = {
    schema: RESULT_SCHEMA,
    ok: result.ok,
    message: result.message,
    details: result.details ?? [],
  };
  sendJson(res, status, document);
}
