/**
 * A daemon as systemd would run it from mptun@.service: not root, the two capabilities, /run/mptun and /var/lib/mptun of
 * its own, $NOTIFY_SOCKET and a watchdog. Its /run and /var/lib are private mounts: nothing of it is left on the host.
 */
import type { ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ControlClient } from '../../src/control/client.js';
import type { StatusDocument } from '../../src/control/protocol.js';
import { unixAddress } from '../../src/daemon/notify-systemd.js';
import { addon, check, Poller, READABLE } from '../../src/native/index.js';
import { configDirectory } from './config-files.js';
import { CHECKOUT_PARTS, REPOSITORY } from './files.js';
import type { TestNamespace } from './netns.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
/** Any user that is not root. */
const UID = 65534;
const NOTIFICATION_BYTES = 4096;

/**
 * The sample configurations with their keys, owned by the service's user: as they stand, but for one rule. A veth link is
 * of type `other`, which the samples do not use.
 */
export function serviceDirectory(t: ExecutionContext): string {
  const { path } = configDirectory(t);
  copyFileSync(join(REPOSITORY, 'configs', 'server.yaml'), join(path, 'server.yaml'));
  const client = readFileSync(join(REPOSITORY, 'configs', 'client.yaml'), 'utf8');
  writeFileSync(join(path, 'client.yaml'), client.replace('match: { type: wifi }', 'match: { type: other }'));
  for (const file of readdirSync(path)) chownSync(join(path, file), UID, UID);
  chmodSync(path, 0o755);
  return path;
}

/**
 * `sh -c START sh DIRECTORY NAME NODE CHECKOUT`: systemd's part of the unit, then exec, so that the process id stays. The
 * checkout may lie where only its owner gets, so the service sees what it needs of it through bind mounts.
 */
const START = `set -e
mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/mptun/$2; chown -R ${UID}:${UID} /var/lib/mptun
mount -t tmpfs tmpfs /run; mkdir /run/mptun; chown ${UID}:${UID} /run/mptun
mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun
for part in ${CHECKOUT_PARTS.join(' ')}; do
  mkdir -p /run/checkout/$part; mount --bind "$4/$part/." /run/checkout/$part
done
echo '{ "type": "module" }' >/run/checkout/package.json
exec setpriv --reuid=${UID} --regid=${UID} --clear-groups --no-new-privs --bounding-set=-all,+net_admin,+net_raw \
  --inh-caps=-all,+net_admin,+net_raw --ambient-caps=-all,+net_admin,+net_raw "$3" /run/checkout/bin/mptun run "$1/$2.yaml"`;

export class ServiceProcess {
  readonly exited: Promise<number | null>;
  /** stdout and stderr. */
  output = '';
  private readonly child: ChildProcess;
  private readonly notifyFd: number;
  private readonly notified: string[] = [];
  private static serial = 0;

  /** Starts `mptun run DIRECTORY/NAME.yaml` in `namespace`. */
  constructor(
    t: ExecutionContext,
    namespace: TestNamespace,
    directory: string,
    private readonly name: string,
  ) {
    const socket = join(directory, `notify-${ServiceProcess.serial++}`);
    const fd = check(addon.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket');
    check(addon.bind(fd, unixAddress(socket)!), 'bind');
    chmodSync(socket, 0o666);
    this.notifyFd = fd;
    const env = ['env', `NOTIFY_SOCKET=${socket}`, 'WATCHDOG_USEC=1000000'];
    this.child = namespace.spawn(...env, 'sh', '-c', START, 'sh', directory, name, process.execPath, REPOSITORY);
    this.child.stdout!.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    this.child.stderr!.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    this.exited = new Promise((resolve) => this.child.once('close', resolve));
    // Read as they come: the kernel queues ten datagrams (net.unix.max_dgram_qlen) and then refuses more.
    const poller = new Poller(fd, () => this.notifications());
    poller.watch(READABLE);
    t.teardown(async () => {
      poller.close();
      this.child.kill('SIGKILL');
      await this.exited;
      addon.close(fd);
      if (!t.passed) t.log(`${name}:\n${this.output}`);
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Control socket as seen from outside its mount namespace. */
  get socketPath(): string {
    return `/proc/${this.pid}/root/run/mptun/${this.name}.sock`;
  }

  get control(): ControlClient {
    return new ControlClient(this.socketPath);
  }

  /** Everything that it has told the service manager so far. */
  notifications(): readonly string[] {
    const room = new Uint8Array(NOTIFICATION_BYTES);
    for (let n = addon.recv(this.notifyFd, room, 0); n > 0; n = addon.recv(this.notifyFd, room, 0)) {
      this.notified.push(Buffer.from(room.subarray(0, n)).toString());
    }
    return this.notified;
  }

  /** Resolves with the first status that `isWanted` likes; rejects when it has exited or after `timeoutMs`. */
  async status(
    isWanted: (status: StatusDocument) => boolean,
    what: string,
    timeoutMs = 15_000,
  ): Promise<StatusDocument> {
    const deadline = performance.now() + timeoutMs;
    let last = 'no answer';
    while (performance.now() < deadline && this.child.exitCode === null && this.child.signalCode === null) {
      try {
        const status = await this.control.get<StatusDocument>('/v1/status');
        if (isWanted(status)) return status;
        last = `${status.state} (${status.reason})`;
      } catch (error) {
        last = (error as Error).message;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`${this.name}: ${what}: ${last}; exit ${this.child.exitCode}\n${this.output}`);
  }
}
