export { BitFlipper, Duplicator, Reorderer } from './disorder.js';
export { PayloadEditor, ProxyAcker, RstInjector } from './meddle.js';
export {
  OPTION_MPTCP,
  OPTION_SACK,
  OPTION_SACK_PERMITTED,
  OPTION_TIMESTAMPS,
  OptionFilter,
} from './options.js';
export { Coalescer, Splitter } from './resegment.js';
export { IsnRewriter, Nat } from './rewrite.js';
