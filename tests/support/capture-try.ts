import { compare } from './capture-compare.js';
import { play, scriptOf } from './capture-player.js';
import { statements } from './capture-says.js';
import { describeScript } from './capture-script.js';
import { readTrace } from './capture-trace.js';
import { captureNames } from './vectors.js';
const want = process.argv.slice(2);
for (const name of captureNames().filter((n) => !n.endsWith('.delivered'))) {
  if (want.length > 0 && !want.some((w) => name.startsWith(w))) continue;
  for (const end of ['A', 'B'] as const) {
    try {
      const trace = readTrace(name, end);
      const script = scriptOf(trace);
      const played = play(trace, script, {});
      const kernel = statements(trace, trace.own, played.kernelMarks);
      const ours = statements(trace, played.sent, played.marks);
      console.log(`== ${name} ${end} [${describeScript(script)}] strays ${played.strays}`);
      if (process.env['V']) for (const [k, v] of kernel) console.log(`     ${k}: ${v}`);
      for (const s of played.stuck) console.log(`   STUCK ${s}`);
      for (const d of compare(kernel, ours)) console.log(`   ${d.what}\n        kernel: ${d.kernel}\n        ours:   ${d.ours}`);
    } catch (e) {
      console.log(`== ${name} ${end} THROWS ${(e as Error).stack?.split('\n').slice(0,4).join(' | ')}`);
    }
  }
}
