/** What the manager has to say, until the driver fetches it. */
import type { PathCommand, PathTransition } from './types.js';

/** The driver drains both after every call; if it does not, the oldest go. */
const MAX_COMMANDS = 1024;
const MAX_TRANSITIONS = 256;

export class Outbox {
  readonly #commands: PathCommand[] = [];
  readonly #transitions: PathTransition[] = [];

  order(command: PathCommand): void {
    if (this.#commands.length >= MAX_COMMANDS) this.#commands.shift();
    this.#commands.push(command);
  }

  note(transition: PathTransition): void {
    if (this.#transitions.length >= MAX_TRANSITIONS) this.#transitions.shift();
    this.#transitions.push(transition);
  }

  nextCommand(): PathCommand | undefined {
    return this.#commands.shift();
  }

  nextTransition(): PathTransition | undefined {
    return this.#transitions.shift();
  }
}
