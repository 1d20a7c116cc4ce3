/** How the program ends: one exit code per kind of trouble, and one sentence on stderr. */
import { ConfigErrors } from '../config/errors.js';
import { KeyError } from '../config/keys.js';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notRunning: 3,
  configInvalid: 4,
  authentication: 5,
  unreachable: 6,
  /** `status --check` only. */
  degraded: 7,
  /** `status --check` only. */
  userActionNeeded: 8,
  permission: 9,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An error whose message is all that the user needs. */
export class CliError extends Error {
  constructor(
    message: string,
    readonly exitCode: ExitCode = EXIT.failed,
  ) {
    super(message);
    this.name = 'CliError';
  }
}

/** What to print for `err` and which code to end with. Anything unexpected keeps its stack: it is a bug. */
export function describeError(err: unknown): { text: string; exitCode: ExitCode } {
  if (err instanceof CliError) return { text: err.message, exitCode: err.exitCode };
  if (err instanceof ConfigErrors) {
    const n = err.errors.length;
    return {
      text: `${err.message}\n${n} error${n === 1 ? '' : 's'} in the configuration`,
      exitCode: EXIT.configInvalid,
    };
  }
  if (err instanceof KeyError) return { text: `${err.message}; ${err.hint}`, exitCode: EXIT.configInvalid };
  const { code, message, stack } = err as { code?: unknown; message?: unknown; stack?: unknown };
  if (code === 'EACCES' || code === 'EPERM') {
    const text = `${message}; run it as root, or as a service with CAP_NET_ADMIN and CAP_NET_RAW`;
    return { text, exitCode: EXIT.permission };
  }
  const exitCode = CODES.get(String(code));
  if (exitCode !== undefined) return { text: String(message), exitCode };
  if (typeof code === 'string') return { text: String(message), exitCode: EXIT.failed };
  return { text: String(stack ?? err), exitCode: EXIT.failed };
}

/** `code` of an error to exit code; others with a code are plain failures. */
const CODES: ReadonlyMap<string, ExitCode> = new Map([
  ['MPTUN_NOT_RUNNING', EXIT.notRunning],
  ['MPTUN_NOT_PERMITTED', EXIT.permission],
  ['MPTUN_AUTH', EXIT.authentication],
  ['MPTUN_UNREACHABLE', EXIT.unreachable],
]);
