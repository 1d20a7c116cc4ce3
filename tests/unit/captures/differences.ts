/**
 * Where our stack says something else than the kernel did in its place: by play, the statement, what we say, and the name of
 * the reason. A difference that is not listed fails the test, and so does one that is listed and not seen any more.
 */

export const REASONS = {
  'signals prove the keys':
    'An ADD_ADDR with a right HMAC came before our first data: it proves that the peer has our key, so the data need not repeat MP_CAPABLE (RFC 8684 3.1). Linux waits for a DSS.',
  'joins wait for a DSS':
    'We open no further subflow before a DSS has come through (RFC 8684 3.1: options may pass on SYNs and not on data). Linux joins as soon as an address is announced. The same packets follow, later.',
  'fast close is answered':
    'RFC 8684 3.5: upon a RST with MP_FASTCLOSE all subflows are torn down by sending a RST. Linux closes them in silence.',
  'checksum flag in the answer':
    'The client asks for checksums, so they are used (RFC 8684 3.1): our SYN/ACK says so too. Linux repeats its own setting there, and uses them as well.',
  'retroactive infinite mapping':
    "After MP_FAIL our infinite mapping begins at the first byte that was not DATA_ACKed (RFC 8684 3.7: the data-level sequence from which the fallback counts), the kernel's at the next new byte. Both are the same line, dsn = ssn.",
  'DSN of the answering MP_FAIL':
    'Our MP_FAIL for the other direction names the next byte that we expect (RFC 8684 3.7); Linux names the first byte of the connection.',
  'DATA_ACK behind MP_FAIL':
    'The bytes that failed their checksum on the only subflow go to the application, as on plain TCP, and we DATA_ACK them until the infinite mapping comes; Linux stops the DATA_ACK before them.',
  'a dead path is reset at the end':
    'Behind bytes that reached the peer by another path a FIN would wait for a path that is dead: we reset it (MP_TCPRST reason 4, transient; RFC 8684 3.3.3), Linux goes on sending them again.',
  'falling back is told':
    'Our end sees that options do not pass and sends an infinite mapping with its next data, as RFC 8684 3.7 has it; Linux stops using options without a word.',
  'no RST for a RST':
    'The peer has reset the subflow. Linux sends a RST of its own; a RST is never answered with one (RFC 9293 3.5.2).',
  'refused at the SYN':
    'No further subflow is allowed: we refuse with a RST (reason 3) at once (RFC 8684 3.2), Linux after the third packet, with the same reason.',
  'a full segment or half the window':
    'The window leaves 1404 bytes behind five segments of ours, less than a segment and than half of the largest window: we wait until data in flight is acknowledged (RFC 9293 3.8.6.2.1), Linux sends what its segments leave. The kernel acknowledges all 8544 bytes at once, so that in the capture nothing else comes; later they leave all the same.',
  'no data byte is sent twice':
    'When the window opens again Linux sends the byte that it probed with once more under a new mapping; our probe is a retransmission of subflow bytes, so that nothing is repeated.',
  'no Fast Open':
    'The cookie request is ignored, data in a SYN are left there (RFC 7413 3: allowed; the client sends them again). The SYN/ACK without a cookie has room for timestamps.',
  'joins are found by token':
    'A MP_JOIN is matched by its token, whatever the port listens or not (RFC 8684 3.2); Linux needs a listener on the port and resets.',
  'only what is missing is sent again':
    'When a subflow dies we send again what was outstanding on it; Linux sends again everything that is not DATA_ACKed, on the subflow that has it outstanding too.',
  'plain SYNs after two with MP_CAPABLE':
    'SYNs lose MP_CAPABLE after two tries of ours (the connection stands at once when a plain one gets through), after three of Linux (RFC 8684 3.9.3 leaves the number open).',
} as const;

export type Reason = keyof typeof REASONS;

/** Statement, what we say, reason. */
export type Expected = readonly [what: string, ours: string, reason: Reason];

