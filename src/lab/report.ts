/** The demo's progress and results as text, one step per line, and its JSON document. */

export const DEMO_SCHEMA = 'mptun.demo/1';

export interface DemoDocument {
  readonly schema: typeof DEMO_SCHEMA;
  readonly links: readonly LinkResult[];
  readonly bonded: { readonly down_bps: number; readonly up_bps: number; readonly efficiency: UpDown };
  readonly cut: {
    readonly gap_s: number;
    /** null: the link was not used again before the transfer ended. */
    readonly back_in_use_s: number | null;
    readonly sha256_equal: boolean;
  };
}

export interface LinkResult {
  readonly name: string;
  /** Towards the client, IP bytes; of a recorded link its mean. */
  readonly rate_bps: number;
  readonly alone_bps: UpDown;
  readonly alone_tunnel_bps: UpDown;
}

export interface UpDown {
  readonly down: number;
  readonly up: number;
}

/** Writes steps as they happen. On a terminal the step under way shows a live figure, which its result replaces. */
export class Reporter {
  readonly #out: NodeJS.WriteStream;
  #label = '';
  #lastLiveMs = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  heading(text: string): void {
    this.#out.write(`\n${text}\n`);
  }

  line(text: string): void {
    this.#out.write(`  ${text}\n`);
  }

  /** Begins a step: what is being measured. */
  begin(label: string): void {
    this.#label = `  ${label.padEnd(LABEL_COLUMNS)}`;
    this.#out.write(this.#label);
  }

  /** A figure that will change; shown on terminals, four times a second. */
  live(text: () => string, nowMs: number): void {
    if (!this.#out.isTTY || nowMs - this.#lastLiveMs < 250) return;
    this.#lastLiveMs = nowMs;
    this.#out.write(`\r\x1b[K${this.#label}${text()}`);
  }

  /** Ends the step begun last. */
  end(result: string): void {
    this.#out.write(this.#out.isTTY ? `\r\x1b[K${this.#label}${result}\n` : `${result}\n`);
    this.#label = '';
  }
}

/** `47.9 Mbit/s`, right-aligned in 12 columns. */
export function mbit(bps: number): string {
  return `${(bps / 1e6).toFixed(1)} Mbit/s`.padStart(12);
}

/** One character per value, 0 to `full`: a blank means that nothing arrived. */
export function sparkline(values: readonly number[], full: number): string {
  const bars = ' ▁▂▃▄▅▆▇█';
  return values.map((v) => bars[v <= 0 ? 0 : Math.min(8, Math.max(1, Math.round((v / full) * 8)))]).join('');
}

const LABEL_COLUMNS = 34;
