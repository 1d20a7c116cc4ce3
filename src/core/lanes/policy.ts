/**
 * The policy channel (DESIGN 3.3): what one end of a session wishes of the other's sending. MP_PRIO is all that RFC 8684
 * lets a client tell a server, so this travels as a capsule of our own, on every connection of the session. A message is
 * a whole picture, not a change: the newest (by `serial`) replaces all before it, so the order of arrival over several
 * connections does not matter.
 *
 *   message = version u8 (1), serial varint, { tag u8, length varint, value }*      unknown tags are skipped
 *   tag 1 path = role u8, state u8, rate varint (bytes/s, 0 = no limit), congestion text, name text,
 *                count u8, { lane u8, client's address id u8, server's address id u8 }*
 *   tag 2 mode = lane u8 (255 = all), mode text, scheduler text                     text = length u8, ASCII
 *   tag 3 load = 1: more waits here to be sent than the paths in use can carry; absent: no
 *
 * A path is named by the MPTCP address ids of its two ends in each connection (lane) of the session, because the peer, behind
 * a NAT, knows no other name for it. (Both: two paths may leave from one address.)
 */
import { readVarint, varintBytes, writeVarint } from './varint.js';

export const ROLES = ['always', 'overflow', 'backup', 'never'] as const;
export type PolicyRole = (typeof ROLES)[number];
/** What the sender of the message saw happen to the path. */
export const PATH_STATES = ['ok', 'going', 'gone', 'returned', 'silent'] as const;
export type PolicyPathState = (typeof PATH_STATES)[number];

/** A path in one connection, whoever speaks. */
export interface PolicyPathId {
  readonly lane: number;
  /** The client's. */
  readonly addressId: number;
  readonly serverAddressId: number;
}

export interface PolicyPath {
  readonly name: string;
  readonly role: PolicyRole;
  readonly state: PolicyPathState;
  /** Upper limit for what the peer sends on this path; 0 = none. */
  readonly rateLimitBytesPerS: number;
  /** Congestion control for the peer's sending, or '' for its own choice. */
  readonly congestion: string;
  readonly addressIds: readonly PolicyPathId[];
}

export interface PolicyMode {
  /** Index of the connection in the session, or ALL_LANES. */
  readonly lane: number;
  readonly mode: string;
  readonly scheduler: string;
}

export interface PolicyMessage {
  readonly serial: number;
  readonly paths: readonly PolicyPath[];
  readonly modes: readonly PolicyMode[];
  /** The sender of the message has more to send than the paths in use carry: overflow links are needed. */
  readonly isFull: boolean;
}

export const ALL_LANES = 255;
const VERSION = 1;
const TAG_PATH = 1;
const TAG_MODE = 2;
const TAG_LOAD = 3;
/** Paths (and modes) in one message; more make it malformed. */
export const MAX_POLICY_ENTRIES = 64;
const MAX_TEXT_BYTES = 63;
const MAX_IDS = 32;

export function encodePolicy(message: PolicyMessage): Uint8Array {
  const w = new Writer();
  w.u8(VERSION);
  w.varint(message.serial);
  for (const path of message.paths.slice(0, MAX_POLICY_ENTRIES)) {
    const v = new Writer();
    v.u8(ROLES.indexOf(path.role));
    v.u8(PATH_STATES.indexOf(path.state));
    v.varint(path.rateLimitBytesPerS);
    v.text(path.congestion);
    v.text(path.name);
    const ids = path.addressIds.slice(0, MAX_IDS);
    v.u8(ids.length);
    for (const id of ids) {
      v.u8(id.lane);
      v.u8(id.addressId);
      v.u8(id.serverAddressId);
    }
    w.tagged(TAG_PATH, v);
  }
  for (const mode of message.modes.slice(0, MAX_POLICY_ENTRIES)) {
    const v = new Writer();
    v.u8(mode.lane);
    v.text(mode.mode);
    v.text(mode.scheduler);
    w.tagged(TAG_MODE, v);
  }
  if (message.isFull) {
    const v = new Writer();
    v.u8(1);
    w.tagged(TAG_LOAD, v);
  }
  return w.take();
}