export const DIFFERENCES: Readonly<Record<string, readonly Expected[]>> = {
  '05 A': [['sf0 first data', 'DSS', 'signals prove the keys']],
  '06 A': [['sf1 opens', 'after the first DSS', 'joins wait for a DSS']],
  '09 A': [['sf1 opens', 'after the first DSS', 'joins wait for a DSS']],
  '13 A': [['sf0 RST', 'MP_TCPRST reason 4 flags 1', 'a dead path is reset at the end']],
  '14 B': [['sf1 RST', 'no MP_TCPRST', 'fast close is answered']],
  '18 B': [['sf0 SYN/ACK asks', 'MP_CAPABLE v1 flags 81 key 65e55f63e2992f21', 'checksum flag in the answer']],
  '20 A': [
    ['sf0 infinite mapping', 'ssn 11 dsn 11 checksum 0', 'retroactive infinite mapping'],
    ['MP_FAIL', 'dsn 11 on sf0', 'DSN of the answering MP_FAIL'],
  ],
  '20 B': [
    ['rest 2 DATA_ACK', '5011', 'DATA_ACK behind MP_FAIL'],
    ['rest 3 DATA_ACK', '5011', 'DATA_ACK behind MP_FAIL'],
    ['sf0 infinite mapping', 'ssn 11 dsn 11 checksum 0', 'falling back is told'],
  ],
  '23 A': [['sf0 infinite mapping', 'ssn 1 dsn 1 checksum -1', 'falling back is told']],
  '24 A': [['sf0 infinite mapping', 'ssn 1 dsn 1 checksum -1', 'falling back is told']],
  '29 A': [['sf1 RST', '', 'no RST for a RST']],
  '32 A': [['sf1 RST', '', 'no RST for a RST']],
  '33 A': [['sf1 RST', '', 'no RST for a RST']],
  '33 B': [
    ['sf1 SYN/ACK', '', 'refused at the SYN'],
    ['sf1 SYN/ACK asks', '', 'refused at the SYN'],
    ['the play', 'a SYN is not there for the packet at 0.000 s', 'refused at the SYN'],
  ],
  '34 A': [['sf1 opens', 'after the first DSS', 'joins wait for a DSS']],
  '36 A': [['sf1 opens', 'after the first DSS', 'joins wait for a DSS']],
  '37 A': [['sf1 RST', 'MP_TCPRST reason 4 flags 1', 'a dead path is reset at the end']],
  '38 A': [
    ['sf0 subflow bytes', '1 are dsn 1, 60000 bytes', 'no data byte is sent twice'],
    ['sf0 sent again', '', 'no data byte is sent twice'],
    ['the play', 'data from 7121 on is not there for the packet at 0.043 s', 'a full segment or half the window'],
    ['the play', 'data from 7121 on is not there for the packet at 0.459 s', 'a full segment or half the window'],
    ['the play', 'data from 7121 on is not there for the packet at 1.502 s', 'a full segment or half the window'],
  ],
  '40 B': [['sf0 SYN/ACK', 'MSS 1460 SACK TS WS', 'no Fast Open']],
  '42 B': [
    ['sf1 RST', '', 'joins are found by token'],
    ['sf1 SYN/ACK', 'MSS 1460 SACK TS WS', 'joins are found by token'],
    ['sf1 SYN/ACK asks', 'MP_JOIN id 0 backup 0 hmac 841b639d93ebdfcb nonce 00000000', 'joins are found by token'],
  ],
  '43 A': [
    ['sf1 RST', '', 'joins are found by token'],
    ['sf1 SYN/ACK', 'MSS 1460 SACK TS WS', 'joins are found by token'],
    ['sf1 SYN/ACK asks', 'MP_JOIN id 1 backup 0 hmac 73d31ddb7eeadb55 nonce 00000000', 'joins are found by token'],
  ],
  '46 B': [['sf0 sent again', 'dsn 64523 to 66886', 'only what is missing is sent again']],
  '47 A': [
    [
      'sf0 SYN asks',
      'MP_CAPABLE v1 flags 01 (2 times), then plain TCP (2 times)',
      'plain SYNs after two with MP_CAPABLE',
    ],
  ],
  '48 A': [['sf0 first data', 'DSS', 'signals prove the keys']],
};
