/**
 * The control socket of `mptun cat` (--control PATH): one command a line, one line of JSON in answer, in order. A client that
 * has said `events` gets the engine's events of the connection too, each {"event": "<type>", …}. For people with
 * `nc -U PATH`, and for tests. Sizes are bytes; ids of subflows and addresses are those of `info`.
 */
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { type IpAddress, parseIp } from '../core/base/ip.js';
import type { ConnectionInfo, EngineEvent } from '../core/engine/api.js';

/** What the commands act on. Methods throw (an Error whose message is for the caller) when they cannot. */
export interface CatSession {
  /** `peer_ended`: no byte of the peer follows. */
  info(): {
    readonly connection: ConnectionInfo | null;
    readonly peer_ended: boolean;
    readonly counters: Readonly<Record<string, number>>;
  };
  /** Subflow id. */
  join(interfaceName: string, address: IpAddress, port: number | null, backup: boolean): number;
  closeSubflow(subflowId: number, how: 'fin' | 'reset'): void;
  /** MP_PRIO, and the same for our own sending. */
  setBackup(subflowId: number, backup: boolean): void;
  /** Address id. With a port, joins are taken there as well. */
  announce(address: IpAddress, port: number | null): Promise<number>;
  /** REMOVE_ADDR, and the end of our subflows there. */
  withdraw(addressIds: readonly number[]): void;
  /** DATA_FIN after what stdin has given so far; no more is read from it. */
  end(): void;
  /** MP_FASTCLOSE, on a RST or on an ACK. */
  abort(how: 'rst' | 'ack'): void;
}

/** Shown by the answer to an unknown command. */
export const CAT_COMMANDS = [
  'info',
  'join INTERFACE ADDRESS[:PORT] [backup]',
  'close SUBFLOW [fin|reset]',
  'priority SUBFLOW normal|backup',
  'announce ADDRESS[:PORT]',
  'withdraw ADDRESS-ID...',
  'end',
  'abort [rst|ack]',
  'events',
] as const;

const MAX_CLIENTS = 8;

export class CatControl {
  private readonly server: Server;
  private readonly clients = new Set<Socket>();
  private readonly subscribers = new Set<Socket>();

  constructor(
    private readonly path: string,
    private readonly session: CatSession,
  ) {
    this.server = createServer((socket) => this.onClient(socket));
    this.server.maxConnections = MAX_CLIENTS;
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.path, resolve);
    });
  }

  onEvent({ type, ...rest }: EngineEvent): void {
    for (const socket of this.subscribers) write(socket, { event: type, ...rest });
  }

  close(): void {
    this.server.close();
    for (const socket of this.clients) socket.end();
    rmSync(this.path, { force: true });
  }

  private onClient(socket: Socket): void {
    this.clients.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.clients.delete(socket);
      this.subscribers.delete(socket);
    });
    // One after the other, so that answers come in the order of the commands.
    let last = Promise.resolve();
    createInterface({ input: socket }).on('line', (line) => {
      if (line.trim() === '') return;
      last = last.then(async () => {
        const words = line.trim().split(/\s+/);
        if (words[0] === 'events') this.subscribers.add(socket);
        try {
          write(socket, { ok: true, ...(await runCommand(this.session, words)) });
        } catch (error) {
          write(socket, { ok: false, error: (error as Error).message });
        }
      });
    });
  }
}

/** One command; the fields of its answer. */
export async function runCommand(session: CatSession, words: readonly string[]): Promise<object> {
  const [command, ...args] = words;
  switch (command) {
    case 'info':
      return session.info();
    case 'join': {
      const { address, port } = endpoint(args[1]);
      const backup = oneOf(args[2], [undefined, 'backup']) === 'backup';
      return { subflow: session.join(args[0]!, address, port, backup) };
    }
    case 'close':
      session.closeSubflow(id(args[0]), oneOf(args[1] ?? 'fin', ['fin', 'reset']));
      return {};
    case 'priority':
      session.setBackup(id(args[0]), oneOf(args[1], ['normal', 'backup']) === 'backup');
      return {};
    case 'announce': {
      const { address, port } = endpoint(args[0]);
      return { address_id: await session.announce(address, port) };
    }
    case 'withdraw':
      if (args.length === 0) throw new Error('withdraw which address id?');
      session.withdraw(args.map(id));
      return {};
    case 'end':
      session.end();
      return {};
    case 'abort':
      session.abort(oneOf(args[0] ?? 'rst', ['rst', 'ack']));
      return {};
    case 'events':
      return {};
    default:
      throw new Error(`no such command: ${command}; there are: ${CAT_COMMANDS.join(' | ')}`);
  }
}

/** "192.0.2.1", "192.0.2.1:1", "2001:db8::1", "[2001:db8::1]:1". */
function endpoint(text: string | undefined): { address: IpAddress; port: number | null } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text ?? '');
  if (match === null) return { address: parseIp(text ?? ''), port: null };
  return { address: parseIp(match[1] ?? match[2]!), port: Number(match[3]) };
}

function id(text: string | undefined): number {
  if (text === undefined || !/^\d{1,9}$/.test(text)) throw new Error(`not an id: ${text ?? ''}`);
  return Number(text);
}

function oneOf<T extends string | undefined>(text: string | undefined, allowed: readonly T[]): T {
  if (!allowed.includes(text as T)) throw new Error(`${text ?? 'nothing'}: expected ${allowed.join(' or ')}`);
  return text as T;
}

function write(socket: Socket, value: object): void {
  socket.write(`${JSON.stringify(value, plain)}\n`);
}

/** Addresses as text, and infinity as null, which is what JSON has. */
export function plain(_key: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'text' in value ? value.text : value;
}
