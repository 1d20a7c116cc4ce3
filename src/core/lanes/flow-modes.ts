/**
 * What the client wishes of the server's sending on single connections (flows), while they run: a capsule of ours beside the
 * policy's, on any connection of the session. Each entry stands for itself, and a later one about the same connection replaces it.
 *
 *   message = version u8 (1), { token u32, scheduler text }*      text = length u8, ASCII      token: the server's (RFC 8684 3.2)
 */
export interface FlowMode {
  readonly token: number;
  readonly scheduler: string;
}

const VERSION = 1;
const MAX_TEXT_BYTES = 32;
/** Entries of one message; a sender with more makes several. */
export const MAX_FLOW_MODES = 256;

export function encodeFlowModes(modes: readonly FlowMode[]): Uint8Array {
  const out: number[] = [VERSION];
  for (const { token, scheduler } of modes.slice(0, MAX_FLOW_MODES)) {
    out.push((token >>> 24) & 255, (token >>> 16) & 255, (token >>> 8) & 255, token & 255);
    const length = Math.min(MAX_TEXT_BYTES, scheduler.length);
    out.push(length);
    for (let i = 0; i < length; i++) out.push(scheduler.charCodeAt(i) & 0x7f);
  }
  return Uint8Array.from(out);
}

/** Null: malformed, or of a version that we do not know. */
export function parseFlowModes(b: Uint8Array): FlowMode[] | null {
  if (b[0] !== VERSION) return null;
  const modes: FlowMode[] = [];
  for (let o = 1; o < b.length; ) {
    if (o + 5 > b.length || modes.length === MAX_FLOW_MODES) return null;
    const token = ((b[o]! << 24) | (b[o + 1]! << 16) | (b[o + 2]! << 8) | b[o + 3]!) >>> 0;
    const end = o + 5 + b[o + 4]!;
    if (b[o + 4]! > MAX_TEXT_BYTES || end > b.length) return null;
    let scheduler = '';
    for (let i = o + 5; i < end; i++) {
      if (b[i]! < 0x20 || b[i]! > 0x7e) return null;
      scheduler += String.fromCharCode(b[i]!);
    }
    modes.push({ token, scheduler });
    o = end;
  }
  return modes;
}
