/** The SACK option of one ACK: the DSACK block, if it starts with one (RFC 2883 4), then what arrived (RFC 2018 3, 5). */
import { unwrap32 } from '../base/seq.js';
import type { SegmentView } from '../wire/segment.js';
import type { Scoreboard } from './scoreboard.js';

export class SackBlocks {
  /** Edges of the DSACK block, relative; -1: none. */
  dsackLeft = -1;
  dsackEnd = -1;

  /** Looks for a DSACK block: below the cumulative ACK, or within the second block (RFC 2883 4.1, 4.2). */
  findDsack(seg: SegmentView, iss: number, ack: number): boolean {
    this.dsackLeft = -1;
    this.dsackEnd = -1;
    const left0 = unwrap32(seg.sackLeft[0]!, iss, ack);
    const right0 = unwrap32(seg.sackRight[0]!, iss, ack);
    let isDsack = right0 <= ack;
    if (!isDsack && seg.sackCount > 1) {
      const left1 = unwrap32(seg.sackLeft[1]!, iss, ack);
      const right1 = unwrap32(seg.sackRight[1]!, iss, ack);
      isDsack = left0 >= left1 && right0 <= right1;
    }
    if (!isDsack || left0 >= right0) return false;
    this.dsackLeft = left0;
    this.dsackEnd = right0;
    return true;
  }

  /** Marks the other blocks, lowest first: several new ones in one ACK are lost ACKs, not reordering. */
  mark(seg: SegmentView, iss: number, ack: number, sndNxt: number, board: Scoreboard): void {
    const first = this.dsackEnd < 0 ? 0 : 1;
    let floor = ack;
    for (let done = first; done < seg.sackCount; done++) {
      let left = -1;
      let right = -1;
      for (let i = first; i < seg.sackCount; i++) {
        const l = Math.max(unwrap32(seg.sackLeft[i]!, iss, ack), floor);
        const r = unwrap32(seg.sackRight[i]!, iss, ack);
        if (l < r && r <= sndNxt && (left < 0 || l < left)) {
          left = l;
          right = r;
        }
      }
      if (left < 0) break;
      board.sack(left, right);
      floor = right;
    }
  }
}
