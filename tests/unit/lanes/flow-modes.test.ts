import test from 'ava';
import fc from 'fast-check';
import { encodeFlowModes, MAX_FLOW_MODES, parseFlowModes } from '../../../src/core/lanes/flow-modes.js';

test('wishes for single connections come out as they went in', (t) => {
  const modes = [
    { token: 0xffff_ffff, scheduler: 'interactive' },
    { token: 0, scheduler: '' },
  ];
  t.deepEqual(parseFlowModes(encodeFlowModes(modes)), modes);
  const many = Array.from({ length: MAX_FLOW_MODES + 1 }, (_, token) => ({ token, scheduler: 'a' }));
  t.is(parseFlowModes(encodeFlowModes(many))?.length, MAX_FLOW_MODES);
});

test('any bytes are a message or null', (t) => {
  t.is(parseFlowModes(new Uint8Array([2])), null);
  t.is(parseFlowModes(new Uint8Array([1, 0, 0, 0, 0])), null);
  t.is(parseFlowModes(new Uint8Array([1, 0, 0, 0, 0, 1, 7])), null, 'no control characters');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (b) => {
      const modes = parseFlowModes(b);
      return modes === null || modes.every((m) => m.scheduler.length <= 32 && m.token >= 0);
    }),
  );
});