/** The message, or null if it is malformed or of a version that we do not know. */
export function parsePolicy(b: Uint8Array): PolicyMessage | null {
  const r = new Reader(b, 0, b.length);
  if (r.u8() !== VERSION) return null;
  const serial = r.varint();
  const paths: PolicyPath[] = [];
  const modes: PolicyMode[] = [];
  let isFull = false;
  while (!r.isDone && !r.failed) {
    const tag = r.u8();
    const v = r.sub(r.varint());
    if (tag === TAG_PATH) {
      const path = readPath(v);
      if (path === null || paths.push(path) > MAX_POLICY_ENTRIES) return null;
    } else if (tag === TAG_MODE) {
      const mode = { lane: v.u8(), mode: v.text(), scheduler: v.text() };
      if (v.failed || modes.push(mode) > MAX_POLICY_ENTRIES) return null;
    } else if (tag === TAG_LOAD) {
      isFull = v.u8() === 1;
      if (v.failed) return null;
    }
  }
  return r.failed ? null : { serial, paths, modes, isFull };
}

function readPath(v: Reader): PolicyPath | null {
  const role = ROLES[v.u8()];
  const state = PATH_STATES[v.u8()];
  const rateLimitBytesPerS = v.varint();
  const congestion = v.text();
  const name = v.text();
  const count = v.u8();
  if (count > MAX_IDS) return null;
  const addressIds: PolicyPathId[] = [];
  for (let i = 0; i < count; i++) addressIds.push({ lane: v.u8(), addressId: v.u8(), serverAddressId: v.u8() });
  if (v.failed || role === undefined || state === undefined) return null;
  return { name, role, state, rateLimitBytesPerS, congestion, addressIds };
}

class Writer {
  private readonly out: number[] = [];

  u8(v: number): void {
    this.out.push(v & 0xff);
  }

  varint(v: number): void {
    const b = new Uint8Array(8);
    const n = writeVarint(b, 0, v);
    for (let i = 0; i < n; i++) this.out.push(b[i]!);
  }

  /** Printable ASCII only; anything else becomes '?'. */
  text(s: string): void {
    const n = Math.min(s.length, MAX_TEXT_BYTES);
    this.u8(n);
    for (let i = 0; i < n; i++) {
      const c = s.charCodeAt(i);
      this.u8(c >= 0x20 && c < 0x7f ? c : 0x3f);
    }
  }

  tagged(tag: number, value: Writer): void {
    this.u8(tag);
    this.varint(value.out.length);
    for (const byte of value.out) this.out.push(byte);
  }

  take(): Uint8Array {
    return Uint8Array.from(this.out);
  }
}

class Reader {
  failed = false;

  constructor(
    private readonly b: Uint8Array,
    private o: number,
    private readonly end: number,
  ) {}

  get isDone(): boolean {
    return this.o >= this.end;
  }

  u8(): number {
    if (this.o >= this.end) {
      this.failed = true;
      return 0;
    }
    return this.b[this.o++]!;
  }

  varint(): number {
    if (this.o >= this.end || this.o + varintBytes(this.b[this.o]!) > this.end) {
      this.failed = true;
      return 0;
    }
    const v = readVarint(this.b, this.o);
    this.o += varintBytes(this.b[this.o]!);
    return v;
  }

  text(): string {
    const n = this.u8();
    if (n > MAX_TEXT_BYTES || this.o + n > this.end) {
      this.failed = true;
      return '';
    }
    let s = '';
    for (let i = 0; i < n; i++) {
      const c = this.b[this.o++]!;
      if (c < 0x20 || c >= 0x7f) this.failed = true;
      s += String.fromCharCode(c);
    }
    return s;
  }

  sub(n: number): Reader {
    const from = this.o;
    if (this.failed || from + n > this.end) {
      this.failed = true;
      return new Reader(this.b, this.end, this.end);
    }
    this.o = from + n;
    return new Reader(this.b, from, from + n);
  }
}
