/**
 * Largest value of a sliding window, from three samples (best, second, third best in that order of age), after Kathleen
 * Nichols' algorithm: constant memory, exact while the maximum is fresh, and never older than the window.
 */
export class MaxFilter {
  readonly #windowLength: number;
  #v0 = 0;
  #t0 = 0;
  #v1 = 0;
  #t1 = 0;
  #v2 = 0;
  #t2 = 0;

  /** The window is in the units of `update`'s time argument (rounds, microseconds). */
  constructor(windowLength: number) {
    this.#windowLength = windowLength;
  }

  get max(): number {
    return this.#v0;
  }

  reset(time: number, value: number): void {
    this.#v0 = this.#v1 = this.#v2 = value;
    this.#t0 = this.#t1 = this.#t2 = time;
  }

  update(time: number, value: number): void {
    if (value >= this.#v0 || time - this.#t2 > this.#windowLength) {
      this.reset(time, value);
      return;
    }
    if (value >= this.#v1) {
      this.#v1 = this.#v2 = value;
      this.#t1 = this.#t2 = time;
    } else if (value >= this.#v2) {
      this.#v2 = value;
      this.#t2 = time;
    }
    this.#age(time, value);
  }

  #age(time: number, value: number): void {
    const age = time - this.#t0;
    if (age > this.#windowLength) {
      this.#promote();
      this.#v2 = value;
      this.#t2 = time;
      if (time - this.#t0 > this.#windowLength) {
        this.#promote();
        this.#v2 = value;
        this.#t2 = time;
      }
    } else if (this.#t1 === this.#t0 && age > this.#windowLength / 4) {
      // A quarter of the window without a better second: take one from the second quarter, later one from the last half.
      this.#v1 = this.#v2 = value;
      this.#t1 = this.#t2 = time;
    } else if (this.#t2 === this.#t1 && age > this.#windowLength / 2) {
      this.#v2 = value;
      this.#t2 = time;
    }
  }

  #promote(): void {
    this.#v0 = this.#v1;
    this.#t0 = this.#t1;
    this.#v1 = this.#v2;
    this.#t1 = this.#t2;
  }
}
