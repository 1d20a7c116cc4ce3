/** Everything that is wrong with a configuration, at once, each with its place. */

export interface ConfigError {
  readonly file: string;
  /** 1-based; 0 when the whole file is meant. */
  readonly line: number;
  readonly column: number;
  /** Key path such as `paths[1].role`, or '' for the whole file. */
  readonly path: string;
  /** What is wrong. */
  readonly message: string;
  /** What would be right, or ''. */
  readonly hint: string;
}

export class ConfigErrors extends Error {
  readonly code = 'MPTUN_CONFIG';

  constructor(readonly errors: readonly ConfigError[]) {
    super(errors.map(formatConfigError).join('\n'));
    this.name = 'ConfigErrors';
  }
}

/** `file:line:column: path: what is wrong; what would be right` */
export function formatConfigError(e: ConfigError): string {
  const place = e.line > 0 ? `${e.file}:${e.line}:${e.column}` : e.file;
  const path = e.path === '' ? '' : `${e.path}: `;
  return `${place}: ${path}${e.message}${e.hint === '' ? '' : `; ${e.hint}`}`;
}
