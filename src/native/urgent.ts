/**
 * Urgent data of a kernel's socket (RFC 9293 3.8.5). By default Linux takes the last urgent byte out of the stream, and who
 * does not ask for it loses it; in line it stays where it was sent, as RFC 6093 has it.
 */
import type { Socket } from 'node:net';
import { addon, check } from './addon.js';

const SOL_SOCKET = 1;
const SO_OOBINLINE = 10;

/** To be called before anything is read. A socket that has gone meanwhile is left alone. */
export function keepUrgentInLine(socket: Socket): void {
  // Node has no such option, and no public name for the descriptor.
  const fd = (socket as unknown as { _handle: { fd?: number } | null })._handle?.fd ?? -1;
  if (fd >= 0) check(addon.setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, new Uint8Array([1, 0, 0, 0])), 'SO_OOBINLINE');
}
