import type { Mutation } from './mutation.js';

/** TCP 3. Window scale, timestamps, PAWS (RFC 7323) in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'S1',
    file: 'src/core/tcp/handshake.ts',
    find: 'Math.min(seg.wscale, MAX_SHIFT)',
    replace: 'seg.wscale',
  },
  {
    row: 'S1',
    file: 'src/core/tcp/handshake.ts',
    find: 'n.offerWscale &&= seg.wscale >= 0;',
    replace: '',
  },
  {
    row: 'S2',
    file: 'src/core/tcp/sender.ts',
    find: 'this.space.onPeerSyn(seg.window);',
    replace: 'this.space.onPeerSyn(seg.window * 256);',
  },
  {
    row: 'S3',
    file: 'src/core/tcp/segment-writer.ts',
    find: 'else if (this.ts.enabled) {',
    replace: "else if (this.ts.enabled && kind === 'data') {",
  },
  {
    row: 'S4',
    file: 'src/core/tcp/timestamps.ts',
    find: 'if (seq > lastAckSent) return;',
    replace: '',
  },
  {
    row: 'S5',
    file: 'src/core/tcp/acceptance.ts',
    find: 'ts.enabled && seg.hasTs && !isRst && ts.failsPaws',
    replace: 'ts.enabled && seg.hasTs && isRst && ts.failsPaws',
  },
  {
    row: 'S5',
    file: 'src/core/tcp/timestamps.ts',
    find: '< -PAWS_SLACK_TICKS',
    replace: '< 0',
  },
  {
    row: 'S6',
    file: 'src/core/tcp/timestamps.ts',
    find: 'Math.floor(nowUs / US_PER_MS)',
    replace: 'Math.floor(nowUs)',
  },
  {
    row: 'S6',
    file: 'src/core/tcp/timestamps.ts',
    find: '% 0x1_0000_0000) + offset) >>> 0',
    replace: '% 0x1_0000_0000)) >>> 0',
  },
  {
    row: 'S7',
    file: 'src/core/tcp/timestamps.ts',
    find: 'if (!this.#hasRecent || nowUs - this.#recentUs > RECENT_LIFETIME_US) return false;',
    replace: 'if (!this.#hasRecent) return false;',
  },
  {
    row: 'S1',
    file: 'src/core/tcp/segment-writer.ts',
    find: 'const wscale = n.offerWscale ? this.sf.config.windowScale : -1;',
    replace: 'const wscale = this.sf.config.windowScale;',
  },
  {
    row: 'S2',
    file: 'src/core/tcp/segment-writer.ts',
    find: 'if (isSyn) return this.receiver.advertise(Math.min(bytes, 0xffff), 0, false);',
    replace: '',
  },
  {
    row: 'S3',
    file: 'src/core/tcp/acceptance.ts',
    find: 'if (ts.enabled && seg.hasTs && !isRst && ts.failsPaws(nowUs, seg.tsVal)) {',
    replace: 'if (ts.enabled && !isRst && (!seg.hasTs || ts.failsPaws(nowUs, seg.tsVal))) {',
  },
];
