/**
 * The server's addresses, found outside the tunnel (DESIGN 3.3): each link is asked by itself, through a UDP socket bound
 * to its device, so that neither the tunnel's routes nor a resolver inside it is needed; and the last good addresses
 * are kept in the state directory, because what was right yesterday beats having nothing today.
 */
import { randomInt } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type IpAddress, parseIp } from '../core/base/ip.js';
import { addon, check, Poller, READABLE } from '../native/index.js';
import { encodeQuery, parseAnswer } from './dns-message.js';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
const DNS_PORT = 53;
/** Each name server is asked twice, this far apart; then the next. */
const ANSWER_MS = 1_000;
const TRIES = 2;
const MAX_ANSWER_BYTES = 4_096;

/** Where name servers are written down, best first: systemd-resolved's own list knows the real ones behind its stub. */
const RESOLV_CONF = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf'];

export interface ResolverOptions {
  readonly host: string;
  /** Not empty: these, and nobody is asked. */
  readonly addresses: readonly IpAddress[];
  readonly stateDir: string;
  /** Files that name servers are read from; default RESOLV_CONF. */
  readonly resolvConf?: readonly string[];
}

export class Resolver {
  private known: readonly IpAddress[];
  private readonly isFixed: boolean;
  private readonly file: string;

  constructor(private readonly options: ResolverOptions) {
    const literal = literalAddress(options.host);
    this.file = join(options.stateDir, 'server-addresses.json');
    this.isFixed = options.addresses.length > 0 || literal !== null;
    this.known = options.addresses.length > 0 ? options.addresses : literal !== null ? [literal] : this.load();
  }

  /** What is known now, perhaps from an earlier run. */
  get addresses(): readonly IpAddress[] {
    return this.known;
  }

  /** Asks through `linkName`; true if the addresses are now (again) known to be right. Never throws. */
  async refresh(linkName: string): Promise<boolean> {
    if (this.isFixed) return true;
    for (const server of nameServers(this.options.resolvConf)) {
      const answers = await Promise.all([
        ask(linkName, server, this.options.host, 4),
        ask(linkName, server, this.options.host, 6),
      ]);
      const addresses = answers.flatMap((a) => a ?? []);
      if (addresses.length === 0) continue;
      this.known = addresses;
      this.save();
      return true;
    }
    return false;
  }

  private load(): IpAddress[] {
    try {
      const saved = JSON.parse(readFileSync(this.file, 'utf8')) as { host: string; addresses: string[] };
      return saved.host === this.options.host ? saved.addresses.map(parseIp) : [];
    } catch {
      return [];
    }
  }

  private save(): void {
    const text = JSON.stringify({ host: this.options.host, addresses: this.known.map((a) => a.text) });
    try {
      writeFileSync(`${this.file}.new`, text);
      renameSync(`${this.file}.new`, this.file);
    } catch {
      // Without a state directory the next start has to ask; nothing else is lost.
    }
  }
}

/** Name servers of the host that can be asked from any link: loopback stubs cannot. */
export function nameServers(files: readonly string[] = RESOLV_CONF): IpAddress[] {
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      continue;
    }
    const servers = [...text.matchAll(/^\s*nameserver\s+([0-9a-fA-F.:]+)/gm)]
      .map((m) => literalAddress(m[1]!))
      .filter((a) => a !== null)
      .filter((a) => (a.family === 4 ? a.bytes[0] !== 127 : a.text !== '::1'));
    if (servers.length > 0) return servers;
  }
  return [];
}

/** One question to one server through one device; null without an answer. */
function ask(linkName: string, server: IpAddress, host: string, family: 4 | 6): Promise<IpAddress[] | null> {
  const id = randomInt(0x1_0000);
  const query = encodeQuery(id, host, family);
  if (query === null) return Promise.resolve(null);
  return new Promise((resolve) => {
    let fd = -1;
    let poller: Poller | null = null;
    let timer: NodeJS.Timeout | null = null;
    const finish = (answer: IpAddress[] | null) => {
      if (timer !== null) clearTimeout(timer);
      poller?.close();
      if (fd >= 0) addon.close(fd);
      fd = -1;
      resolve(answer);
    };
    try {
      fd = check(addon.socket(server.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0), 'resolver socket');
      check(addon.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${linkName}\0`)), `bind to ${linkName}`);
      // Connected: the kernel lets in nothing but this server's answers.
      check(addon.connect(fd, socketAddress(server, DNS_PORT)), 'resolver');
      const room = Buffer.alloc(MAX_ANSWER_BYTES);
      poller = new Poller(fd, () => {
        const n = addon.recv(fd, room, 0);
        if (n <= 0) return finish(null);
        const answer = parseAnswer(room.subarray(0, n), id, family);
        if (answer !== null) finish(answer);
      });
      poller.watch(READABLE);
      let tries = 0;
      const send = () => {
        if (tries++ === TRIES || addon.sendto(fd, query, 0, null) < 0) return finish(null);
        timer = setTimeout(send, ANSWER_MS);
      };
      send();
    } catch {
      finish(null);
    }
  });
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: IpAddress, port: number): Uint8Array {
  const name = Buffer.alloc(address.family === 4 ? 16 : 28);
  name.writeUInt16LE(address.family === 4 ? AF_INET : AF_INET6, 0);
  name.writeUInt16BE(port, 2);
  name.set(address.bytes, address.family === 4 ? 4 : 8);
  return name;
}

function literalAddress(text: string): IpAddress | null {
  try {
    return parseIp(text);
  } catch {
    return null;
  }
}
