/** The lab's handle on the emulator process. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { EmulatorReply, EmulatorRequest } from './emulator-protocol.js';

export class EmulatorClient {
  readonly #child: ChildProcess;
  readonly #waiting: { resolve(reply: Accepted): void; reject(error: Error): void }[] = [];
  #ended: Error | null = null;

  /** `child` runs emulator.js with pipes for stdin and stdout. */
  constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const reply = JSON.parse(line) as EmulatorReply;
      const waiter = this.#waiting.shift()!;
      if (reply.ok) waiter.resolve(reply);
      else waiter.reject(new Error(`emulator: ${reply.error}`));
    });
    child.stdin!.on('error', () => {}); // `exit` tells
    child.once('exit', (code, signal) => {
      this.#ended = new Error(`the link emulator ended (${signal ?? code})`);
      for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#ended);
    });
  }

  /** The reply, with the moment at which the emulator had carried the request out (monotonic milliseconds). */
  request(request: EmulatorRequest): Promise<Accepted> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
    });
  }
}

export type Accepted = Extract<EmulatorReply, { ok: true }>;
