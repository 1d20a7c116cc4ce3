import type { Mutation } from './mutation.js';

/** MPTCP 1. General in docs/protocol.md. */
export const mutations: readonly Mutation[] = [
  {
    row: 'G1',
    file: 'src/core/tcp/segment-arrives.ts',
    find: `      case 'duplicate':
`,
    replace: `      case 'duplicate':
        tcb.askOwner(nowUs, seg);
`,
  },
  {
    row: 'G2',
    file: 'src/core/tcp/isn.ts',
    find: 'getU32(this.#hash(flow), 0) + ',
    replace: '',
  },
  {
    row: 'G3',
    file: 'src/core/tcp/sender.ts',
    find: 'isBare && !isSignal',
    replace: 'isBare',
  },
  {
    row: 'G4',
    file: 'src/core/mptcp/subflow.ts',
    find: 'if (this.signalsInRow >= SIGNALS_IN_ROW) return false;',
    replace: '',
  },
  {
    row: 'G5',
    file: 'src/core/mptcp/joining.ts',
    find: `if (!c.isMptcp || c.state === 'closed' || isFull(c)) return false;`,
    replace: `if (c.state === 'closed' || isFull(c)) return false;`,
  },
  {
    row: 'G6',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'head(out, o, at - o, SUB_DSS << 4, flags);',
    replace: 'head(out, o, at - o, (SUB_DSS << 4) | 1, flags);',
  },
  {
    row: 'G6',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'head(out, o, FAIL_BYTES, SUB_FAIL << 4, 0);',
    replace: 'head(out, o, FAIL_BYTES, SUB_FAIL << 4, 1);',
  },
  {
    row: 'G7',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'const echo = (buf[o + 2]! & ECHO) !== 0;',
    replace: `const echo = (buf[o + 2]! & 0x0f) === ECHO;
  if ((buf[o + 2]! & 0x0e) !== 0) return 0;`,
  },
  {
    row: 'G8',
    file: 'src/core/wire/mptcp-options.ts',
    find: 'if (length !== FAIL_BYTES) return 0;',
    replace: '',
  },
  {
    row: 'G9',
    file: 'src/core/mptcp/connection.ts',
    find: 'readonly addresses = new AddressBook();',
    replace:
      'readonly addresses: AddressBook = ((globalThis as unknown as { book: AddressBook }).book ??= new AddressBook());',
  },
  {
    row: 'G10',
    file: 'src/core/mptcp/subflow.ts',
    find: "if (c.mode === 'tcp' || c.fallback.isUnderWay) {\n      if (m !== null)",
    replace: 'if (m !== null) {\n      if (m !== null)',
  },
  {
    row: 'G11',
    file: 'src/core/mptcp/closing.ts',
    find: `else this.orphanAtUs = nowUs + ORPHAN_TIMEOUT_US;
    }`,
    replace: `else this.orphanAtUs = nowUs + ORPHAN_TIMEOUT_US;
    }
    this.finish(text);`,
  },
];
