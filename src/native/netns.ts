/**
 * Working inside another network namespace: descriptors stay in the namespace in which they were opened, so a caller
 * enters, opens, and leaves. Only the calling thread moves, and only for the duration of `action`.
 */
import { addon, check } from './addon.js';

const O_RDONLY = 0;
const CLONE_NEWNET = 0x4000_0000;

/** Runs `action` (synchronous) in the namespace called `name` (as `ip netns` names it). Needs CAP_SYS_ADMIN. */
export function inNamespace<T>(name: string, action: () => T): T {
  const home = check(addon.open('/proc/thread-self/ns/net', O_RDONLY), 'open own namespace');
  try {
    const there = check(addon.open(`/run/netns/${name}`, O_RDONLY), `open namespace ${name}`);
    try {
      check(addon.setns(there, CLONE_NEWNET), `enter namespace ${name}`);
    } finally {
      addon.close(there);
    }
    try {
      return action();
    } finally {
      check(addon.setns(home, CLONE_NEWNET), 'return to own namespace');
    }
  } finally {
    addon.close(home);
  }
}

/** Moves the calling thread (and what it spawns) into a namespace for good. */
export function enterNamespace(name: string): void {
  const there = check(addon.open(`/run/netns/${name}`, O_RDONLY), `open namespace ${name}`);
  try {
    check(addon.setns(there, CLONE_NEWNET), `enter namespace ${name}`);
  } finally {
    addon.close(there);
  }
}
