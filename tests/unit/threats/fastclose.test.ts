/** MP_FASTCLOSE by somebody else (RFC 8684 3.5): the key decides. */
import test from 'ava';
import { writeFastclose } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript } from '../../support/mptcp-script.js';

for (const { flags, name } of [
  { flags: '.', name: 'an ACK' },
  { flags: 'R', name: 'a RST' },
]) {
  test(`MP_FASTCLOSE with a wrong key on ${name}: the connection lives`, (t) => {
    const script = MptcpScript.joined(2);
    const { c, p1 } = script;
    const { localHi, localLo, remoteHi, remoteLo } = c.keys;
    for (const [hi, lo] of [
      [localHi, (localLo ^ 1) >>> 0],
      [(localHi ^ 0x8000_0000) >>> 0, localLo],
      // The right bytes of the wrong end.
      [remoteHi, remoteLo],
    ] as const) {
      p1.exchange({ flags, seq: p1.sf?.tcp.rcvNxt ?? 1, options: (out, o) => writeFastclose(out, o, hi, lo) });
      t.is(c.state, 'established');
      if (flags === 'R') break;
    }
    // A RST with RCV.NXT ends its own subflow whatever it carries.
    t.is(c.subflows.length, flags === 'R' ? 1 : 2);
  });
}
