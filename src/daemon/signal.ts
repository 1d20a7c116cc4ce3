/**
 * What the radio says: the network that a WiFi link is in and how well it hears the access point. nl80211 tells all of it,
 * /proc/net/wireless (older drivers) the signal only; where there is neither nothing is known, and nothing depends on it.
 */
import { readFileSync } from 'node:fs';
import { Nl80211 } from '../native/index.js';

/** Often enough for the judgement of a signal that falls within seconds, at the price of one system call ... */
export const SAMPLE_MS = 250;
/** ... and while it falls, or a verdict stands that may be taken back at any moment. */
export const RESTLESS_SAMPLE_MS = 100;

/** No receiver hears less. */
const WEAKEST_DBM = -120;

export interface RadioReading {
  readonly ssid: string | null;
  readonly signalDbm: number | null;
  /** False: it is an access point of ours, or a monitor, and leads nowhere. */
  readonly isStation: boolean;
}

/** Where readings come from. Synchronous, and cheap enough for every sample. */
export interface SignalSource {
  /** null: nothing is known of this link. */
  read(link: { readonly id: number; readonly name: string }): RadioReading | null;
  close(): void;
}

/** The host's own sources. Opens in the caller's network namespace. */
export function openSignalSource(procFile: string = '/proc/net/wireless'): SignalSource {
  const nl80211 = Nl80211.open();
  return {
    read({ id, name }) {
      const state = nl80211?.state(id) ?? null;
      if (state !== null) return { ...state, signalDbm: nl80211!.signalDbm(id) };
      const signalDbm = parseProcWireless(readText(procFile), name);
      return signalDbm === null ? null : { ssid: null, signalDbm, isStation: true };
    },
    close: () => nl80211?.close(),
  };
}

/**
 * The level column of /proc/net/wireless: `wlan0: 0000   54.  -56.  -256 …`. Drivers that print it unsigned mean what is
 * left after taking away 256 (struct iw_quality holds a byte).
 */
export function parseProcWireless(text: string, name: string): number | null {
  for (const line of text.split('\n')) {
    const [head, rest] = line.split(/:(.*)/, 2);
    if (rest === undefined || head!.trim() !== name) continue;
    const level = Number.parseFloat(rest.trim().split(/\s+/)[2] ?? '');
    const dbm = level > 0 ? level - 256 : level;
    // A level on a scale of the driver's own is no signal strength.
    return dbm < 0 && dbm >= WEAKEST_DBM ? dbm : null;
  }
  return null;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
