/**
 * The client's connections, opened from ports that are ours alone: the host's own TCP would answer the server's packets with
 * RST. A port is guarded before the first packet leaves it, for as long as its connection lives.
 */
import type { TrafficConfig } from '../config/types.js';
import type { PortGuard } from '../core/engine/ports.js';
import type { Driver } from './driver.js';
import type { SynContents } from './flows/direct.js';
import type { Dialed } from './flows/direct-flow.js';
import type { Way } from './path-members.js';

export interface GuardedConnectOptions {
  readonly driver: Pick<Driver, 'nowUs' | 'engine' | 'acquirePort' | 'guarded' | 'flushSoon'>;
  traffic(): TrafficConfig;
  congestionOf(linkId: number): string;
}

export class GuardedConnect {
  /** By connection. */
  private readonly guards = new Map<number, PortGuard>();

  constructor(private readonly options: GuardedConnectOptions) {}

  /** Opens a connection over what `wayNow` says when the port for it is guarded; null: nowhere. */
  async connect(wayNow: () => Way | null, scheduler: string, syn?: (way: Way) => SynContents): Promise<Dialed | null> {
    const { driver } = this.options;
    const guard = driver.acquirePort(0);
    await driver.guarded();
    const way = wayNow();
    if (way === null) {
      guard.release();
      return null;
    }
    const traffic = this.options.traffic();
    try {
      const connection = driver.engine.connect(driver.nowUs(), {
        linkId: way.linkId,
        localAddress: way.localAddress,
        localPort: guard.port,
        remote: way.remote,
        checksum: traffic.checksum,
        congestion: this.options.congestionOf(way.linkId),
        scheduler,
        receiveBufferBytes: traffic.receiveBufferBytes,
        ...syn?.(way),
      });
      this.guards.set(connection.id, guard);
      driver.flushSoon();
      return { way, api: connection };
    } catch (error) {
      guard.release();
      throw error;
    }
  }

  onConnectionClosed(connectionId: number): void {
    this.guards.get(connectionId)?.release();
    this.guards.delete(connectionId);
  }

  close(): void {
    for (const guard of this.guards.values()) guard.release();
  }
}
