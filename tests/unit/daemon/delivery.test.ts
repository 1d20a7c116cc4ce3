/** Silences in what was delivered. */
import test from 'ava';
import { DeliveryTrack } from '../../../src/daemon/delivery.js';

const MS = 1_000;

/** Data every `stepMs` in [fromMs, toMs]. */
function steady(track: DeliveryTrack, fromMs: number, toMs: number, stepMs = 10, bytes = 10_000): void {
  for (let ms = fromMs; ms <= toMs; ms += stepMs) track.delivered(ms * MS, bytes);
}

test('a silence that interrupts steady data is measured to the microsecond', (t) => {
  const track = new DeliveryTrack();
  steady(track, 0, 1000);
  t.true(track.isSilent(1234 * MS));
  track.delivered(1_234_567, 10_000);
  t.is(track.longestSilenceUs(900 * MS, 2000 * MS), 234_567);
});

test('the longest that began in the window counts, and no other', (t) => {
  const track = new DeliveryTrack();
  steady(track, 0, 1000);
  steady(track, 1300, 2000);
  steady(track, 2080, 3000);
  t.is(track.longestSilenceUs(0, 3000 * MS), 300 * MS);
  t.is(track.longestSilenceUs(1001 * MS, 3000 * MS), 80 * MS);
  t.is(track.longestSilenceUs(1900 * MS, 2000 * MS), 10 * MS, 'the end of the window is not in it');
});

test('data without pauses has a gap of 0', (t) => {
  const track = new DeliveryTrack();
  steady(track, 0, 1000, 2);
  t.is(track.longestSilenceUs(500 * MS, 1000 * MS), 0);
});

test('where nothing was due there is no gap: before any data, after single packets, and when nothing has come since', (t) => {
  const track = new DeliveryTrack();
  t.is(track.longestSilenceUs(0, 1000 * MS), null);
  for (let s = 1; s <= 5; s++) track.delivered(s * 1000 * MS, 10_000);
  t.false(track.isSilent(5_500 * MS));
  t.is(track.longestSilenceUs(0, 6000 * MS), null);
  steady(track, 6000, 7000);
  t.is(track.longestSilenceUs(7001 * MS, 9000 * MS), null, 'the transfer ended before');
});

test('voice (50 packets a second) counts as steady', (t) => {
  const track = new DeliveryTrack();
  steady(track, 0, 1000, 20);
  steady(track, 1150, 2000, 20);
  t.is(track.longestSilenceUs(900 * MS, 2000 * MS), 150 * MS);
});

test('a ping does not end the silence of a download, but that of a call does end by its own small packets', (t) => {
  const download = new DeliveryTrack();
  steady(download, 0, 2000);
  for (let ms = 2_050; ms < 2_400; ms += 100) download.delivered(ms * MS, 84);
  steady(download, 2400, 3000);
  t.is(download.longestSilenceUs(1900 * MS, 3000 * MS), 400 * MS);
  const call = new DeliveryTrack();
  steady(call, 0, 2000, 20, 200);
  steady(call, 2100, 3000, 20, 200);
  t.is(call.longestSilenceUs(1900 * MS, 3000 * MS), 100 * MS);
});
