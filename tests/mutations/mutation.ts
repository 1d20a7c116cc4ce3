/** The smallest edit that disables a rule of docs/protocol.md. A test that the rule's row names must then fail. */
export interface Mutation {
  /** Row of the section that the file is named after; several if they are one rule in the code. */
  readonly row: string | readonly string[];
  /** Source file, from the repository's root. */
  readonly file: string;
  /** Exact text that occurs once in the file. */
  readonly find: string;
  readonly replace: string;
}

export const rowsOf = ({ row }: Mutation): readonly string[] => (typeof row === 'string' ? [row] : row);
