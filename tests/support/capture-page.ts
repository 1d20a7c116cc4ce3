/** docs/captures.md: which captures were played, what our application did, and what we say otherwise than the kernel. */
import type { PlayResult } from './capture-plays.js';

const INTRO = `# The captures as two-party scripts

48 connections between two Linux kernels (6.18) were captured (\`tests/fixtures/vectors\`). Each is played to our stack twice: once
the server's packets to our client (A), once the client's to our server (B), with keys, nonces, ISNs and address ids forced, in
virtual time. Our application does what that kernel's did, read off the capture (data in a SYN included, sent and taken). Then what we
sent is compared with what that kernel sent: the fields of MP_CAPABLE and MP_JOIN with their HMACs, which data byte is which subflow byte, DSS checksums, the
DATA_ACK, the ACKs and the window (open or shut) whenever the line rests for 100 ms, DATA_FIN and the subflows that carry it, ADD_ADDR
and its echo, REMOVE_ADDR, MP_PRIO, MP_FAIL, MP_FASTCLOSE, MP_TCPRST, the SYNs' options, FIN and RST of each subflow; and what our
application reads with what the other one wrote. Not compared: segmentation, timing, congestion control, retransmissions, whether
data numbers take 32 or 64 bits (ours 32 wherever RFC 8684 3.3.1 admits it, to leave room for payload; Linux sends DSNs of 64 bits,
and DATA_ACKs of 32 until it has data with 64), the port from which a join is opened, the ACK flag of a RST.

Every difference is listed in \`tests/unit/captures/differences.ts\` with its value; \`tests/unit/captures/captures.test.ts\` fails
on one that is not listed, on a listed one that is not seen, and if this page is not what it says. To write the page anew:
\`node dist/tests/unit/captures/write-page.js\`.
`;

type Differences = Readonly<Record<string, readonly (readonly [what: string, ours: string, reason: string])[]>>;

export function capturesPage(results: readonly PlayResult[], differences: Differences, reasons: object): string {
  const lines = [INTRO, '| capture | side | our application | differences |', '|---|---|---|---|'];
  for (const { id, capture, end, script } of results) {
    const names = [...new Set((differences[id] ?? []).map(([, , reason]) => reason))];
    const side = `${end === 'A' ? 'client' : 'server'}${id.includes('#') ? ', second connection' : ''}`;
    lines.push(`| ${capture} | ${side} | ${script || 'reads'} | ${names.join('; ') || 'none'} |`);
  }
  lines.push('', '## The differences', '', '| name | why | where |', '|---|---|---|');
  for (const [name, why] of Object.entries(reasons)) {
    const where = Object.keys(differences).filter((id) => differences[id]!.some(([, , reason]) => reason === name));
    lines.push(`| ${name} | ${why} | ${where.join(', ')} |`);
  }
  return `${lines.join('\n')}\n`;
}
