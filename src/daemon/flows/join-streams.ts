/** Two streams joined: bytes with the back-pressure of their reader, an end as an end, a reset as a reset, both ways. */
import type { Duplex } from 'node:stream';

export interface JoinOptions {
  /** What `far` brings is lent until its listener returns (daemon/duplex.ts). */
  readonly farLends: boolean;
  /** What `near` has said already (it may even have ended). */
  readonly first: Uint8Array;
  /** Bytes that `near` may still say, those included; the rest is not listened to. */
  readonly nearBytes: number;
  onUp(bytes: number): void;
  onDown(bytes: number): void;
  /** Both are over; `isBroken`: one of them before its end. */
  onEnd(isBroken: boolean): void;
  /** Ends `far` at once; `near` is the caller's, too. */
  abort(): void;
}

export function joinStreams(near: Duplex, far: Duplex, options: JoinOptions): void {
  let isBroken = false;
  let open = 2;
  let left = options.nearBytes;
  const fail = () => {
    if (isBroken) return;
    isBroken = true;
    options.abort();
  };
  const onUp = (chunk: Uint8Array) => {
    const said = chunk.length > left ? chunk.subarray(0, left) : chunk;
    left -= said.length;
    options.onUp(said.length);
    if (said.length > 0 && !far.write(said)) near.pause();
  };
  far.on('data', (chunk: Buffer) => {
    options.onDown(chunk.length);
    if (!near.write(options.farLends ? Buffer.from(chunk) : chunk)) far.pause();
  });
  onUp(options.first);
  near.on('data', onUp);
  near.on('drain', () => far.resume());
  far.on('drain', () => near.resume());
  if (near.readableEnded) far.end();
  else near.on('end', () => far.end());
  far.on('end', () => near.end());
  for (const stream of [near, far]) {
    stream.on('error', fail);
    stream.on('close', () => {
      if (!stream.readableEnded || !stream.writableFinished) fail();
      if (--open === 0) options.onEnd(isBroken);
    });
  } // Either may have been held until somebody listens.
  if (!far.writableNeedDrain) near.resume();
  far.resume();
}
