/**
 * A file that speaks for the host where a lab has no radio, no NetworkManager and no lid to close. Named by the environment
 * variable MPTUN_HOST_FEED and read again whenever it changes; never there in normal use. What it says of a link comes
 * before what the host says:
 *
 *   { "links": { "wlan0": { "type": "wifi", "ssid": "home", "signal_dbm": -61, "metered": false, "connectivity": "full" } },
 *     "slept_s": 600 }
 *
 * `slept_s` is added to CLOCK_BOOTTIME: raise it, and the host has slept. Replace the file by renaming another over it.
 */
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';

export const FEED_VARIABLE = 'MPTUN_HOST_FEED';

const linkSchema = z.strictObject({
  type: z.enum(['ethernet', 'wifi', 'cellular', 'usb']).optional(),
  ssid: z.string().nullable().optional(),
  signal_dbm: z.number().nullable().optional(),
  metered: z.boolean().nullable().optional(),
  connectivity: z.enum(['full', 'limited', 'portal', 'none']).nullable().optional(),
});
const feedSchema = z.strictObject({
  links: z.record(z.string(), linkSchema).default({}),
  slept_s: z.number().nonnegative().default(0),
});

export type FedLink = z.output<typeof linkSchema>;
export type Feed = z.output<typeof feedSchema>;

const NOTHING: Feed = { links: {}, slept_s: 0 };

export class HostFeed {
  #stamp = '';
  #feed: Feed = NOTHING;

  /** `onProblem` hears of a file that does not say what it should; what was said before stands. */
  constructor(
    private readonly file: string,
    private readonly onProblem: (message: string) => void,
  ) {
    this.refresh();
  }

  get current(): Feed {
    return this.#feed;
  }

  /** Reads the file if it has changed: `current` is another object then. */
  refresh(): void {
    const stamp = stampOf(this.file);
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    try {
      this.#feed = stamp === '' ? NOTHING : feedSchema.parse(JSON.parse(readFileSync(this.file, 'utf8')));
    } catch (error) {
      this.onProblem(`${this.file}: ${(error as Error).message}`);
    }
  }
}

/** Tells one content of the file from another; '' while there is none. */
function stampOf(file: string): string {
  try {
    const { ino, mtimeMs, size } = statSync(file);
    return `${ino} ${mtimeMs} ${size}`;
  } catch {
    return '';
  }
}
