/**
 * Netlink messages (linux/netlink.h), little-endian hosts:
 *   nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 port id; then a fixed part; then attributes
 *   attribute: u16 length (with its header of 4), u16 type, payload; everything padded to 4
 */

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

const HEADER_BYTES = 16;
const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;

/** Grows as needed; `finish` returns the message. */
export class MessageBuilder {
  #buf = Buffer.alloc(256);
  #used = HEADER_BYTES;

  constructor(type: number, flags: number) {
    this.#buf.writeUInt16LE(type, 4);
    this.#buf.writeUInt16LE(flags, 6);
  }

  /** The fixed part that follows the header. */
  fixed(bytes: Uint8Array): this {
    this.#append(bytes);
    return this;
  }

  attribute(type: number, payload: Uint8Array): this {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(payload.length + 4, 0);
    head.writeUInt16LE(type, 2);
    this.#append(Buffer.concat([head, payload]));
    return this;
  }

  u32(type: number, value: number): this {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(value >>> 0);
    return this.attribute(type, payload);
  }

  string(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`));
  }

  nested(type: number, fill: (inner: MessageBuilder) => void): this {
    const inner = new MessageBuilder(0, 0);
    fill(inner);
    return this.attribute(type | NLA_F_NESTED, inner.#buf.subarray(HEADER_BYTES, inner.#used));
  }

  finish(sequence: number): Uint8Array {
    this.#buf.writeUInt32LE(this.#used, 0);
    this.#buf.writeUInt32LE(sequence, 8);
    return this.#buf.subarray(0, this.#used);
  }

  #append(bytes: Uint8Array): void {
    const padded = align4(bytes.length);
    if (this.#used + padded > this.#buf.length) {
      const grown = Buffer.alloc(2 * (this.#used + padded));
      this.#buf.copy(grown, 0, 0, this.#used);
      this.#buf = grown;
    }
    this.#buf.set(bytes, this.#used);
    this.#used += padded;
  }
}

/** One received message; `body` is what follows nlmsghdr, in the receive buffer (copy what is kept). */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Buffer;
}

/** Splits what one recv returned. A damaged tail is ignored. */
export function parseMessages(bytes: Buffer): Message[] {
  const messages: Message[] = [];
  for (let o = 0; o + HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32LE(o);
    if (length < HEADER_BYTES || o + length > bytes.length) break;
    messages.push({
      type: bytes.readUInt16LE(o + 4),
      flags: bytes.readUInt16LE(o + 6),
      sequence: bytes.readUInt32LE(o + 8),
      body: bytes.subarray(o + HEADER_BYTES, o + length),
    });
    o += align4(length);
  }
  return messages;
}

/** Attributes from `offset` on, by type (the last of equals wins, as in the kernel). */
export function parseAttributes(body: Buffer, offset: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  for (let o = offset; o + 4 <= body.length; ) {
    const length = body.readUInt16LE(o);
    if (length < 4 || o + length > body.length) break;
    attributes.set(body.readUInt16LE(o + 2) & NLA_TYPE_MASK, body.subarray(o + 4, o + length));
    o += align4(length);
  }
  return attributes;
}

/** A NUL-terminated string attribute. */
export function attributeString(payload: Buffer | undefined): string {
  if (payload === undefined) return '';
  const end = payload.indexOf(0);
  return payload.toString('utf8', 0, end < 0 ? payload.length : end);
}

function align4(n: number): number {
  return (n + 3) & ~3;
}
