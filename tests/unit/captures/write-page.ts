/** Writes docs/captures.md from what the plays give. */
import { writeFileSync } from 'node:fs';
import { capturesPage } from '../../support/capture-page.js';
import { playAll } from '../../support/capture-plays.js';
import { DIFFERENCES, REASONS } from './differences.js';

const page = new URL('../../../../docs/captures.md', import.meta.url);
writeFileSync(page, capturesPage(playAll(), DIFFERENCES, REASONS));
