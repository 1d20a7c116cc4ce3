/** What source files declare and which tests they hold, from the compiler's syntax trees. No types are computed. */
import { readFileSync } from 'node:fs';
import {
  isCallExpression,
  isIdentifier,
  isNoSubstitutionTemplateLiteral,
  isPropertyAccessExpression,
  isPropertyAssignment,
  isStringLiteral,
  isTemplateExpression,
  type Node,
} from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';
import { REPOSITORY } from './files.js';

export class Sources {
  private readonly api = new API({ cwd: REPOSITORY });
  private readonly programs = this.api
    .updateSnapshot({
      openProjects: ['src/core', 'src', 'tests', 'bench'].map((p) => `${REPOSITORY}/${p}/tsconfig.json`),
    })
    .getProjects()
    .map((project) => project.program);

  /** Names of everything that the file declares. A file that is not TypeScript: every word in it. */
  declared(file: string): ReadonlySet<string> {
    if (!file.endsWith('.ts')) return new Set(readFileSync(`${REPOSITORY}/${file}`, 'utf8').match(/[\w$]+/g));
    const names = new Set<string>();
    walk(this.root(file), (node) => {
      const { name } = node as Node & { name?: Node & { text?: string } };
      if (name?.text !== undefined) names.add(name.text);
    });
    return names;
  }

  /**
   * Titles as they stand in the source. Those of `test('…')` and `` test(`…`) `` (and of the interop matrix's `scenario`); and
   * if the file has tests whose title is a variable, or none of its own, also what may be in such a variable: first arguments
   * of calls, and properties called name or title.
   */
  testTitles(file: string): ReadonlySet<string> {
    const direct = new Set<string>();
    const indirect = new Set<string>();
    let isIndirect = false;
    walk(this.root(file), (node) => {
      if (isPropertyAssignment(node) && /^(name|title)$/.test(node.name.getText()))
        addTitle(indirect, node.initializer);
      if (!isCallExpression(node)) return;
      const [first] = node.arguments;
      if (first === undefined) return;
      if (!isTest(node.expression)) addTitle(indirect, first);
      else if (!addTitle(direct, first)) isIndirect = true;
    });
    return isIndirect || direct.size === 0 ? new Set([...direct, ...indirect]) : direct;
  }

  close(): void {
    this.api.close();
  }

  private root(file: string): Node {
    for (const program of this.programs) {
      const source = program.getSourceFile(`${REPOSITORY}/${file}`);
      if (source !== undefined) return source;
    }
    throw new Error(`${file} belongs to no project`);
  }
}

function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  node.forEachChild((child) => {
    walk(child, visit);
    return undefined;
  });
}

/** `test` or `test.serial` and the like, `scenario` and `scenarios`. */
function isTest(callee: Node): boolean {
  if (isPropertyAccessExpression(callee))
    return isTest(callee.expression) && !/^(before|after|always)/.test(callee.name.text);
  return isIdentifier(callee) && /^(test|scenarios?)$/.test(callee.text);
}

function addTitle(titles: Set<string>, node: Node): boolean {
  if (isStringLiteral(node) || isNoSubstitutionTemplateLiteral(node)) titles.add(node.text);
  else if (isTemplateExpression(node)) titles.add(node.getText().slice(1, -1));
  else return false;
  return true;
}
