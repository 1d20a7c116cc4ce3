/**
 * sd_notify(3): tells systemd when we are ready, reloading, alive and stopping. One datagram per message to the unix
 * socket in $NOTIFY_SOCKET, a path or (with a leading `@`) an abstract name. Without that variable nothing is sent.
 *
 * Sending never fails loudly: a service manager that does not listen must not take the tunnel down. Failures are counted.
 */
import { addon, check } from '../native/addon.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;
/** sizeof(sun_path). */
const SUN_PATH_BYTES = 108;

export interface NotifyEnvironment {
  readonly NOTIFY_SOCKET?: string | undefined;
  readonly WATCHDOG_USEC?: string | undefined;
  readonly WATCHDOG_PID?: string | undefined;
}

export class SystemdNotifier {
  /** Messages that could not be sent. */
  failures = 0;
  private watchdogTimer: NodeJS.Timeout | null = null;

  private constructor(
    private readonly fd: number,
    private readonly address: Uint8Array,
    /** How often WATCHDOG=1 is due, or null: systemd does not watch us. */
    readonly watchdogIntervalMs: number | null,
  ) {}

  /** From the environment that systemd gave us; without $NOTIFY_SOCKET a notifier that does nothing. */
  static fromEnvironment(env: NotifyEnvironment = process.env, pid: number = process.pid): SystemdNotifier {
    const address = unixAddress(env.NOTIFY_SOCKET ?? '');
    if (address === null) return new SystemdNotifier(-1, new Uint8Array(0), null);
    const fd = check(addon.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket(AF_UNIX)');
    return new SystemdNotifier(fd, address, watchdogInterval(env, pid));
  }

  get isEnabled(): boolean {
    return this.fd >= 0;
  }

  ready(status: string): void {
    this.send([
      ['READY', '1'],
      ['STATUS', status],
    ]);
  }

  /** Before a reload; `ready` ends it. `monotonicUs` is CLOCK_MONOTONIC (Type=notify-reload wants it). */
  reloading(monotonicUs: number): void {
    this.send([
      ['RELOADING', '1'],
      ['MONOTONIC_USEC', String(Math.floor(monotonicUs))],
    ]);
  }

  stopping(status: string): void {
    this.send([
      ['STOPPING', '1'],
      ['STATUS', status],
    ]);
  }

  /** One line for `systemctl status`. */
  status(text: string): void {
    this.send([['STATUS', text]]);
  }

  watchdog(): void {
    this.send([['WATCHDOG', '1']]);
  }

  /** Sends WATCHDOG=1 as often as systemd wants it, as long as `isHealthy` says so and the event loop turns. */
  startWatchdog(isHealthy: () => boolean): void {
    if (this.watchdogIntervalMs === null || this.watchdogTimer !== null) return;
    this.watchdogTimer = setInterval(() => {
      if (isHealthy()) this.watchdog();
    }, this.watchdogIntervalMs);
    this.watchdogTimer.unref();
  }

  close(): void {
    if (this.watchdogTimer !== null) clearInterval(this.watchdogTimer);
    this.watchdogTimer = null;
    if (this.fd >= 0) addon.close(this.fd);
  }

  private send(assignments: readonly (readonly [string, string])[]): void {
    if (this.fd < 0) return;
    // A newline would begin another assignment.
    const text = assignments.map(([key, value]) => `${key}=${value.replaceAll('\n', ' ')}`).join('\n');
    if (addon.sendto(this.fd, Buffer.from(text), MSG_NOSIGNAL, this.address) < 0) this.failures++;
  }
}

/** sockaddr_un for a path or an abstract name, or null when there is none (or it is a kind that we do not speak). */
export function unixAddress(name: string): Uint8Array | null {
  if (name.length < 2 || (name[0] !== '/' && name[0] !== '@')) return null;
  const path = Buffer.from(name[0] === '@' ? `\0${name.slice(1)}` : `${name}\0`);
  if (path.length > SUN_PATH_BYTES) return null;
  const address = new Uint8Array(2 + path.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(path, 2);
  return address;
}

/** Half of what systemd allows, as sd_watchdog_enabled(3) advises; null when the watchdog is not for this process. */
function watchdogInterval(env: NotifyEnvironment, pid: number): number | null {
  const allowedUs = Number(env.WATCHDOG_USEC ?? 0);
  if (!(allowedUs > 0)) return null;
  if (env.WATCHDOG_PID !== undefined && Number(env.WATCHDOG_PID) !== pid) return null;
  return Math.max(1, Math.floor(allowedUs / 2000));
}
