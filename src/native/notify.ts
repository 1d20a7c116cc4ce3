/** sd_notify(3): state lines to the service manager, if there is one. */
import { addon, SystemError } from './addon.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;
const SUN_PATH_BYTES = 108;

/**
 * Sends `state` ("READY=1", "STATUS=…", "WATCHDOG=1", lines joined by "\n") to $NOTIFY_SOCKET. False without one;
 * throws SystemError if it is there but does not take the message.
 */
export function notifyServiceManager(state: string, socketPath = process.env.NOTIFY_SOCKET ?? ''): boolean {
  if (socketPath === '') return false;
  const path = Buffer.from(socketPath);
  if (path.length >= SUN_PATH_BYTES) throw new RangeError(`NOTIFY_SOCKET is too long: ${socketPath}`);
  // "@name" is the abstract namespace: a leading NUL instead. Other names are paths.
  if (path[0] === 0x40) path[0] = 0;
  const name = Buffer.concat([Buffer.from([AF_UNIX, 0]), path]);
  const fd = addon.socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0) throw new SystemError('notify socket', -fd);
  try {
    const rc = addon.sendto(fd, Buffer.from(state), MSG_NOSIGNAL, name);
    if (rc < 0) throw new SystemError(`notify ${socketPath}`, -rc);
    return true;
  } finally {
    addon.close(fd);
  }
}
