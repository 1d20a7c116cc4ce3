import test from 'ava';
import { FlowClassifier } from '../../../src/daemon/flows/classify.js';
import { steeringOf } from '../../../src/daemon/flows/steering.js';

const MS = 1_000;

/** Looked at every 100 ms while it carries `bytesPerS`. */
class Run {
  nowUs = 1_000_000;
  bytes = 0;
  readonly classifier = new FlowClassifier(this.nowUs);

  carry(bytesPerS: number, forMs: number): string {
    for (let ms = 0; ms < forMs; ms += 100) {
      this.nowUs += 100 * MS;
      this.bytes += bytesPerS / 10;
      this.classifier.sample(this.nowUs, this.bytes);
    }
    return this.classifier.class;
  }
}

test('a terminal session and a call stay interactive for an hour', (t) => {
  t.is(new Run().carry(400, 3_600_000), 'interactive');
  t.is(new Run().carry(12_000, 3_600_000), 'interactive');
});

test('a request with 100 KB of answer is interactive, a download is bulk within half a second', (t) => {
  const page = new Run();
  t.is(page.carry(1_000_000, 100), 'interactive');
  t.is(page.carry(0, 2_000), 'interactive');
  const download = new Run();
  t.is(download.carry(1_000_000, 500), 'bulk');
});

test('a transfer that pauses for a moment stays bulk; one that is over becomes interactive', (t) => {
  const run = new Run();
  t.is(run.carry(2_000_000, 1_000), 'bulk');
  t.is(run.carry(0, 2_500), 'bulk');
  t.is(run.carry(2_000_000, 500), 'bulk');
  t.is(run.carry(0, 3_500), 'interactive');
  t.is(run.carry(2_000, 60_000), 'interactive', 'whatever it carried before');
  t.is(run.carry(2_000_000, 500), 'bulk');
});

test('mode auto by class; the other modes whatever the class', (t) => {
  t.deepEqual(steeringOf('auto', 'interactive', 0, 'adaptive'), {
    scheduler: 'interactive',
    sparesMetered: false,
    isOnePath: false,
  });
  t.deepEqual(steeringOf('auto', 'bulk', 0, 'adaptive'), {
    scheduler: 'patient',
    sparesMetered: true,
    isOnePath: false,
  });
  t.like(steeringOf('aggregate', 'interactive', 0, 'adaptive'), { scheduler: 'patient' }, 'rate is what was asked for');
  t.like(steeringOf('aggregate', 'bulk', 0, 'blest'), { scheduler: 'blest', sparesMetered: false });
  t.like(steeringOf('interactive', 'bulk', 0, 'blest'), { scheduler: 'interactive' });
  t.like(steeringOf('handover', 'bulk', 0, 'blest'), { scheduler: 'min-rtt', isOnePath: true });
  t.like(steeringOf('redundant', 'interactive', 0, 'blest'), { scheduler: 'redundant' });
});

test('copies are sent while the budget lasts, and only where somebody waits', (t) => {
  t.is(steeringOf('auto', 'interactive', 1, 'adaptive').scheduler, 'redundant');
  t.is(steeringOf('interactive', 'bulk', 1, 'adaptive').scheduler, 'redundant');
  t.is(steeringOf('auto', 'bulk', 1, 'adaptive').scheduler, 'patient');
  t.is(steeringOf('interactive', 'interactive', 0, 'adaptive').scheduler, 'interactive');
});
