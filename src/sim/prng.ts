/**
 * Seeded luck: xoshiro128** (Blackman and Vigna), its state filled by splitmix32. Not for secrets. One generator per
 * purpose (`fork`), so that one more draw in one place does not shift the luck of every other.
 */
export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(readonly seed: number) {
    let state = seed >>> 0;
    const splitmix = () => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.a = splitmix();
    this.b = splitmix();
    this.c = splitmix();
    this.d = splitmix() | 1; // never all zero
  }

  /** Uniform unsigned 32-bit integer. */
  u32(): number {
    const x = Math.imul(this.b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result;
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.u32() / 0x1_0000_0000;
  }

  /** Uniform integer in [0, below), `below` >= 1 (bias below 2^-32 * below: irrelevant here). */
  below(below: number): number {
    return Math.floor(this.unit() * below);
  }

  /** True with probability p. Draws nothing for p <= 0, so an unused feature does not change the luck of others. */
  chance(p: number): boolean {
    return p > 0 && this.unit() < p;
  }

  fill(out: Uint8Array): void {
    for (let i = 0; i < out.length; i++) out[i] = this.u32() >>> 24;
  }

  /** An independent generator for purpose number `salt`. */
  fork(salt: number): Prng {
    return new Prng((Math.imul(this.seed ^ 0x5bd1e995, 0x27d4eb2d) ^ Math.imul(salt + 1, 0x85ebca6b)) >>> 0);
  }
}
