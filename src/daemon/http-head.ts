/**
 * One HTTP/1.1 request or response head, as `Upgrade: connect-ip` needs it (RFC 9112 §2 to §5, RFC 9484 §4.2, §4.3).
 * Strict: a line that does not end in CRLF, folding, white space before a colon, or a repeated field is an error, and
 * nothing is guessed. Bodies do not occur: what follows the head of an upgrade belongs to the new protocol.
 */

/** Longest head that is read. */
export const MAX_HEAD_BYTES = 8_192;

export interface HttpHead {
  /** Request: `GET TARGET HTTP/1.1`; response: `HTTP/1.1 101 Switching Protocols`. */
  readonly startLine: string;
  /** Names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
}

export class HeadError extends Error {
  override readonly name = 'HeadError';
}

/** Collects chunks until the empty line; then `head` is set, and `rest` is what came behind it. */
export class HeadReader {
  head: HttpHead | null = null;
  rest: Buffer = Buffer.alloc(0);
  private pending: Buffer = Buffer.alloc(0);

  /** True when the head is complete. Throws HeadError on a malformed or over-long one. */
  push(chunk: Buffer): boolean {
    const from = Math.max(0, this.pending.length - 3);
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    const end = this.pending.indexOf('\r\n\r\n', from, 'latin1');
    if (end < 0 ? this.pending.length > MAX_HEAD_BYTES : end > MAX_HEAD_BYTES) {
      throw new HeadError(`head of more than ${MAX_HEAD_BYTES} bytes`);
    }
    if (end < 0) return false;
    this.head = parseHead(this.pending.toString('latin1', 0, end));
    this.rest = this.pending.subarray(end + 4);
    return true;
  }
}

export function parseHead(text: string): HttpHead {
  const lines = text.split('\r\n');
  const startLine = lines[0]!;
  if (!/^[\x21-\x7e]+ [\x20-\x7e]+$/.test(startLine)) throw new HeadError('malformed start line');
  const fields = new Map<string, string>();
  for (const [name, value] of parseFields(lines.slice(1))) {
    if (fields.has(name)) throw new HeadError(`repeated header field ${name}`);
    fields.set(name, value);
  }
  return { startLine, fields };
}

/** Names in lower case, with their values, in order; a name may occur more than once. Throws HeadError. */
export function parseFields(lines: readonly string[]): [name: string, value: string][] {
  return lines.map((line) => {
    const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*$/.exec(line);
    if (match === null) throw new HeadError('malformed header field');
    return [match[1]!.toLowerCase(), match[2]!];
  });
}

/** The bytes of a head. Values must be printable ASCII: anything else becomes '?', so that nothing can be injected. */
export function formatHead(startLine: string, fields: Readonly<Record<string, string>>): string {
  const lines = [startLine, ...Object.entries(fields).map(([name, value]) => `${name}: ${printable(value)}`)];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** True when the comma-separated field value lists `token` (case-insensitive). */
export function hasToken(value: string | undefined, token: string): boolean {
  return value?.split(',').some((t) => t.trim().toLowerCase() === token) ?? false;
}

function printable(value: string): string {
  return value.replace(/[^\x20-\x7e]/g, '?');
}
