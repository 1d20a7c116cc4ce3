/**
 * Where the system's own tools are (nft, ip). Not through $PATH alone: under npm it begins with node_modules/.bin, where
 * a package's command of the same name ("nft") may lie; and a service's or user's PATH may lack sbin.
 */
import { accessSync, constants } from 'node:fs';

/** A PATH for running system tools. */
export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The absolute path of a system tool, or null if it is not installed. */
export function findTool(name: string, path: string = SYSTEM_PATH): string | null {
  for (const directory of path.split(':')) {
    const candidate = `${directory}/${name}`;
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this one.
    }
  }
  return null;
}
