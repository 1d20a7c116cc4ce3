/** Connections that come in on a port. */
import { EventEmitter } from 'node:events';
import type { MptcpConnection } from './connection.js';
import { MptcpError } from './errors.js';

/** Connections that nobody has accepted yet; one more is aborted. */
const BACKLOG = 128;

export interface ListenerEvents {
  connection: [MptcpConnection];
  close: [];
}

/** Made by MptcpHost.listen. 'connection' if somebody listens for it; else `accept`, or `for await`, takes them in turn. */
export class MptcpListener extends EventEmitter<ListenerEvents> implements AsyncIterable<MptcpConnection> {
  private readonly waiting: MptcpConnection[] = [];
  private readonly accepting: { resolve: (c: MptcpConnection) => void; reject: (error: Error) => void }[] = [];
  private isClosed = false;

  constructor(
    readonly port: number,
    private readonly onClose: () => void,
  ) {
    super();
  }

  /** The next connection. ECONNABORTED when the listener is closed. */
  accept(): Promise<MptcpConnection> {
    const connection = this.waiting.shift();
    if (connection !== undefined) return Promise.resolve(connection.off('error', ignore));
    if (this.isClosed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => this.accepting.push({ resolve, reject }));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MptcpConnection> {
    while (!this.isClosed || this.waiting.length > 0) {
      try {
        yield await this.accept();
      } catch (error) {
        if (this.isClosed) return;
        throw error;
      }
    }
  }

  /** Takes no more. Connections that nobody has accepted are aborted, the others go on. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const connection of this.waiting.splice(0)) connection.destroy();
    for (const { reject } of this.accepting.splice(0)) reject(closedError());
    this.onClose();
    this.emit('close');
  }

  /** Called by the host. */
  offer(connection: MptcpConnection): void {
    const next = this.accepting.shift();
    if (next !== undefined) next.resolve(connection);
    else if (this.listenerCount('connection') > 0) this.emit('connection', connection);
    else if (this.isClosed || this.waiting.length >= BACKLOG) connection.destroy();
    else {
      // Until it is accepted nobody listens for its errors.
      connection.on('error', ignore);
      this.waiting.push(connection);
    }
  }
}

function ignore(): void {}

function closedError(): MptcpError {
  return new MptcpError('ECONNABORTED', 'accept', 'the listener is closed');
}
