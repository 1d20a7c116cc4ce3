/** The byte streams of kernel-peer.c: byte i of a seed, cheap to make and to check anywhere in the stream. */

/** Seed 1 is what we send (and a kernel in our place), 2 what the peer under test sends. */
export type Seed = 1 | 2;

const made = new Map<Seed, Buffer>();

/** Bytes [from, to) of the stream. */
export function pattern(seed: Seed, from: number, to: number): Buffer {
  let buffer = made.get(seed) ?? Buffer.alloc(0);
  if (buffer.length < to) {
    const first = buffer.length;
    const longer = Buffer.alloc(Math.max(1 << 20, 2 ** Math.ceil(Math.log2(to))));
    buffer.copy(longer);
    for (let i = first; i < longer.length; i += 4) longer.writeUInt32LE(word(seed, i >>> 2), i);
    buffer = longer;
    made.set(seed, buffer);
  }
  return buffer.subarray(from, to);
}

function word(seed: Seed, i: number): number {
  let x = (Math.imul(i, 0x9e3779b1) + seed) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b) >>> 0;
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35) >>> 0;
  return (x ^ (x >>> 16)) >>> 0;
}
