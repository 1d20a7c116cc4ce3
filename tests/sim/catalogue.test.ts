/** The handover catalogue in virtual time: every case is survived, within its budgets (src/sim/catalogue). */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { catalogue } from '../../src/sim/catalogue/cases.js';
import { playCase } from '../../src/sim/catalogue/play.js';
import { parseTrace } from '../../src/sim/trace.js';
import { report, simulate } from '../support/sim-run.js';

const trace = (way: string) => parseTrace(readFileSync(`tests/fixtures/traces/lte-driving-a.${way}`, 'utf8'));

const ms = (us: number) => (us / 1000).toFixed(0);

for (const c of catalogue({ lteDriving: { up: trace('up'), down: trace('down') } }))
  test(c.name, (t) => {
    const { result, alone, ofBestLink, backInUseUs, broken } = playCase(c, 1, simulate);
    const { longestGapUs, goodputBps } = result.traffic[0]!;
    const back = backInUseUs.map((us) => (us === null ? 'never' : ms(us))).join(', ');
    t.log(
      `${(goodputBps / 1e6).toFixed(1)} Mbit/s, ${ofBestLink.toFixed(2)} of the best link alone` +
        ` (${alone.map((r) => (r.traffic[0]!.goodputBps / 1e6).toFixed(1)).join(', ')}),` +
        ` longest gap ${ms(longestGapUs)} ms${back === '' ? '' : `, back in use after ${back} ms`}`,
    );
    if (broken.length > 0) t.fail(report(t, result, broken));
    else t.pass();
  });
