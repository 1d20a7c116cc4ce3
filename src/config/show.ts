/** A configuration written out again, each value with where it comes from. */
import { Document, isMap, isScalar, isSeq, type Node } from 'yaml';

import { formatKeyPath, type KeyPath } from './document.js';
import type { LoadedConfig } from './load.js';

/**
 * YAML text with a comment at each value: the line of the file, `default`, or what the default was made from. The text
 * loads again to the same configuration (relative paths permitting).
 */
export function showEffective(loaded: LoadedConfig): string {
  const output = new Document(loaded.raw);
  const derived = new Map(loaded.derived.map((d) => [formatKeyPath(d.path), d]));
  for (const d of loaded.derived) output.setIn(d.path, output.createNode(d.value));

  const annotate = (node: unknown, path: KeyPath): void => {
    if (isMap(node)) {
      for (const pair of node.items) annotate(pair.value, [...path, String((pair.key as { value: unknown }).value)]);
    } else if (isSeq(node) && node.items.some((item) => !isScalar(item))) {
      for (const [i, item] of node.items.entries()) annotate(item, [...path, i]);
    } else {
      if (isSeq(node)) node.flow = true;
      (node as Node).comment = ` ${origin(path)}`;
    }
  };
  const origin = (path: KeyPath): string => {
    const from = derived.get(formatKeyPath(path))?.from;
    if (from !== undefined) return `default, from ${from}`;
    return loaded.document.has(path) ? `line ${loaded.document.position(path).line}` : 'default';
  };
  annotate(output.contents, []);
  return output.toString({ lineWidth: 0, flowCollectionPadding: false });
}
